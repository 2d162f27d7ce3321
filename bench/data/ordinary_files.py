"""Ordinary files, and what else may lie where one is expected: reading a pipe or a device never ends."""

import os
import stat
from pathlib import Path

from bench.errors import DataDamaged, DataMissing

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def printable(path: Path | str) -> str:
    """Return a path on one line that any output can show: names may hold newlines or be any bytes."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_folder(path: Path) -> bool:
    """Return True for a folder; False for what cannot be reached or be a name at all, too."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib's raises for some of them


def size_of_file(path: Path, remedy: str = "put the data set's file there") -> int:
    """Return the size of an ordinary file, which is not opened.

    Raises:
        DataMissing: there is nothing.
        DataDamaged: there is something else.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116 - as fast as can be: it is asked of every image
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DataMissing(
                f"{printable(path)} is a link to {printable(path.readlink())}, where nothing is; {remedy}"
            ) from error
        raise DataMissing(f"{printable(path)} is missing; {remedy}") from error
    except OSError as error:
        raise DataDamaged(
            f"{printable(path)} cannot be read ({error.strerror}); {remedy}"
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise DataDamaged(f"{printable(path)} is {kind}, not a file; {remedy}")
    return facts.st_size
