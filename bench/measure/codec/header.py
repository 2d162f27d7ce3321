"""The header of a file: names and shapes of its tensors, and how each is written."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from bench.measure.codec.reading import CodecError, Reader, damaged, varint
from bench.measure.codec.relative_index import NARROWEST, WIDEST
from bench.measure.codec.shared_weights import MOST_VALUES

PositionCoding = Literal["all", "relative", "bitmap"]
Coding = Literal["fixed", "huffman"]

MOST_TENSORS = 4096
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 40  # of one tensor; what may really be made is `max_bytes`
LONGEST_NAME = 1024  # bytes
SHARED = 128  # bit of the kind that tells a shared layer from a plain tensor

POSITION_CODINGS: tuple[PositionCoding, ...] = get_args(PositionCoding)
CODINGS: tuple[Coding, ...] = get_args(Coding)
DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


@dataclass(frozen=True)
class PlainRecord:
    """A tensor that is stored as it is."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def decoded_bytes(self) -> int:
        """Bytes in memory."""
        return self.n_bytes


@dataclass(frozen=True)
class SharedRecord:
    """A layer with a codebook.

    Attributes:
        positions: how positions are written: not at all (every weight was kept), relative to each
            other, or one bit per weight.
        gaps: how relative positions are coded.
        values: how the indices of values are coded.
        index_bits: width of a relative position; kept for other codings too, so that the layer can
            be written again as it was asked for.
        k: entries of the codebook.
        kept: weights that were not dropped.
        entries: relative positions, fillers and the end included.
    """

    name: str
    shape: tuple[int, ...]
    positions: PositionCoding
    gaps: Coding
    values: Coding
    index_bits: int
    k: int
    kept: int
    entries: int

    @property
    def size(self) -> int:
        """Weights, the dropped ones included."""
        return math.prod(self.shape)

    @property
    def index_dtype(self) -> torch.dtype:
        """The smallest integers that hold an index of a value."""
        if self.k <= 1 << 8:
            return torch.uint8
        return torch.int16 if self.k <= 1 << 15 else torch.int32

    @property
    def decoded_bytes(self) -> int:
        """Bytes in memory: weights, mask and assignment."""
        return self.size * (4 + 1 + self.index_dtype.itemsize) + 4 * self.k


TensorRecord = PlainRecord | SharedRecord


def value_width(k: int) -> int:
    """Return the bits of an index of k values; one value takes a bit too: every weight is paid for."""
    return max(1, (k - 1).bit_length())


def written(record: TensorRecord) -> bytes:
    """Return a record's bytes.

    Raises:
        CodecError: the name or the shape cannot be written.
    """
    name = record.name.encode("utf-8", "surrogatepass")
    if not 0 < len(name) <= LONGEST_NAME or not _is_text(name):
        raise CodecError(
            f"Tensor {record.name[:80]!r} cannot be written under this name; names are text of 1 "
            f"to {LONGEST_NAME} bytes"
        )
    if len(record.shape) > MOST_DIMENSIONS or _span(record.shape) > MOST_ELEMENTS:
        raise CodecError(
            f"Tensor {record.name!r} has the shape {record.shape}, which cannot be written; it may "
            f"have {MOST_DIMENSIONS} dimensions and 2 ** 40 elements"
        )
    start = varint(len(name)) + name
    shape = b"".join(varint(n) for n in (len(record.shape), *record.shape))
    if isinstance(record, PlainRecord):
        return start + bytes([DTYPES.index(record.dtype)]) + shape
    kind = SHARED | POSITION_CODINGS.index(record.positions) << 2
    kind |= CODINGS.index(record.gaps) << 1 | CODINGS.index(record.values)
    numbers = varint(record.k)
    if record.positions != "all":
        numbers += varint(record.kept)
    if record.positions == "relative":
        numbers += varint(record.entries)
    return start + bytes([kind]) + shape + bytes([record.index_bits]) + numbers


def read_record(reader: Reader) -> TensorRecord:
    """Read what `written` wrote.

    Raises:
        CodecError: it is nothing that `written` writes.
    """
    length = reader.number(LONGEST_NAME, "the length of a name")
    name = reader.text(length, "a name")
    if not name:
        raise damaged("a tensor has no name")
    kind = reader.octet("a kind")
    n_dimensions = reader.number(MOST_DIMENSIONS, "a number of dimensions")
    shape = tuple(reader.number(MOST_ELEMENTS, "a shape") for _ in range(n_dimensions))
    if _span(shape) > MOST_ELEMENTS:
        raise damaged("a tensor is larger than any can be")
    if kind < len(DTYPES):
        return PlainRecord(name, shape, DTYPES[kind])
    positions = kind >> 2 & 31
    if not kind & SHARED or positions >= len(POSITION_CODINGS):
        raise damaged("a tensor is of an unknown kind")
    return _read_shared(
        reader, name, shape, POSITION_CODINGS[positions], CODINGS[kind >> 1 & 1], CODINGS[kind & 1]
    )


def _read_shared(
    reader: Reader,
    name: str,
    shape: tuple[int, ...],
    positions: PositionCoding,
    gaps: Coding,
    values: Coding,
) -> SharedRecord:
    index_bits = reader.octet("an index width")
    if not NARROWEST <= index_bits <= WIDEST:
        raise damaged("an index width is none of 1 to 16 bits")
    if gaps == "huffman" and positions != "relative":
        raise damaged("a layer without relative positions has a code for them")
    size = math.prod(shape)
    k = reader.number(MOST_VALUES, "the length of a codebook")
    kept = size if positions == "all" else reader.number(size, "a number of kept weights")
    # An entry has a bit at least.
    most = 8 * len(reader.data)
    entries = reader.number(most, "a number of positions") if positions == "relative" else 0
    if positions == "relative" and entries < kept:
        raise damaged("a layer has fewer positions than kept weights")
    return SharedRecord(name, shape, positions, gaps, values, index_bits, k, kept, entries)


def _span(shape: tuple[int, ...]) -> int:
    """Count elements, an empty dimension as one: what strides are made of."""
    return math.prod(max(1, n) for n in shape)


def _is_text(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
