"""Processes that tests start: they end with pytest, however that ends, and are waited for by events."""

import ctypes
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_PR_SET_PDEATHSIG = 1


@pytest.fixture(autouse=True, scope="session")
def children_end_with_us() -> Iterator[None]:
    """Leave no process behind when pytest is killed: whatever a test starts is killed with it."""
    start = subprocess.Popen.__init__

    def started(self: Any, *args: Any, preexec_fn: Any = None, **options: Any) -> None:
        start(self, *args, preexec_fn=_both(_end_with_parent(), preexec_fn), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", started)
        yield


def _end_with_parent() -> Callable[[], None] | None:
    """Return what a child calls so that Linux kills it with its parent; elsewhere there is no such call."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return functools.partial(_call, prctl)


def _call(prctl: Any) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _both(first: Callable[[], None] | None, second: Callable[[], None] | None) -> Any:
    """Return what calls two functions, of which either may be missing."""
    wanted = [each for each in (first, second) if each is not None]
    return (lambda: [each() for each in wanted]) if wanted else None


def wait_for_event(process: subprocess.Popen[str], kind: str) -> None:
    """Read the lines of `bench run --json` until one tells of an event of this kind."""
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == kind:
            return
    _, err = process.communicate()
    raise AssertionError(f"the run ended before anything was {kind}: {err}")


def members(group: int) -> set[int]:
    """The processes of a group that are alive, on Linux."""
    return {pid for pid, stat in _processes() if stat.group == group}


def forked(group: int) -> set[int]:
    """Those of a group that multiprocessing's fork server has made, on Linux."""
    found = dict(_processes())
    return {
        pid
        for pid, stat in found.items()
        if stat.group == group
        and _is_server(pid)
        and stat.parent in found
        and _is_server(stat.parent)
    }


class _Stat(NamedTuple):
    parent: int
    group: int


def _processes() -> Iterator[tuple[int, _Stat]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if after[0] != "Z":
            yield int(stat.parent.name), _Stat(int(after[1]), int(after[2]))


def _is_server(pid: int) -> bool:
    try:
        return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
