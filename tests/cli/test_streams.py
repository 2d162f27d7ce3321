"""Terminals that know few characters, and output that goes nowhere: never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands_shell import Bench

from bench.cli.streams import OutputLost, _Output

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def run(
    *arguments: str, encoding: str, output: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "bench", *arguments],
        env=os.environ | {"PYTHONIOENCODING": encoding}, stdout=output, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_a_terminal_cannot_show_is_replaced(tmp_path: Path, encoding: str) -> None:
    suite = tmp_path / "suite\u2013.toml"
    suite.write_text("\u2013")
    for arguments, code in ((["run", "--help"], 0), (["run", str(suite)], 2)):
        done = run(*arguments, encoding=encoding)
        assert done.returncode == code
        assert b"Traceback" not in done.stderr
        assert "\u2013" not in (done.stdout + done.stderr).decode(encoding)
    assert b"suite?.toml" in done.stderr


@needs_dev_full
def test_lost_output_is_one_sentence_and_no_good_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = run("list", "models", encoding="utf-8", output=full.fileno())
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: standard output cannot be written (No space left")
    assert done.stderr.count(b"\n") == 1


@needs_dev_full
def test_the_loss_is_told_once_and_the_rest_is_dropped() -> None:
    told: list[str] = []
    number = os.open("/dev/full", os.O_WRONLY)
    stream = _Output(number, lambda error: told.append(error.strerror or ""))
    assert [stream.write(b"abc"), stream.write(b"de")] == [3, 2]
    os.close(number)
    assert told == ["No space left on device"]
    assert OutputLost.exit_code == 1


def test_names_that_are_not_utf8_or_of_300_letters_get_a_sentence(
    bench: Bench, tmp_path: Path
) -> None:
    bad, long = os.fsdecode(b"bad\xff"), "n" * 300
    (tmp_path / bad).mkdir()
    (tmp_path / f"{bad}.py").write_text("def build(classes, shape): ...")
    dense = ("run", "--methods", "dense", "--seeds", "0")
    for arguments, words in (
        ((*dense, "--out", bad), "is not UTF-8; rename it"),
        ((*dense, "--models", f"{bad}.py:build"), "is not UTF-8; rename it"),
        ((*dense, "--out", long), "File name too long"),
        ((*dense, "--models", f"{long}.py:build"), "File name too long"),
        ((*dense, "--plugin", f"{long}.py"), "File name too long"),
        (("run", f"{long}.toml"), "File name too long"),
        (("report", long), "File name too long"),
        (("clean", long), "File name too long"),
        (("import", long), "File name too long"),
        (("show", long), "Unknown name or trial"),
    ):
        shell = bench(*arguments)
        assert (shell.code, shell.err.count("\n")) == (2, 1), shell.err
        assert words in shell.err
