"""Canonical Huffman codes no longer than 12 bits, decoded in numpy many symbols at a time.

Codes are limited because a decoding table has 2 ** longest entries; the limit costs less than a
thousandth. Lengths are optimal under it (package-merge: Larmore & Hirschberg, J. ACM 37, 1990).
"""

import numpy as np
import numpy.typing as npt

from bench.measure.codec.bits import Integers, Octets, Symbols, octets, words
from bench.measure.codec.reading import damaged

LONGEST = 12  # bits of a code; at most 2 ** 12 different symbols can have one
CHUNK = 512  # symbols that are decoded one after the other
LANES = 256  # chunks that are decoded side by side: what is in work stays in the cache


def code_lengths(counts: Integers) -> Octets:
    """Return the length of each symbol's code, 0 for a symbol that does not occur.

    A single symbol gets one bit, so that its stream still says how long it is.

    Args:
        counts: (alphabet,); at most 4096 of them above 0.
    """
    lengths = np.zeros(len(counts), np.uint8)
    order = np.flatnonzero(counts)
    order = order[np.argsort(counts[order], kind="stable")]
    n = len(order)
    assert n <= 1 << LONGEST
    if n < 2:
        lengths[order] = 1
        return lengths
    leaves = counts[order].astype(np.int64)
    merged, is_leaf = leaves, [np.ones(n, bool)]
    for _ in range(LONGEST - 1):
        pairs = merged[: len(merged) // 2 * 2].reshape(-1, 2).sum(1)
        both = np.concatenate([leaves, pairs])
        rank = np.argsort(both, kind="stable")
        merged = both[rank]
        is_leaf.append(rank < n)
    # A leaf's length is the number of levels on which it is among the packages that are bought.
    bought = 2 * n - 2
    for level in reversed(is_leaf):
        n_leaves = int(level[:bought].sum())
        lengths[order[:n_leaves]] += 1
        bought = 2 * (bought - n_leaves)
    return lengths


def canonical_order(lengths: Octets) -> npt.NDArray[np.int64]:
    """Return the symbols that have a code, in ascending order of their codes."""
    used = np.flatnonzero(lengths)
    order: npt.NDArray[np.int64] = used[np.argsort(lengths[used], kind="stable")]
    return order


def canonical_codes(lengths: Octets) -> Symbols:
    """Return each symbol's code: ascending by (length, symbol), 0 for a symbol without one."""
    codes = np.zeros(len(lengths), np.int32)
    order = canonical_order(lengths)
    share = np.int64(1) << (LONGEST - lengths[order].astype(np.int64))
    codes[order] = (np.cumsum(share) - share) >> (LONGEST - lengths[order].astype(np.int64))
    return codes


class Table:
    """Looks a symbol up by the next bits.

    Raises:
        CodecError: the lengths are no complete code.
    """

    def __init__(self, lengths: Octets) -> None:
        order = canonical_order(lengths)
        if not len(order) or int(lengths[order[-1]]) > LONGEST:
            raise damaged("a code is empty or too long")
        length = lengths[order].astype(np.int64)
        self.width = int(length[-1])
        self.mask = (1 << self.width) - 1
        share = np.int64(1) << (self.width - length)
        if len(order) == 1 and self.width == 1:
            # The bit 1 stands for nothing: it finds -1, which no symbol is.
            order, length, share = np.append(order, -1), np.array([1, 1]), np.array([1, 1])
        if int(share.sum()) != 1 << self.width:
            raise damaged("a code is not complete")
        self.symbol_of_rank = order.astype(np.int32)
        ranks = np.arange(len(order))
        self.rank_and_length = np.repeat((ranks << 4 | length).astype(np.int32), share)

    def symbols(self, found: Symbols) -> Symbols:
        """Return the symbols for what the table gave.

        Raises:
            CodecError: one was read by bits that stand for none.
        """
        symbols: Symbols = self.symbol_of_rank[found >> 4]
        if symbols.size and int(symbols.min()) < 0:
            raise damaged("a code stands for no symbol")
        return symbols


class _Walk:
    """The code that would start at each bit of some bytes, and the bit that follows it."""

    def __init__(self, data: Octets, table: Table, n_bits: int) -> None:
        shifts = 32 - table.width - np.arange(8, dtype=np.uint32)
        windows = (words(data)[:, None] >> shifts & table.mask).reshape(-1)[:n_bits]
        self.hits = table.rank_and_length[windows]
        # The end leads to itself: a damaged code cannot lead out of the bytes.
        self.jump = np.arange(n_bits + 1, dtype=np.int32)
        self.jump[:-1] += self.hits & 15
        np.minimum(self.jump, n_bits, out=self.jump)
        self.n_bits = n_bits

    def runs_past(self, places: Symbols) -> bool:
        """Say whether a code begins at the end, or goes over it."""
        last = int(places.max())
        return last >= self.n_bits or last + (int(self.hits[last]) & 15) > self.n_bits


def decode_short(data: Octets, table: Table, n_bits: int, count: int) -> Symbols:
    """Read a stream that is one chunk: from its first code, twice as many codes at each step.

    Raises:
        CodecError: the codes do not end with the stream.
    """
    walk = _Walk(data, table, n_bits)
    jump = walk.jump
    places = np.zeros(1, np.int32)
    while len(places) < count:
        places = np.concatenate([places, jump[places]])
        jump = jump[jump]
    places = places[:count]
    if walk.runs_past(places) or int(walk.jump[places[-1]]) != n_bits:
        raise damaged("the codes do not end with their stream")
    return table.symbols(walk.hits[places])


def decode_chunks(data: Octets, table: Table, starts: npt.NDArray[np.int64], count: int) -> Symbols:
    """Read a stream of chunks, some hundred side by side.

    Args:
        starts: (chunks + 1,), the bit each chunk begins at, and the end of the last one.

    Raises:
        CodecError: a chunk does not end where the next one begins.
    """
    symbols = np.empty(count, np.int32)
    for first in range(0, len(starts) - 1, LANES):
        bits = starts[first : first + LANES + 1]
        here = slice(first * CHUNK, min((first + LANES) * CHUNK, count))
        bytes_before = int(bits[0]) >> 3
        part = data[bytes_before : octets(int(bits[-1]))]
        lanes = (bits - 8 * bytes_before).astype(np.int32)
        symbols[here] = _decode_lanes(part, table, lanes, here.stop - here.start)
    return symbols


def _decode_lanes(data: Octets, table: Table, bits: Symbols, count: int) -> Symbols:
    """Read chunks side by side, one symbol of each at a step; `bits` as `starts` above."""
    lanes = len(bits) - 1
    walk = _Walk(data, table, int(bits[-1]))
    places = np.empty((CHUNK + 1, lanes), np.int32)
    places[0] = bits[:-1]
    for step in range(CHUNK):
        walk.jump.take(places[step], out=places[step + 1], mode="clip")
    ends = places[CHUNK]
    ends[-1] = places[count - CHUNK * (lanes - 1), -1]  # the last chunk may be shorter
    in_order = places[:CHUNK].T.reshape(-1)[:count]
    if not np.array_equal(ends, bits[1:]) or walk.runs_past(in_order):
        raise damaged("a chunk of codes does not end where the next one begins")
    return table.symbols(walk.hits[in_order])
