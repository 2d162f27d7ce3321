"""Links, devices and long names given to commands: refused, and what they lead to stays."""

import os
import shutil
from pathlib import Path

import pytest
from commands_shell import Bench, Shell

from bench.measure.codec import encode

LONG = "n" * 300


def refused(shell: Shell, *said: str) -> None:
    assert shell.code == 2, shell.err
    assert "Traceback" not in shell.err
    assert all(text in shell.err for text in said), shell.err


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with two phases and a saved progress."""
    folder = tmp_path / "results"
    (folder / "trials").mkdir(parents=True)
    (folder / "phases/progress").mkdir(parents=True)
    for name in ("a", "b", "progress/c"):
        (folder / f"phases/{name}.safetensors").write_bytes(bytes(2**20))
    return folder


def test_clean_deletes_what_is_its_own(bench: Bench, results: Path) -> None:
    kept = results / "phases/locks/a.lock"
    kept.parent.mkdir()
    kept.touch()
    shell = bench("clean", str(results))
    assert shell.code == 0
    assert "3.0 MiB" in shell.out
    assert [p for p in (results / "phases").rglob("*") if p.is_file()] == [kept]


@pytest.mark.parametrize("place", ["phases", "phases/progress"])
def test_clean_does_not_follow_a_linked_folder(bench: Bench, results: Path, place: str) -> None:
    elsewhere = results.parent / "elsewhere"
    shutil.move(results / place, elsewhere)
    (results / place).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*.safetensors"))
    refused(bench("clean", str(results)), f"{place} is a link", str(elsewhere))
    assert sorted(elsewhere.rglob("*.safetensors")) == before != []
    assert list((results / "phases").glob("*.safetensors"))


def test_clean_leaves_linked_files_and_says_so(bench: Bench, results: Path) -> None:
    shared = results.parent / "shared.safetensors"
    shared.write_bytes(b"of others")
    (results / "phases/link.safetensors").symlink_to(shared)
    os.mkfifo(results / "phases/pipe.safetensors")
    inner = results / "phases/deeper"
    inner.mkdir()
    (inner / "mine.safetensors").write_bytes(b"mine")
    shell = bench("clean", str(results))
    assert shell.code == 0
    assert "link.safetensors is a link or no plain file, and was left" in shell.err
    assert "3.0 MiB" in shell.out
    assert shared.read_bytes() == b"of others"
    assert (results / "phases/link.safetensors").is_symlink()
    assert (inner / "mine.safetensors").exists()


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    file = tmp_path / "model.dc"
    file.write_bytes(encode({}, facts={}, index_bits="best", entropy="fixed"))
    return file


@pytest.mark.parametrize("kind", ["a link", "a device", "a named pipe"])
def test_import_replaces_nothing_but_a_file(bench: Bench, compressed: Path, kind: str) -> None:
    out = compressed.parent / "out.safetensors"
    other = compressed.parent / "other"
    other.write_bytes(b"of others")
    if kind == "a link":
        out.symlink_to(other)
    elif kind == "a named pipe":
        os.mkfifo(out)
    else:
        out = Path("/dev/null")
    before = out.lstat()
    refused(bench("import", str(compressed), "--out", str(out)), str(out), kind)
    after = out.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert other.read_bytes() == b"of others"


def test_import_replaces_a_file_whole(bench: Bench, compressed: Path) -> None:
    out = compressed.parent / "out.safetensors"
    out.write_bytes(b"old")
    shell = bench("import", str(compressed), "--out", str(out))
    assert shell.code == 0, shell.err
    assert out.read_bytes() != b"old"


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_import_does_not_wait_for_what_is_no_file(bench: Bench, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.dc"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    refused(bench("import", str(path)), "x.dc")


@pytest.mark.parametrize("command", ["run", "measure"])
@pytest.mark.parametrize("threads", ["100000", "0", "1025"])
def test_threads_have_a_bound_in_every_command(
    bench: Bench, results: Path, command: str, threads: str
) -> None:
    given = ("--methods", "dense", "--out") if command == "run" else ()
    refused(bench(command, *given, str(results), "--threads", threads), "--threads", threads)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
@pytest.mark.parametrize("flag", ["--resident-gb", "--checkpoint-seconds"])
def test_numbers_of_flags_are_finite(bench: Bench, tmp_path: Path, flag: str, value: str) -> None:
    refused(
        bench("run", "--methods", "dense", "--datasets", "digits", flag, value, "--out", "r"),
        flag,
        value,
    )
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{LONG}.toml"),
        ("run", LONG),
        ("run", "--methods", LONG),
        ("run", "--methods", "dense", "--models", f"{LONG}.py:build"),
        ("run", "--methods", "dense", "--models", LONG),
        ("run", "--methods", "dense", "--datasets", LONG),
        ("run", "--methods", "dense", "--datasets", f"imagefolder:{LONG}"),
        ("run", "--methods", "dense", "--datasets", "digits", "--weights", LONG),
        ("run", "--methods", "dense", "--datasets", "digits", "--weights", f"{LONG}.safetensors"),
        ("run", "--methods", "dense", "--datasets", "digits", "--out", LONG, "--budget", "smoke"),
        ("run", "--methods", "dense", "--datasets", "fashion", "--data-dir", LONG),
        ("run", "--methods", "dense", "--plugin", f"{LONG}.py"),
        ("report", LONG), ("status", LONG), ("clean", LONG), ("measure", LONG), ("verify", LONG),
        ("show", LONG), ("show", LONG, "--results", LONG), ("import", LONG),
        ("export", "abc", "--to", "dc", "--results", LONG), ("export", LONG, "--to", "dc"),
        ("data", "verify", LONG), ("data", "verify", "fashion", "--data-dir", LONG),
        ("list", "methods", "--plugin", LONG),
    ],
)  # fmt: skip
def test_a_name_of_300_letters_is_one_sentence(
    bench: Bench, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    shell = bench(*arguments)
    assert shell.code in (1, 2), (shell.out, shell.err)
    assert "Traceback" not in shell.err
    assert "Error" in shell.err or "no" in shell.out
    assert not list(tmp_path.glob("results*/*"))
