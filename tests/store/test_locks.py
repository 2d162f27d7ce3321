"""Locks that cannot be had are one sentence; nothing is called failed for it."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from bench.errors import UsageError
from bench.store.locks import LockRefused, locked
from bench.store.phase_cache import PhaseStore
from bench.store.results import Results


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A file system whose flock fails."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return int(request.param)


def test_a_file_system_without_locks_is_one_sentence(no_locks: int, tmp_path: Path) -> None:
    (tmp_path / "a.lock").touch()  # as an earlier run leaves it
    with pytest.raises(LockRefused) as caught, locked(tmp_path / "a.lock"):
        pass
    text = str(caught.value)
    assert str(tmp_path) in text
    assert os.strerror(no_locks) in text
    assert "use a local folder" in text
    assert "\n" not in text
    assert caught.value.exit_code == 2


def test_the_plan_and_the_cache_take_their_locks_so(no_locks: int, tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(UsageError, match="use a local folder"):
        results.add_to_plan({})
    assert not results.plan_file.exists()
    store = PhaseStore(tmp_path / "phases")
    with pytest.raises(UsageError, match="use a local folder"), store.claim("a"):
        pass


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_the_lock_of_another_user_is_one_sentence(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "a.lock"
    lock.touch()
    opened = os.open

    def refuse(path: str, *arguments: int, **more: int) -> int:
        if Path(path) == lock:
            raise PermissionError(code, os.strerror(code), str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LockRefused, match="belongs to another user") as caught, locked(lock):
        pass
    assert str(lock) in str(caught.value)


def test_a_full_disk_is_not_taken_for_one_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="No space left"), locked(tmp_path / "a.lock"):
        pass


def test_a_lock_keeps_others_out_and_its_file_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "a.lock"), pytest.raises(Timeout):
        FileLock(tmp_path / "a.lock", is_singleton=False).acquire(timeout=0)
    with locked(tmp_path / "a.lock"):
        pass
    assert stat.S_ISREG((tmp_path / "a.lock").stat().st_mode)
