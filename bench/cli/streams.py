"""The two streams of a command: any character can be printed, and a lost reader is told of once.

A terminal may know Latin-1 or ASCII alone, and file names need not be UTF-8: what cannot be shown is
replaced. Standard output may be a full disk, a closed pipe or nothing at all.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from bench.errors import BenchError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputLost(BenchError):
    """Standard output, which the command was asked for, cannot be written."""

    exit_code = 1


class _Output(io.FileIO):
    """Standard output or error; what is written after it was lost is dropped.

    Attributes:
        on_loss: is told why, once; it may raise.
    """

    def __init__(self, number: int, on_loss: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self.on_loss = on_loss
        self._is_lost = False

    def write(self, content: "ReadableBuffer", /) -> int:
        if not self._is_lost:
            try:
                return super().write(content)
            except OSError as error:
                self._is_lost = True
                self.on_loss(error)
        return len(memoryview(content).cast("B"))


def prepare_streams() -> None:
    """Make the streams of this process take any character, and their loss a sentence."""
    _open_closed()
    sys.stdout = _prepared(sys.stdout, 1, _raise_lost)
    sys.stderr = _prepared(sys.stderr, 2, lambda error: None)  # there is nowhere to say it


def go_on_without_output() -> None:
    """Let work that takes long go on when nobody can read what it prints: with one note."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output):
        raw.on_loss = _note_lost


def _open_closed() -> None:
    """Put something in the place of a closed stream: else the next file opened becomes it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # For reading: so that whoever writes there learns that it goes nowhere.
            os.open(os.devnull, os.O_RDONLY)


def _prepared(stream: TextIO | None, number: int, on_loss: Callable[[OSError], None]) -> TextIO:
    """Return a stream in place of one of Python's own; any other stays as it is."""
    if stream is not None and stream is not (sys.__stdout__ if number == 1 else sys.__stderr__):
        return stream
    encoding = stream.encoding if stream is not None else "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        codecs.register(_plain_ascii)
        encoding = _PLAIN_ASCII
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, on_loss)),
        encoding=encoding,
        errors="replace",
        line_buffering=number == 2 or (stream is not None and stream.isatty()),
        write_through=number == 2,
    )


_PLAIN_ASCII = "plain-ascii"


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under a name of its own: click takes "ascii" for a mistake and prints UTF-8."""
    if name not in (_PLAIN_ASCII, _PLAIN_ASCII.replace("-", "_")):
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode, known.decode, known.streamreader, known.streamwriter,
        known.incrementalencoder, known.incrementaldecoder, _PLAIN_ASCII,
    )  # fmt: skip


def _sentence(error: OSError) -> str:
    return f"standard output cannot be written ({error.strerror})"


def _raise_lost(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):  # `| head` has read enough
        raise SystemExit(1)
    raise OutputLost(f"{_sentence(error)}; what the command wrote to files is there")


def _note_lost(error: OSError) -> None:
    print(f"Note: {_sentence(error)}; the trials go on", file=sys.stderr, flush=True)
