"""Canonical Huffman codes no longer than 12 bits, written in numpy and read by bitarray.

Codes are limited so that a reader may look one up in a table of 2 ** longest entries; the limit
costs less than a thousandth. Lengths are optimal under it (package-merge: Larmore & Hirschberg,
J. ACM 37, 1990).
"""

import numpy as np
import numpy.typing as npt
from bitarray import bitarray
from bitarray.util import canonical_decode

from bench.measure.codec.bits import Integers, Octets, Symbols
from bench.measure.codec.reading import damaged

LONGEST = 12  # bits of a code; at most 2 ** 12 different symbols can have one


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


def decode_symbols(codes: Octets, lengths: Octets, n_bits: int, count: int) -> Symbols:
    """Read so many symbols from so many bits.

    Args:
        codes: bytes, as many as hold the bits.
        lengths: of each symbol's code.

    Raises:
        CodecError: the lengths are no complete code, or the codes do not end with the bits.
    """
    order = canonical_order(lengths)
    _check(lengths[order])
    bits = bitarray(buffer=codes.data, endian="big")[:n_bits]
    if len(order) == 1 and bits.any():
        raise damaged("a code stands for no symbol")
    # bitarray's reader knows a canonical code by how many codes of each length there are.
    of_each_length = np.bincount(lengths[order]).tolist()
    found = canonical_decode(bits, of_each_length, order.tolist())
    try:
        symbols = np.fromiter(found, np.int32, count)
        is_all = next(found, None) is None
    except ValueError as error:  # numpy's: too few symbols; bitarray's: the last one is cut off
        raise damaged("the codes do not end with their stream") from error
    if not is_all:
        raise damaged("the codes do not end with their stream")
    return symbols


def _check(lengths: Octets) -> None:
    """Refuse lengths, ascending, that are no complete code; a single symbol's has one bit."""
    if not len(lengths) or int(lengths[-1]) > LONGEST:
        raise damaged("a code is empty or too long")
    share = 1 << (LONGEST - lengths.astype(np.int64))
    if lengths.tolist() != [1] and int(share.sum()) != 1 << LONGEST:
        raise damaged("a code is not complete")
