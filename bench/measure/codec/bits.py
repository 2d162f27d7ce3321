"""Numbers of any width packed into bytes, the highest bit first, and read again: all in numpy."""

from typing import Any

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.int32]
Integers = npt.NDArray[np.integer[Any]]

WIDEST = 16  # bits of one number: beginning anywhere in a byte, it ends within three
BLOCK = 1 << 16  # numbers packed at a time: what is in work stays in the cache


def octets(n_bits: int) -> int:
    """Return the number of bytes that hold so many bits."""
    return (n_bits + 7) // 8


def pack(numbers: Integers, widths: Integers) -> bytes:
    """Write each number with its own width, one behind the other; the last byte ends in zeros.

    Args:
        numbers: (n,), each below 2 ** its width.
        widths: (n,), bits, 0 to 16; or (1,), one width for all.
    """
    widths = np.broadcast_to(widths, numbers.shape)
    # A number of no bits may begin behind the end.
    out = np.zeros(octets(int(widths.sum(dtype=np.int64))) + 3, np.uint8)
    first_bit = 0
    for begin in range(0, len(numbers), BLOCK):
        block = slice(begin, begin + BLOCK)
        width = widths[block].astype(np.int64)
        ends = first_bit + np.cumsum(width)
        starts = ends - width
        base = int(starts[0]) >> 3
        # Three bytes from where a number begins; numbers that begin in one byte share no bit.
        shifted = numbers[block].astype(np.int64) << (24 - (starts & 7) - width)
        triples = np.bincount((starts >> 3) - base, weights=shifted).astype(np.int64)
        for i, shift in enumerate((16, 8, 0)):
            # A block's first byte may be the last one of the block before: added, not set.
            out[base + i : base + i + len(triples)] += (triples >> shift & 255).astype(np.uint8)
        first_bit = int(ends[-1])
    return out[: octets(first_bit)].tobytes()


def unpack(data: Octets, count: int, width: int) -> Symbols:
    """Read numbers that all have one width.

    Args:
        data: bytes, at least count * width bits.
        width: bits, 0 to 16.

    Returns:
        (count,).
    """
    numbers = np.zeros(count, np.int32)
    planes = np.unpackbits(data, count=count * width).reshape(count, width)
    for i in range(width):
        numbers <<= 1
        numbers |= planes[:, i]
    return numbers
