"""A stream of symbols on disk: all with one width, or with a Huffman code and what decodes it.

A Huffman stream is: the code lengths, four bits each; a varint, the bits of its shortest chunk; a
byte, the width of the surplus of each chunk over that, and these; then the codes. A chunk is 512
symbols, and each has its start in the file so that a reader may decode all at once; this one goes
through the codes in turn. A stream of fewer than 8192 symbols is one chunk.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.measure.codec.bits import Integers, Octets, Symbols, octets, pack, unpack
from bench.measure.codec.huffman import LONGEST, canonical_codes, code_lengths, decode_symbols
from bench.measure.codec.reading import Reader, damaged, varint

CHUNK = 512  # symbols
FEWEST_FOR_CHUNKS = 16 * CHUNK  # symbols; fewer are decoded quickly as they are
WIDEST_SURPLUS = (CHUNK * LONGEST).bit_length()
WIDTH_OF_LENGTH = 4


@dataclass(frozen=True)
class Coded:
    """A coded stream: the tables that decode it, and the codes."""

    tables: bytes
    codes: bytes

    def __len__(self) -> int:
        return len(self.tables) + len(self.codes)


def chunks(count: int) -> int:
    """Return the number of chunks of a Huffman stream."""
    return 1 if count < FEWEST_FOR_CHUNKS else (count + CHUNK - 1) // CHUNK


def fixed(symbols: Integers, width: int) -> Coded:
    """Write every symbol with the same width, in bits."""
    return Coded(b"", pack(symbols, np.array([width])))


def read_fixed(reader: Reader, count: int, width: int, what: str) -> Symbols:
    """Read symbols of one width, in bits.

    Raises:
        CodecError: the file is too short.
    """
    return unpack(reader.bits(count * width, what), count, width)


def can_huffman(counts: Integers) -> bool:
    """Say whether there is a code for the symbols that occur so often."""
    return 0 < int(np.count_nonzero(counts)) <= 1 << LONGEST


def least_huffman_bytes(counts: Integers) -> int:
    """Return the fewest bytes that `huffman` takes for symbols that occur so often."""
    n_bits = int((code_lengths(counts).astype(np.int64) * counts).sum())
    return octets(WIDTH_OF_LENGTH * len(counts)) + 2 + octets(n_bits)


def huffman(symbols: Symbols, alphabet: int) -> Coded | None:
    """Write symbols, (n,), each below `alphabet`, with their best code; None if there is none."""
    counts = np.bincount(symbols, minlength=alphabet)
    if not can_huffman(counts):
        return None
    lengths = code_lengths(counts)
    widths = lengths[symbols]
    chunk_bits = _bits_by_chunk(widths)
    shortest = int(chunk_bits.min())
    surplus = chunk_bits - shortest
    width = int(surplus.max()).bit_length()
    tables = pack(lengths, np.array([WIDTH_OF_LENGTH])) + varint(shortest) + bytes([width])
    return Coded(
        tables + pack(surplus, np.array([width])), pack(canonical_codes(lengths)[symbols], widths)
    )


def read_huffman(reader: Reader, count: int, alphabet: int, what: str) -> tuple[Symbols, int]:
    """Return symbols, (count,), and how many bytes of tables came before them.

    Raises:
        CodecError: they are not sound, or the file is too short.
    """
    before = reader.position
    # Before anything as long as the stream is made: a symbol has a bit at least.
    if not 0 < count <= 8 * reader.left:
        raise damaged(f"{what} are fewer than they claim")
    lengths = unpack(
        reader.bits(alphabet * WIDTH_OF_LENGTH, what), alphabet, WIDTH_OF_LENGTH
    ).astype(np.uint8)
    shortest = reader.number(8 * len(reader.data), what)
    width = reader.octet(what)
    if width > WIDEST_SURPLUS:
        raise damaged(f"the chunks of {what} are too long")
    surplus = read_fixed(reader, chunks(count), width, what).astype(np.int64)
    tables = reader.position - before
    chunk_bits = shortest + surplus
    n_bits = int(chunk_bits.sum())
    in_a_chunk = count if len(chunk_bits) == 1 else CHUNK
    if n_bits < count or int(chunk_bits.max()) > LONGEST * in_a_chunk:
        raise damaged(f"{what} are not as many as they claim")
    symbols = decode_symbols(reader.bits(n_bits, what), lengths, n_bits, count)
    if not np.array_equal(_bits_by_chunk(lengths[symbols]), chunk_bits):
        raise damaged("a chunk of codes does not end where the next one begins")
    return symbols, tables


def _bits_by_chunk(widths: Octets) -> npt.NDArray[np.int64]:
    """Add up the widths of codes, (n,), over each chunk."""
    firsts = np.arange(chunks(len(widths))) * CHUNK
    bits: npt.NDArray[np.int64] = np.add.reduceat(widths, firsts, dtype=np.int64)
    return bits
