"""Kill -9 at random moments of the commands that write: whole files only, and the next call ends well."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands_shell import SMOKE, Bench

from bench.store.records import read_cost
from bench.store.results import Results, file_digest

METHODS = ("--methods", "deep-compression,dropnet", "--datasets", "mnist-5k", "--targets", "4",
           "--controls", "none", "--set", "deep-compression.share_epochs=0.5", *SMOKE)  # fmt: skip
COMMANDS = {
    "report": ("report", "base", "--out", "out"),
    "measure": ("measure", "base", "--effort", "quick"),
    "export": ("export", "DROPNET", "--to", "torch", "--results", "base", "--out", "out"),
    "import": ("import", "net.dc", "--out", "out/net.safetensors"),
    "clean": ("clean", "base"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed") / "base"


@pytest.fixture
def home(made: Path, bench: Bench, tmp_path: Path) -> Path:
    """A folder with finished trials in base/ and a Deep Compression file."""
    if not made.exists():
        assert bench("run", *METHODS, "--out", str(made)).code == 0
    shutil.copytree(made, tmp_path / "base")
    shutil.copy(next(tmp_path.glob("base/trials/*/*.dc")), tmp_path / "net.dc")
    (tmp_path / "out").mkdir()
    return tmp_path


def start(home: Path, command: str) -> "subprocess.Popen[str]":
    (dropnet,) = (
        t.id for t in Results(home / "base").trials() if t.result().spec.method == "dropnet"
    )
    arguments = [dropnet if each == "DROPNET" else each for each in COMMANDS[command]]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bench", *arguments], cwd=home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def written(home: Path) -> dict[str, str]:
    """Digests of what has its final name; a folder that is still hidden is not there."""
    files = [f for name in ("out", "base") for f in (home / name).rglob("*") if f.is_file()]
    return {
        str(f.relative_to(home)): file_digest(f)
        for f in files
        if f.suffix not in (".part", ".lock")
        and not any(p.startswith(".") for p in f.relative_to(home).parts)
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_leaves_whole_files_and_is_made_good_by_the_next(
    home: Path, made: Path, command: str
) -> None:
    before = written(home)
    started = time.monotonic()
    process = start(home, command)
    _, err = process.communicate(timeout=300)
    seconds = time.monotonic() - started
    assert process.returncode == 0, err
    whole = written(home)
    assert whole != before
    moments = random.Random(len(command))
    kills = 0
    for _ in range(4):
        shutil.rmtree(home / "out")
        (home / "out").mkdir()
        shutil.rmtree(home / "base")
        shutil.copytree(made, home / "base")
        process = start(home, command)
        time.sleep(seconds * moments.uniform(0.4, 0.98))
        kills += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        now = written(home)
        for name, digest in now.items():
            if name.endswith("cost.json"):
                read_cost(home / name)
            elif not name.endswith(".pt2"):
                assert digest in (whole.get(name), before.get(name)), name
        exports = [f for f in now if f.startswith("out/") and command == "export"]
        assert not exports or {f for f in whole if f.startswith("out/")} == set(exports)
        process = start(home, command)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert written(home).keys() == whole.keys()
    assert kills >= 2
