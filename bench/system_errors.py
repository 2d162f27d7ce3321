"""Errors of files, folders and disks, as sentences that name them."""

import errno
import os
import re
from pathlib import Path

from bench.errors import MachineFailed, UsageError


class CannotWrite(MachineFailed, OSError):
    """A file or folder that cannot be written: no space, no permission, a disk that is gone.

    Args:
        path: the file or folder.
        number: the system's number for the reason (`errno`).
    """

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.path = path

    @property
    def is_of_this_place_alone(self) -> bool:
        """Return True for a missing permission: in other folders of the disk there may be one."""
        return self.errno in (errno.EACCES, errno.EPERM)

    def __reduce__(self) -> tuple[type, tuple[Path, int]]:
        return type(self), (self.path, self.errno or 0)  # it is sent between processes

    def __str__(self) -> str:
        if self.errno in FULL:
            return (
                f"{self.path} cannot be written ({self.strerror}); free some space and run the same "
                "command again: what is finished stays"
            )
        return (
            f"{self.path} cannot be read or written ({self.strerror}); make it so, or take another "
            "folder, and run the same command again"
        )


FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_DISKS = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
_IN_TEXT = re.compile(r"\(os error (\d+)\)|(No space left on device)|(Disk quota exceeded)")


def system_error_of(error: BaseException) -> int | None:
    """Return the system's number for the reason of an error (`errno`), which some libraries tell in text."""
    if isinstance(error, OSError):
        return error.errno
    found = _IN_TEXT.search(str(error))
    if found is None:
        return None
    number, full, _ = found.groups()
    return int(number) if number else errno.ENOSPC if full else errno.EDQUOT


def cannot_write(error: BaseException, place: Path) -> CannotWrite | None:
    """Return what an error, or one behind it, says of a disk; None where it says nothing.

    An error belongs to the disk if that is full, or if it is about a file in `place`.
    """
    seen: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in seen:
        if isinstance(now, CannotWrite):
            return now
        number, path = system_error_of(now), _path_in(now)
        if number in FULL:
            return CannotWrite(path or place, number)
        if (
            number in _OF_DISKS
            and path is not None
            and path.absolute().is_relative_to(place.absolute())
        ):
            return CannotWrite(path, number)
        seen.append(now)
        now = now.__cause__ or now.__context__
    return None


def need_utf8(path: Path) -> None:
    """Refuse a path that cannot be written as text, as records, hashes and libraries do.

    Raises:
        UsageError: its name is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise UsageError(f"The name {shown} is not UTF-8; rename it, or take another") from None


_OF_FILES = (*_OF_DISKS, errno.ELOOP,
             errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)  # fmt: skip


def file_trouble(error: Exception) -> str:
    """Return what is wrong with a file, its folder or its disk; nothing if the error is another one."""
    path = _path_in(error)
    if path is None or system_error_of(error) not in _OF_FILES:
        return ""
    return f"{path} cannot be used ({getattr(error, 'strerror', error)}); name another, or mend it"


def _path_in(error: BaseException) -> Path | None:
    name = getattr(error, "filename", None) if isinstance(error, OSError) else None
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
