"""Bytes that nobody vouches for, read one piece after the other; each length is checked first."""

import numpy as np

from bench.errors import UsageError
from bench.measure.codec.bits import Octets, octets

LONGEST_VARINT = 9  # bytes: 63 bits


class CodecError(UsageError):
    """Tensors that cannot be written, or bytes that are not a sound file of this format."""


def damaged(what: str) -> CodecError:
    """Return the error for a file that is not what it should be."""
    return CodecError(
        f"The compressed file is damaged ({what}); write it again from the trained network"
    )


def varint(number: int) -> bytes:
    """Write seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """A position in bytes; nothing can be read beyond their end."""

    def __init__(self, data: Octets) -> None:
        self.data = data
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.position

    def take(self, n_bytes: int, what: str) -> Octets:
        """Return the next bytes, not copied.

        Raises:
            CodecError: there are not so many.
        """
        if n_bytes > self.left:
            raise damaged(f"it ends within {what}")
        self.position += n_bytes
        return self.data[self.position - n_bytes : self.position]

    def bits(self, n_bits: int, what: str) -> Octets:
        """Return the bytes that hold so many bits.

        Raises:
            CodecError: there are not so many, or the rest of the last byte is not zero.
        """
        taken = self.take(octets(n_bits), what)
        if n_bits % 8 and int(taken[-1]) & (255 >> n_bits % 8):
            raise damaged(f"{what} ends in stray bits")
        return taken

    def octet(self, what: str) -> int:
        return int(self.take(1, what)[0])

    def number(self, most: int, what: str) -> int:
        """Return a varint.

        Raises:
            CodecError: it is above `most`, or written with more bytes than it needs.
        """
        number = 0
        for i in range(LONGEST_VARINT):
            octet = self.octet(what)
            number |= (octet & 127) << 7 * i
            if octet < 128:
                if number > most or (i > 0 and octet == 0):
                    break
                return number
        raise damaged(f"{what} is not a number up to {most}")

    def text(self, n_bytes: int, what: str) -> str:
        """Return UTF-8 text.

        Raises:
            CodecError: it is none, or the file is too short.
        """
        try:
            return self.take(n_bytes, what).tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(f"{what} is not UTF-8") from error


def reader_of(data: bytes) -> Reader:
    """Read a byte string."""
    return Reader(np.frombuffer(data, np.uint8))
