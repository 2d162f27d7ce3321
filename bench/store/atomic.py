"""Files that are there whole or not at all: one, or all of a folder together.

They are flushed to the disk before they get their name, and the name after: a power cut leaves the old
file or the new one, as far as the file system keeps its word. They are as readable as any file that the
user makes: some libraries write theirs for their owner alone.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import UsageError
from bench.system_errors import CannotWrite, system_error_of

_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}  # of file systems that know no flush


@contextmanager
def whole_file(path: Path, flush: bool = True) -> Iterator[Path]:
    """Yield a name to write a file under; the file gets its own name at the end, or is deleted.

    Args:
        flush: wait until the disk has it; False for what is checked when it is read and is made again
            sooner than it is flushed.

    Raises:
        CannotWrite: the disk is full, or the file cannot be written for another reason of the system's.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        mode = _ordinary_mode(part)
        yield part
        _set_mode(part, mode)
        if flush:
            _flush_file(part)
        part.replace(path)
        if flush:
            _flush_folder(path.parent)
    except CannotWrite:
        raise
    except Exception as error:
        number = system_error_of(error)
        if number is None:
            raise
        raise CannotWrite(path, number) from error
    finally:
        with suppress(OSError):  # what cannot be deleted could not be written, which is told
            part.unlink(missing_ok=True)


def _ordinary_mode(path: Path) -> int:
    """Make an empty file and return who may read it: by the user's umask and the folder's own rules."""
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with suppress(PermissionError):  # of file systems that know no modes
            path.chmod(mode)


def _flush_file(path: Path) -> None:
    with path.open("rb+") as file:  # Windows flushes none that is open for reading alone
        _flush(file.fileno())


def _flush_folder(path: Path) -> None:
    """Flush a folder's names, where the system opens folders: Windows does not."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written and not read
        return
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


@contextmanager
def appearing(out: Path, name: str) -> Iterator[Path]:
    """Yield a folder to write into; its files get their place together at the end, or not at all.

    Raises:
        UsageError: it cannot be written; nothing of it is left.
    """
    is_new = [p for p in (out, *out.parents) if not os.path.lexists(p)]
    part = out / f".{name}.{secrets.token_hex(4)}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield part
        _give_place(part, out / name)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for folder in is_new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        number = system_error_of(error)
        if number is None:
            raise
        raise UsageError(
            f"The folder {out} cannot be written ({os.strerror(number)}); --out names another one"
        ) from error


def _give_place(part: Path, target: Path) -> None:
    """Flush a folder's files and move them to their place."""
    probe = part / ".mode"
    mode = _ordinary_mode(probe)
    probe.unlink()
    for file in part.iterdir():
        _set_mode(file, mode)
        _flush_file(file)
    _flush_folder(part)
    if not target.exists():
        part.replace(target)
        _flush_folder(target.parent)
        return
    for file in sorted(part.iterdir()):  # another form was exported before
        os.replace(file, target / file.name)  # noqa: PTH105
    _flush_folder(target)
    part.rmdir()
