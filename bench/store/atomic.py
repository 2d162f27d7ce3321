"""Files that are there whole or not at all: one, or all of a folder together.

They are flushed to the disk before they get their name, and the name after: a power cut leaves the old
file or the new one, as far as the file system keeps its word.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UsageError

_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}  # of file systems that know no flush


@contextmanager
def whole_file(path: Path, flush: bool = True) -> Iterator[Path]:
    """Yield a name to write a file under; the file gets its own name at the end, or is deleted.

    Args:
        flush: wait until the disk has it; False for what is checked when it is read and is made again
            sooner than it is flushed.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        if flush:
            _flush_file(part)
        part.replace(path)
        if flush:
            _flush_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


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
    """Yield a folder to write into; its files get their place together at the end, or not at all."""
    is_new = [p for p in (out, *out.parents) if not p.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    except OSError as error:
        raise UsageError(
            f"The folder {out} cannot be written ({error.strerror}); --out names another one"
        ) from error
    try:
        yield part
        part.chmod(0o755)
        for file in part.iterdir():
            _flush_file(file)
        _flush_folder(part)
        target = out / name
        if not target.exists():
            part.replace(target)
            _flush_folder(out)
            return
        for file in sorted(part.iterdir()):  # another form was exported before
            os.replace(file, target / file.name)  # noqa: PTH105
        _flush_folder(target)
        part.rmdir()
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for folder in is_new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
