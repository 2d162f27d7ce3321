"""Positions of kept weights as the distance from one to the next, in a few bits.

Han, Mao & Dally, ICLR 2016 (arXiv 1510.00149), sec. 2 and fig. 2. A tensor is read in C order, one
running position for all of it. With r bits a step is 1 to 2 ** r and is written as step - 1; where
the next weight is further away, a filler (the paper's padding zero) goes 2 ** r ahead and has no
value. Here a filler is a symbol of its own, 2 ** r: what fills is known without looking at values,
so that a kept weight may have any value, 0.0 included, and a codebook of 2 ** b entries needs b bits.
"""

import numpy as np
import numpy.typing as npt

from bench.measure.codec.bits import Symbols, octets
from bench.measure.codec.reading import varint
from bench.measure.codec.stream import can_huffman, least_huffman_bytes

Positions = npt.NDArray[np.int64]

NARROWEST, WIDEST = 1, 16  # bits of an index


def gaps_of(positions: Positions) -> Positions:
    """Return how many positions lie between neighbours: (n,), the first counted from the start."""
    gaps: Positions = np.diff(positions, prepend=-1) - 1
    return gaps


def entries(gaps: Positions, index_bits: int) -> Symbols:
    """Return the symbols of gaps, (n,): the fillers of each, then what is left of it."""
    fillers = gaps >> index_bits
    ends = np.cumsum(fillers + 1)
    filler = 1 << index_bits
    symbols = np.full(int(ends[-1]) if len(ends) else 0, filler, np.int32)
    symbols[ends - 1] = gaps & (filler - 1)
    return symbols


def codes(symbols: Symbols, index_bits: int) -> Symbols:
    """Return the paper's codes of symbols: a filler is the longest step."""
    return np.minimum(symbols, (1 << index_bits) - 1)


def positions_of(symbols: Symbols, index_bits: int) -> Positions:
    """Return where the weights are, without the fillers."""
    filler = 1 << index_bits
    # In place: entries of a file are many times larger in memory.
    reached = np.minimum(symbols, filler - 1).astype(np.int64)
    reached += 1
    np.cumsum(reached, out=reached)
    reached -= 1
    positions: Positions = reached[symbols != filler]
    return positions


def least_bytes(gaps: Positions, index_bits: int, has_huffman: bool) -> int:
    """Return the fewest bytes that gaps and the number of their entries take, without writing them."""
    filler = 1 << index_bits
    counts = np.bincount(gaps & (filler - 1), minlength=filler + 1)
    counts[filler] = (gaps >> index_bits).sum()
    n = int(counts.sum())
    # One bit more tells a filler from a weight that is as far away.
    least = octets(n * index_bits) + octets(int(counts[-2:].sum()))
    if has_huffman and can_huffman(counts):
        least = min(least, least_huffman_bytes(counts))
    return least + len(varint(n))
