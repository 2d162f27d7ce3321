"""Plain files: what is none (a pipe, a device, a folder) is told before it is opened.

Opening a pipe waits for somebody to write into it, and reading a device may never end.
"""

import errno
import os
import stat
from pathlib import Path

_NAMES = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def printable(path: Path | str) -> str:
    """Return a path on one line that any output can show: names may hold newlines or be any bytes."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class NoRegularFile(OSError):
    """Something that is there and is no plain file; `strerror` says what it is."""


def check_regular(path: Path) -> int:
    """Return the size of a plain file in bytes; links are followed.

    Raises:
        NoRegularFile: it is something else.
        OSError: it cannot be looked at; FileNotFoundError says of a link that it leads nowhere.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - as fast as can be: it is asked of every image
    except FileNotFoundError:
        if path.is_symlink():
            why = "it is a link to a file that is not there"
            raise FileNotFoundError(errno.ENOENT, why, str(path)) from None
        raise
    except ValueError as error:  # of a zero byte, or of what no encoding has
        raise NoRegularFile(errno.EINVAL, "no file can have such a name", str(path)) from error
    for is_one, name in _NAMES:
        if is_one(found.st_mode):
            raise NoRegularFile(errno.EINVAL, name, str(path))
    return found.st_size


def read_regular(path: Path, most_bytes: int | None = None) -> bytes:
    """Return the content of a plain file.

    Args:
        most_bytes: what the file may have at most.

    Raises:
        OSError: as of `check_regular`; EFBIG: it is larger than that.
    """
    size = check_regular(path)
    if most_bytes is not None and size > most_bytes:
        why = f"it has {size:,} bytes, and {most_bytes:,} are the most"
        raise OSError(errno.EFBIG, why, str(path))
    return path.read_bytes()
