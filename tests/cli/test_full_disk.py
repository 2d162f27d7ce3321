"""A disk that fills up stops a sweep cleanly; files that a run makes may be read by others."""

import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands_shell import SMOKE, Bench

from bench.plan.expand import make_plan
from bench.plan.plugins import declared_styles
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.report.write import write_report
from bench.store.results import Results
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.export_network import export
from bench.sweep.reload import rebuilt

RUN = ("run", "--methods", "magnitude", "--targets", "2,8", "--controls", "none", *SMOKE, "--json")


def limit_files() -> None:
    """Allow files of 40 kB: that of a network has more."""
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (40_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )


@dataclass(frozen=True)
class SmallDisk:
    """A folder that is soon full: a real small disk where one may be made, else a limit on files.

    Attributes:
        limit: what a process does before it writes there.
    """

    folder: Path
    limit: Callable[[], None] | None
    grow: Callable[[], None]
    words: str


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=80k", "none", str(folder)]
    made = (
        mount is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    if not made:
        yield SmallDisk(folder, limit_files, lambda: None, "File too large")
        return

    def grow() -> None:
        subprocess.run(["mount", "-o", "remount,size=9m", str(folder)], check=True)

    yield SmallDisk(folder, None, grow, "No space left on device")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def start(disk: SmallDisk, is_small: bool) -> "subprocess.CompletedProcess[str]":
    full = Path("/dev/full")
    with (full if full.exists() else Path(os.devnull)).open("w") as output:
        return subprocess.run(
            [sys.executable, "-P", "-m", "bench", *RUN, "--out", str(disk.folder / "out")], check=False,
            stdout=output, stderr=subprocess.PIPE, text=True, preexec_fn=disk.limit if is_small else None,
        )  # fmt: skip


def test_a_sweep_on_a_full_disk_stops_and_the_same_command_goes_on(small_disk: SmallDisk) -> None:
    stopped = start(small_disk, is_small=True)
    assert stopped.returncode == 130, stopped.stderr
    *notes, last = stopped.stderr.splitlines()
    assert last.startswith(f"Error: {small_disk.folder}")
    assert f" written ({small_disk.words})" in last
    assert "run the same command again" in last
    assert len(notes) <= 1  # that standard output goes nowhere
    assert not list(small_disk.folder.rglob("error.json"))
    assert not list(small_disk.folder.rglob("*.part"))
    small_disk.grow()
    again = start(small_disk, is_small=False)
    assert again.returncode == 0, again.stderr
    assert len(list(small_disk.folder.glob("out/trials/*/result.json"))) == 2


KILLED = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from bench.api import Method

@dataclass(frozen=True)
class Killed(Method):
    rate, level = "emergent", "weight"

    def prune(self, trial):
        if not Path("spared").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        trial.train()
"""


@pytest.mark.slow
def test_what_a_killed_worker_leaves_is_run_by_the_same_command(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    command = ("run", "--methods", "killed", "--plugin", "killed.py", "--models", "fc-20-20", "--budget",
               "smoke", "--seeds", "0,1", "--controls", "none", "--jobs", "2")  # fmt: skip
    first = bench(*command)
    assert first.code == 130
    assert "killed from outside" in first.err
    assert not list(tmp_path.rglob("error.json"))
    (tmp_path / "spared").touch()
    assert bench(*command).code == 0
    assert len(list(tmp_path.rglob("result.json"))) == 2


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=oct)
def test_what_a_run_a_report_and_an_export_write_is_as_the_umask_says(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        out = tmp_path / "out"
        flags = {"methods": "magnitude", "models": "fc-20-20", "seeds": "0", "budget": "smoke",
                 "targets": "2", "controls": "none"}  # fmt: skip
        registry, results = Registry(), Results(out)
        plan = make_plan(registry, requests(None, flags, []))
        results.create()
        results.add_to_plan(plan.trials)
        (spec,) = plan.trials.values()
        config = RunConfig(out=out, device="cpu")
        execute(SweepContext(config), spec, lambda done, of: None)
        write_report([results], out, declared_styles(), ("csv", "md", "svg", "html"))
        export(rebuilt(registry, results.trial(spec.id)), "torch", tmp_path / "exports")
    finally:
        os.umask(before)
    made = [p for top in (out, tmp_path / "exports") for p in (top, *top.rglob("*"))]
    assert len(made) > 20
    for path in made:
        most = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == most & ~umask, path
