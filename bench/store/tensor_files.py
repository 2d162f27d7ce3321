"""Safetensors files that anybody may have made: what is wrong with one is said before it is opened."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.regular_file import check_regular, printable

MOST_HEADER_BYTES = 16 << 20  # a hundred for each of 160,000 tensors
_LENGTH_BYTES = 8  # of the header, at the beginning
_LONGEST = 60  # characters of a name that are shown

_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: git lfs pull gets it"),
    (b"PK\x03\x04", "a pickle in an archive, as torch.save writes, whatever its name says"),
    (b"<", "a page of the web, not the file itself: download it again"),
)


class NoTensorFile(ValueError):
    """A file that is no sound safetensors file; its words complete the sentence "it is …"."""


class TensorFile:
    """An open safetensors file whose header was checked; tensors are read one by one."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            NoTensorFile: it is a file of another kind, damaged or cut short.
            OSError: it cannot be read, or is no plain file.
        """
        size = check_regular(path)
        with path.open("rb") as file:
            _check_start(file.read(64), size)
        try:
            opened: Any = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise NoTensorFile(f"damaged or cut short ({_reason(error)})") from error
        self._file = opened
        self.names: tuple[str, ...] = tuple(opened.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """Read a tensor.

        Raises:
            NoTensorFile: it cannot be, though the header was sound.
        """
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except (SafetensorError, RuntimeError, OverflowError) as error:
            raise NoTensorFile(
                f"damaged: the tensor {shown(name)} cannot be read ({harmless(str(error))})"
            ) from error
        return tensor


def _check_start(start: bytes, size: int) -> None:
    """Refuse what a header says is none: its length stands in the first eight bytes."""
    if size < _LENGTH_BYTES:
        raise NoTensorFile(f"cut short: it has {size} bytes")
    for beginning, what in _STARTS:
        if start.startswith(beginning):
            raise NoTensorFile(what)
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if length > size - _LENGTH_BYTES or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        if start[0] == 0x80:  # also the length of a header, by chance
            raise NoTensorFile("a pickle, which can run anything, whatever its name says")
        raise NoTensorFile(
            f"cut short, or of another kind: its header would have {length:,} bytes, "
            f"and it has {size:,}"
        )
    if length > MOST_HEADER_BYTES:
        raise NoTensorFile(
            f"one with a header of {length:,} bytes, and {MOST_HEADER_BYTES:,} are read at most"
        )


def _reason(error: SafetensorError) -> str:
    return harmless(str(error).removeprefix("Error while deserializing header: "))


def shown(name: str) -> str:
    """Return a tensor's name in quotes, without characters that a terminal acts on, cut where long."""
    text = repr(name)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def harmless(text: str) -> str:
    """Return the first line of another library's words, without characters that a terminal acts on."""
    return printable(text.partition("\n")[0][:200])
