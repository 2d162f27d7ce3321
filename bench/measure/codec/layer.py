"""One shared layer to bytes and back: its codebook, where its weights are, which values they have.

In this order: the codebook in float32, little-endian; tables and codes of the positions; tables and
codes of the values. Fixed positions are followed by a bit for each code of the longest step: 1 for a
filler.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.measure.codec.bits import Symbols, octets
from bench.measure.codec.header import Coding, PositionCoding, SharedRecord, value_width
from bench.measure.codec.reading import CodecError, Reader, damaged, varint
from bench.measure.codec.relative_index import (
    NARROWEST,
    WIDEST,
    Positions,
    codes,
    entries,
    gaps_of,
    least_bytes,
    positions_of,
)
from bench.measure.codec.shared_weights import Shared
from bench.measure.codec.stream import Coded, fixed, huffman, read_fixed, read_huffman

IndexBits = int | Literal["best"]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LayerBytes:
    """The cost of one tensor in a file, in bytes.

    Attributes:
        name: of the tensor; empty for what belongs to the file as a whole.
        header: its name, shape and how it is written; of the file: what it is, and the facts.
        positions: where its kept weights are, fillers included.
        values: which value each of them has.
        codebook: the values.
        tables: what decodes the Huffman codes.
        raw: a tensor as it is.
        checksum: of the file.
    """

    name: str
    header: int = 0
    positions: int = 0
    values: int = 0
    codebook: int = 0
    tables: int = 0
    raw: int = 0
    checksum: int = 0

    @property
    def total(self) -> int:
        parts = (self.header, self.positions, self.values, self.codebook, self.tables)
        return sum(parts) + self.raw + self.checksum


@dataclass(frozen=True)
class WrittenLayer:
    """A layer's record and bytes, and how many weights it claims that no entry pays for."""

    record: SharedRecord
    payload: bytes
    unpaid: int


@dataclass(frozen=True)
class _Located:
    """One way to write positions."""

    positions: PositionCoding
    coding: Coding
    coded: Coded
    index_bits: int
    entries: int = 0
    unpaid: int = 0

    @property
    def cost_bytes(self) -> int:
        return len(self.coded) + (len(varint(self.entries)) if self.positions == "relative" else 0)


def write_layer(
    name: str, shared: Shared, index_bits: IndexBits, entropy: Coding, budget: int
) -> WrittenLayer:
    """Write a layer the shortest way.

    Args:
        index_bits: 1 to 16, or "best": what takes the fewest bits.
        budget: how many weights may follow the last kept one without an entry that pays for them.

    Raises:
        CodecError: the layer is not sound.
    """
    if index_bits != "best" and not NARROWEST <= index_bits <= WIDEST:
        raise CodecError(
            f"Layer {name!r} cannot have {index_bits} index bits; they go from {NARROWEST} to "
            f"{WIDEST}, or are 'best'"
        )
    positions, symbols = shared.kept(name)
    size = shared.mask.numel()
    gaps, unpaid = _gaps_to_write(positions, size, budget)
    if len(positions) == size:
        width = NARROWEST if index_bits == "best" else index_bits
        located = _Located("all", "fixed", Coded(b"", b""), width)
    else:
        mask = shared.mask.detach().cpu().reshape(-1).numpy()
        find = _best if index_bits == "best" else partial(_shortest, index_bits=index_bits)
        located = find(gaps, mask, entropy, unpaid)
    k = len(shared.codebook)
    value_coding, values = _write_values(symbols, k, entropy)
    book = shared.codebook.detach().cpu().numpy().astype("<f4").tobytes()
    parts = (book, located.coded.tables, located.coded.codes, values.tables, values.codes)
    record = SharedRecord(
        name, tuple(shared.shape), located.positions, located.coding, value_coding,
        located.index_bits, k, len(positions), located.entries,
    )  # fmt: skip
    return WrittenLayer(record, b"".join(parts), located.unpaid)


def _gaps_to_write(positions: Positions, size: int, budget: int) -> tuple[Positions, int]:
    """Return the gaps, and how many weights behind the last kept one remain unpaid.

    Where these are too many, an entry for the place behind the last weight pays for them.
    """
    tail = size - 1 - (int(positions[-1]) if len(positions) else -1)
    if tail <= budget:
        return gaps_of(positions), tail
    return gaps_of(np.append(positions, size)), 0


def _best(gaps: Positions, mask: Mask, entropy: Coding, unpaid: int) -> _Located:
    """Return the shortest way with any index width."""
    least = sorted(
        (least_bytes(gaps, bits, entropy == "huffman"), bits)
        for bits in range(NARROWEST, WIDEST + 1)
    )
    best = _shortest(gaps, mask, entropy, unpaid, least[0][1])
    for least_cost, bits in least[1:]:
        if least_cost >= best.cost_bytes:
            break
        best = min(
            best, _shortest(gaps, mask, entropy, unpaid, bits), key=lambda way: way.cost_bytes
        )
    return best


def _shortest(
    gaps: Positions, mask: Mask, entropy: Coding, unpaid: int, index_bits: int
) -> _Located:
    """Return the shortest way to say where weights are, the first of several."""
    symbols = entries(gaps, index_bits)
    n, last = len(symbols), (1 << index_bits) - 1
    is_longest = symbols >= last
    plain_bytes = octets(n * index_bits) + octets(int(np.count_nonzero(is_longest)))
    bitmap_bytes = octets(len(mask))
    coded = huffman(symbols, last + 2) if entropy == "huffman" else None
    if coded is not None and len(coded) < plain_bytes:
        relative = _Located("relative", "huffman", coded, index_bits, n, unpaid)
    else:
        plain = fixed(codes(symbols, index_bits), index_bits)
        # A filler has the code of the longest step; a bit for each of these says which it is.
        flags = np.packbits(symbols[is_longest] > last).tobytes()
        plain = replace(plain, codes=plain.codes + flags)
        relative = _Located("relative", "fixed", plain, index_bits, n, unpaid)
    if relative.cost_bytes <= bitmap_bytes:
        return relative
    return _Located("bitmap", "fixed", Coded(b"", np.packbits(mask).tobytes()), index_bits)


def _write_values(symbols: Symbols, k: int, entropy: Coding) -> tuple[Coding, Coded]:
    coded = huffman(symbols, k) if entropy == "huffman" else None
    width = value_width(k)
    if coded is None or octets(len(symbols) * width) <= len(coded):
        return "fixed", fixed(symbols, width)
    return "huffman", coded


@dataclass(frozen=True)
class ReadLayer:
    """A layer as it was read, before anything of the size that it claims is made.

    Attributes:
        codebook: (k,) float32.
        positions: (kept,), or None where every weight was kept.
        symbols: (kept,), each below k.
        unpaid: weights behind the last kept one that no entry pays for.
    """

    record: SharedRecord
    codebook: npt.NDArray[np.float32]
    positions: Positions | None
    symbols: Symbols
    unpaid: int

    def shared(self) -> tuple[Shared, Tensor]:
        """Return the layer and its dense weights."""
        record = self.record
        # In numpy, and once each: dense weights of a large network are most of the memory.
        weights = np.zeros(record.size, np.float32)
        assignment = np.zeros(record.size, str(record.index_dtype).removeprefix("torch."))
        mask = np.zeros(record.size, np.bool_)
        where = slice(None) if self.positions is None else self.positions
        weights[where] = self.codebook[self.symbols]
        assignment[where] = self.symbols
        mask[where] = True
        tensors = [torch.from_numpy(a).reshape(record.shape) for a in (assignment, mask, weights)]
        codebook = torch.from_numpy(self.codebook)
        return Shared(record.shape, codebook, tensors[0], tensors[1]), tensors[2]


def read_layer(reader: Reader, record: SharedRecord) -> tuple[ReadLayer, LayerBytes]:
    """Read what `write_layer` wrote.

    Raises:
        CodecError: it is nothing that `write_layer` writes.
    """
    book = reader.take(4 * record.k, "a codebook").tobytes()
    codebook = np.frombuffer(book, "<f4").astype(np.float32)
    before = reader.position
    positions, tables, unpaid = _read_positions(reader, record)
    position_bytes = reader.position - before - tables
    before = reader.position
    symbols, value_tables = _read_values(reader, record)
    value_bytes = reader.position - before - value_tables
    cost = LayerBytes(
        record.name, positions=position_bytes, values=value_bytes, codebook=4 * record.k,
        tables=tables + value_tables,
    )  # fmt: skip
    return ReadLayer(record, codebook, positions, symbols, unpaid), cost


def _read_positions(reader: Reader, record: SharedRecord) -> tuple[Positions | None, int, int]:
    """Return the positions, the bytes of tables, and how many weights are unpaid."""
    if record.positions == "all":
        return None, 0, 0
    if record.positions == "bitmap":
        bits = np.unpackbits(reader.bits(record.size, "a bitmap"), count=record.size)
        positions = np.flatnonzero(bits).astype(np.int64)
        if len(positions) != record.kept:
            raise damaged("a bitmap does not have as many weights as were kept")
        return positions, 0, 0
    symbols, tables = _read_gaps(reader, record)
    if len(symbols) and int(symbols[-1]) >> record.index_bits:
        raise damaged("positions end in a filler")
    positions = positions_of(symbols, record.index_bits)
    last = int(positions[-1]) if len(positions) else -1
    ends = last == record.size
    if last > record.size or len(positions) != record.kept + ends:
        raise damaged("positions are not as many as the kept weights, or lie outside the layer")
    return (positions[:-1], tables, 0) if ends else (positions, tables, record.size - 1 - last)


def _read_gaps(reader: Reader, record: SharedRecord) -> tuple[Symbols, int]:
    n, index_bits = record.entries, record.index_bits
    if record.gaps == "huffman":
        return read_huffman(reader, n, (1 << index_bits) + 1, "positions")
    symbols = read_fixed(reader, n, index_bits, "positions")
    longest = np.flatnonzero(symbols == (1 << index_bits) - 1)
    flags = np.unpackbits(reader.bits(len(longest), "fillers"), count=len(longest))
    symbols[longest] += flags
    return symbols, 0


def _read_values(reader: Reader, record: SharedRecord) -> tuple[Symbols, int]:
    if record.values == "huffman":
        return read_huffman(reader, record.kept, record.k, "values")
    symbols = read_fixed(reader, record.kept, value_width(record.k), "values")
    if len(symbols) and int(symbols.max()) >= record.k:
        raise damaged("a weight has a value outside its codebook")
    return symbols, 0
