"""A compressed network as one string of bytes: everything it needs, and a checksum over all of it.

    magic, version, flags | facts | number of tensors, a record each | their bytes | checksum

There is no pickle. A checksum only finds accidents, so nothing relies on it: every length is checked
before anything of that length is made, every index before it is used. What a layer claims must be
paid for. An entry says that there are up to 2 ** index_bits weights up to it, a bitmap and a layer
without positions have a bit for every weight; weights behind the last entry cost nothing, and of
these a file may have `UNPAID_WEIGHTS`. More of them are written with fillers. What a file may become
in memory is limited by `max_bytes`, whatever paid for it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from bench.measure.codec.header import (
    CODINGS,
    DTYPES,
    MOST_TENSORS,
    Coding,
    PlainRecord,
    TensorRecord,
    read_record,
    written,
)
from bench.measure.codec.layer import IndexBits, LayerBytes, ReadLayer, read_layer, write_layer
from bench.measure.codec.reading import CodecError, Reader, damaged, reader_of, varint
from bench.measure.codec.shared_weights import Shared

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | Mapping[str, JSON]"
Entropy: TypeAlias = Coding

MAGIC, VERSION = b"PBDC", 1
CHECKSUM_BYTES = 8  # of a SHA-256
MOST_FACTS_BYTES = 1 << 20
UNPAID_WEIGHTS = 6_000_000  # of a whole file: 24 MB of zeros in float32


@dataclass(frozen=True)
class Decoded:
    """The contents of a file.

    Attributes:
        tensors: every tensor by name, in the file's order; shared layers dense.
        shared: the shared layers among them.
        facts: what was written beside them.
        index_bits: of the shared layers.
        entropy: how the file was written.
    """

    tensors: dict[str, Tensor]
    shared: dict[str, Shared]
    facts: dict[str, JSON]
    index_bits: dict[str, int]
    entropy: Entropy

    @property
    def content(self) -> dict[str, Tensor | Shared]:
        """The content from which `encode` makes the same file, with these facts, index bits and entropy."""
        return {**self.tensors, **self.shared}


def encode(
    tensors: Mapping[str, Tensor | Shared],
    *,
    facts: Mapping[str, JSON],
    index_bits: IndexBits | Mapping[str, IndexBits],
    entropy: Entropy,
) -> bytes:
    """Write tensors, in the order they are given; the same ones always give the same bytes.

    Args:
        tensors: whole tensors are stored as they are; shared layers by codebook and positions.
        facts: anything JSON can say; the keys are sorted.
        index_bits: width of a relative position, 1 to 16, or "best"; one for all, or by name.
        entropy: "fixed": every symbol of a stream has the same width (the paper's stages pruning
            and sharing); "huffman": the shorter of that and a Huffman code, for each stream.

    Raises:
        CodecError: something cannot be written.
    """
    if entropy not in CODINGS:
        raise CodecError(f"Entropy coding {entropy!r} is unknown; it is 'fixed' or 'huffman'")
    if len(tensors) > MOST_TENSORS:
        raise CodecError(f"{len(tensors)} tensors are too many; a file holds {MOST_TENSORS}")
    records, payloads = [], []
    budget = UNPAID_WEIGHTS
    for name, tensor in tensors.items():
        if isinstance(tensor, Shared):
            layer = write_layer(name, tensor, _index_bits(name, index_bits), entropy, budget)
            budget -= layer.unpaid
            records.append(written(layer.record))
            payloads.append(layer.payload)
        else:
            record, payload = _write_plain(name, tensor)
            records.append(written(record))
            payloads.append(payload)
    start = MAGIC + bytes([VERSION, CODINGS.index(entropy)]) + _facts_bytes(facts)
    data = b"".join([start, varint(len(records)), *records, *payloads])
    return data + checksum(data)


def checksum(data: bytes) -> bytes:
    """Return the last bytes of a file, by the bytes before."""
    return hashlib.sha256(data).digest()[:CHECKSUM_BYTES]


def decode(data: bytes, *, max_bytes: int = 2**31) -> Decoded:
    """Read a file.

    Args:
        max_bytes: what all tensors, with the masks and assignments of shared layers, may take up in
            memory; give less for a file of unknown origin.

    Raises:
        CodecError: it is not a sound file, or would be larger than that.
    """
    file = _open(data)
    needed = sum(record.decoded_bytes for record in file.records)
    if needed > max_bytes:
        raise CodecError(
            f"The compressed file would take {needed:,} bytes in memory, and {max_bytes:,} are "
            "allowed; if it comes from where it should, allow more"
        )
    tensors: dict[str, Tensor] = {}
    shared: dict[str, Shared] = {}
    index_bits: dict[str, int] = {}
    for part, _ in _parts(file):
        if isinstance(part, ReadLayer):
            name = part.record.name
            shared[name], tensors[name] = part.shared()
            index_bits[name] = part.record.index_bits
        else:
            tensors[part.record.name] = part.tensor()
    return Decoded(tensors, shared, file.facts, index_bits, file.entropy)


def sizes(data: bytes) -> list[LayerBytes]:
    """Return what each tensor of a file costs, and last, under no name, what the file itself does.

    The totals add up to the length of the file.

    Raises:
        CodecError: it is not a sound file.
    """
    file = _open(data)
    costs = [
        replace(cost, header=len(written(record)))
        for record, (_, cost) in zip(file.records, _parts(file), strict=True)
    ]
    of_file = len(data) - sum(cost.total for cost in costs) - CHECKSUM_BYTES
    return [*costs, LayerBytes("", header=of_file, checksum=CHECKSUM_BYTES)]


@dataclass(frozen=True)
class _File:
    """A file whose header was read; the reader stands before the first tensor's bytes."""

    facts: dict[str, JSON]
    entropy: Entropy
    records: list[TensorRecord]
    reader: Reader


@dataclass(frozen=True)
class _Plain:
    """A plain tensor's bytes."""

    record: PlainRecord
    content: bytes

    def tensor(self) -> Tensor:
        if not self.content:
            return torch.empty(self.record.shape, dtype=self.record.dtype)
        flat = torch.from_numpy(np.frombuffer(self.content, np.uint8).copy())
        return flat.view(self.record.dtype).reshape(self.record.shape)


def _open(data: bytes) -> _File:
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + 2 + CHECKSUM_BYTES:
        raise damaged("it does not begin as such a file does")
    if data[len(MAGIC)] != VERSION:
        raise CodecError(
            f"The compressed file has format {data[len(MAGIC)]}, and this version reads {VERSION}; "
            "read it with the version of prunebench that wrote it"
        )
    content = data[:-CHECKSUM_BYTES]
    if checksum(content) != data[-CHECKSUM_BYTES:]:
        raise damaged("its content does not match its checksum")
    reader = reader_of(content)
    reader.take(len(MAGIC) + 1, "the start")
    flags = reader.octet("the start")
    if flags >= len(CODINGS):
        raise damaged("its flags are unknown")
    facts = _read_facts(reader)
    n = reader.number(MOST_TENSORS, "the number of tensors")
    records = [read_record(reader) for _ in range(n)]
    if len({record.name for record in records}) < n:
        raise damaged("two tensors have one name")
    return _File(facts, CODINGS[flags], records, reader)


def _parts(file: _File) -> Iterator[tuple[ReadLayer | _Plain, LayerBytes]]:
    """Read the tensors one after the other."""
    budget = UNPAID_WEIGHTS
    for record in file.records:
        if isinstance(record, PlainRecord):
            content = file.reader.take(record.n_bytes, "a tensor")
            if record.dtype is torch.bool and content.size and int(content.max()) > 1:
                raise damaged("a bool is neither 0 nor 1")
            yield _Plain(record, content.tobytes()), LayerBytes(record.name, raw=len(content))
            continue
        layer, cost = read_layer(file.reader, record)
        budget -= layer.unpaid
        if budget < 0:
            raise damaged("it claims more weights than its bytes can stand for")
        yield layer, cost
    if file.reader.left:
        raise damaged("bytes follow its last tensor")


def _write_plain(name: str, tensor: Tensor) -> tuple[PlainRecord, bytes]:
    if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
        raise CodecError(
            f"Tensor {name!r} of {tensor.dtype} cannot be written; dense tensors of float, int, "
            "uint8 and bool can"
        )
    record = PlainRecord(name, tuple(tensor.shape), tensor.dtype)
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return record, flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _index_bits(name: str, given: IndexBits | Mapping[str, IndexBits]) -> IndexBits:
    if not isinstance(given, Mapping):
        return given
    if name not in given:
        raise CodecError(f"No index bits were given for layer {name!r}; name it, or say 'best'")
    return given[name]


def _facts_bytes(facts: Mapping[str, JSON]) -> bytes:
    try:
        text = _canonical(dict(facts))
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(
            f"The facts cannot be written as JSON ({error}); use plain values"
        ) from error
    if len(text) > MOST_FACTS_BYTES:
        raise CodecError(f"The facts take {len(text):,} bytes; {MOST_FACTS_BYTES:,} are allowed")
    return varint(len(text)) + text


def _read_facts(reader: Reader) -> dict[str, JSON]:
    length = reader.number(MOST_FACTS_BYTES, "the length of the facts")
    text = reader.text(length, "the facts")
    try:
        facts = json.loads(text)
        # One spelling only: this refuses what JSON readers differ on, as two keys of one name.
        is_ours = isinstance(facts, dict) and _canonical(facts) == text.encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise damaged("its facts are not JSON") from error
    if not is_ours:
        raise damaged("its facts are not written as they should be")
    return {str(key): value for key, value in facts.items()}


def _canonical(facts: dict[str, JSON]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
