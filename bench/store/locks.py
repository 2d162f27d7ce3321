"""Locks between processes, held by the operating system: they die with the process that holds them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bench.errors import UsageError
from bench.system_errors import FULL

_NOT_OURS = {errno.EACCES, errno.EPERM}


class LockRefused(UsageError):
    """A folder in which no lock can be had, so that two runs could spoil each other's files."""


@contextmanager
def locked(file: Path, poll_seconds: float = 0.05) -> Iterator[None]:
    """Hold a lock file for this process, and wait for whoever else holds it.

    The file is never deleted, because somebody may be waiting on it.

    Raises:
        LockRefused: it belongs to another user, or its file system has no locks.
    """
    lock = lock_of(file, poll_interval=poll_seconds)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise  # it says nothing about locks
        raise LockRefused(_refusal(file, error)) from error
    try:
        yield
    finally:
        lock.release()


def lock_of(file: Path, poll_interval: float = 0.05, timeout: float = -1) -> FileLock:
    """Return a lock that only the system's own calls hold."""
    # Without flock the library would take the file's existence for a lock: every file that an earlier
    # run left would be one for ever.
    return FileLock(file, timeout, poll_interval=poll_interval, fallback_to_soft=False)


def _refusal(file: Path, error: OSError | NotImplementedError) -> str:
    why = str(getattr(error, "strerror", None) or error)
    if isinstance(error, OSError) and error.errno in _NOT_OURS:
        return (
            f"The lock {file} cannot be taken ({why}): it, or its folder, belongs to another user; ask "
            f"for the right to write {file.parent}, or work in a folder of your own, such as a copy"
        )
    return (
        f"The folder {file.parent} is on a file system without working locks ({why}), where two runs "
        "could spoil each other's files; use a local folder, or a file system that is mounted with locks"
    )
