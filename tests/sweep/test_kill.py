"""Kill -9 at random moments, again and again: the results are bit-identical to an undisturbed run's."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_processes import forked, wait_for_event

from bench.store.results import file_digest

NET = Path(__file__).parents[1] / "small_net.py"
SHORT = ("--methods", "magnitude,edropout", "--models", "lenet-300-100", "--targets", "2",
         "--set", "recipe.epochs=8")  # fmt: skip
EVERY = (
    "--methods",
    "all",
    "--models",
    f"{NET}:build",
    "--targets",
    "2",
    "--set",
    "recipe.epochs=4",
)
LONG = ("--methods", "magnitude,dropnet,edropout,random", "--models", f"lenet-300-100,{NET}:build",
        "--targets", "2,4", "--set", "recipe.epochs=10")  # fmt: skip


def start(out: Path, asked: tuple[str, ...], jobs: int) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, and wait for its first line."""
    command = [sys.executable, "-P", "-m", "bench", "run", *asked, "--seeds", "0", "--checkpoint-seconds",
               "0.2", "--latency", "off", "--json", "--out", str(out), "--jobs", str(jobs)]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_event(process, "begin")
    return process


def finish(out: Path, asked: tuple[str, ...], jobs: int) -> float:
    """Run to the end; returns the seconds after the first line."""
    process = start(out, asked, jobs)
    started = time.monotonic()
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return time.monotonic() - started


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill a run and all its workers; False if it was finished before."""
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was_running


def kill_measurer(process: subprocess.Popen[str]) -> bool:
    """Kill the process that measures for a run, as soon as it is there; False if the run ends before."""
    while process.poll() is None:
        found = forked(process.pid)
        for each in found:
            os.kill(each, signal.SIGKILL)
        if found:
            return True
        time.sleep(0.02)
    return False


def digests(out: Path) -> dict[str, str]:
    """Hashes of every result and of all weights, masks and predictions."""
    files = [*out.glob("trials/*/result.json"), *out.glob("trials/*/*.safetensors")]
    return {str(f.relative_to(out)): file_digest(f) for f in files}


@pytest.mark.parametrize(
    ("asked", "wanted", "least"),
    [pytest.param(SHORT, 3, 15, id="3 kills"),
     pytest.param(EVERY, 30, 60, id="30 kills", marks=pytest.mark.slow)],
)  # fmt: skip
def test_killed_runs_end_bit_identical(
    tmp_path: Path, asked: tuple[str, ...], wanted: int, least: int
) -> None:
    """Every second life loses the process that measures as well, earlier than its own."""
    seconds = finish(tmp_path / "whole", asked, jobs=1)
    moments = random.Random(20261121)
    kills = measurers = resumed = 0
    while kills < wanted:
        process = start(tmp_path / "killed", asked, jobs=1)
        # Lives that add up to less than the whole, so that something is left at the last kill.
        life = moments.uniform(0, 1.4 * seconds / wanted)
        if kills % 2:
            spent = life * moments.random()
            time.sleep(spent)
            measurers += kill_measurer(process)
            life -= spent
        time.sleep(life)
        if not kill(process):
            break
        kills += 1
        resumed += bool(list((tmp_path / "killed").glob("phases/progress/*.safetensors")))
    finish(tmp_path / "killed", asked, jobs=1)
    print(f"{kills} runs and {measurers} measurers killed, {resumed} left a training to continue")
    assert kills >= wanted // 2
    assert measurers > 0
    assert resumed > 0
    expected = digests(tmp_path / "whole")
    assert len(expected) > least
    assert digests(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").glob("trials/*/error.json"))


@pytest.mark.slow
def test_a_run_whose_twin_is_killed_ends_bit_identical(tmp_path: Path) -> None:
    seconds = finish(tmp_path / "whole", SHORT, jobs=1)
    moments = random.Random(20261128)
    for number in range(3):
        out = tmp_path / str(number)
        twins = [start(out, SHORT, jobs=1), start(out, SHORT, jobs=1)]
        time.sleep(moments.uniform(0, seconds))
        assert kill(twins[number % 2])
        _, err = twins[1 - number % 2].communicate(timeout=900)
        assert twins[1 - number % 2].returncode == 0, err
        assert digests(out) == digests(tmp_path / "whole")


@pytest.mark.slow
def test_one_worker_and_two_end_bit_identical_even_when_killed(tmp_path: Path) -> None:
    finish(tmp_path / "one", LONG, jobs=1)
    process = start(tmp_path / "two", LONG, jobs=2)
    wait_for_event(process, "epoch")
    kill(process)
    finish(tmp_path / "two", LONG, jobs=2)
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
