"""Kill -9 at random moments, again and again: the results are bit-identical to an undisturbed run's."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store.results import file_digest

KILLS = 20
NET = Path(__file__).parents[1] / "small_net.py"
COMMAND = (
    sys.executable, "-P", "-m", "bench", "run", "--methods", "magnitude,dropnet,edropout,random",
    "--models", f"lenet-300-100,{NET}:build", "--targets", "2,4", "--seeds", "0",
    "--set", "recipe.epochs=10", "--checkpoint-seconds", "0.2", "--latency", "off",
    "--progress", "plain",
)  # fmt: skip


def start(out: Path, jobs: int) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, and wait for its first line."""
    command = [*COMMAND, "--out", str(out), "--jobs", str(jobs)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    process.stderr.readline()
    return process


def finish(out: Path, jobs: int) -> float:
    """Run to the end; returns the seconds after the first line."""
    process = start(out, jobs)
    started = time.monotonic()
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return time.monotonic() - started


def kill_after(out: Path, seconds: float, jobs: int) -> bool:
    """Kill a run and all its workers; False if it was finished before."""
    process = start(out, jobs)
    time.sleep(seconds)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was_running


def digests(out: Path) -> dict[str, str]:
    """Hashes of every result and of all weights, masks and predictions."""
    files = [*out.glob("trials/*/result.json"), *out.glob("trials/*/*.safetensors")]
    return {str(f.relative_to(out)): file_digest(f) for f in files}


@pytest.mark.slow
def test_killed_runs_end_bit_identical(tmp_path: Path) -> None:
    seconds = finish(tmp_path / "whole", jobs=1)
    moments = random.Random(20261121)
    kills = resumed = 0
    # Short lives, so that the run is still going at the last kill.
    while kills < KILLS and kill_after(tmp_path / "killed", moments.uniform(0, seconds / 9), 1):
        kills += 1
        resumed += bool(list((tmp_path / "killed").glob("phases/progress/*.safetensors")))
    finish(tmp_path / "killed", jobs=1)
    print(f"{kills} kills, {resumed} of them left a training to continue")
    assert kills >= KILLS // 2
    assert resumed > 0
    expected = digests(tmp_path / "whole")
    assert len(expected) > 60
    assert digests(tmp_path / "killed") == expected


@pytest.mark.slow
def test_one_worker_and_two_end_bit_identical_even_when_killed(tmp_path: Path) -> None:
    finish(tmp_path / "one", jobs=1)
    kill_after(tmp_path / "two", 6.0, jobs=2)
    finish(tmp_path / "two", jobs=2)
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
