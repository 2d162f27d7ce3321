"""Hashes of files: right, read once, and never trusted where a file may have changed unseen."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from bench.errors import DataDamaged, DataMissing
from bench.store.file_digests import FileDigests, cache_folder

LONG_AGO = 1_600_000_000 * 10**9


class Counted:
    """Notes how many files are read."""

    def __init__(self) -> None:
        self.files = 0

    def begin(self, files: int, size: int) -> None:
        self.files += files

    def advance(self, size: int) -> None: ...
    def end(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b", "deep/c"):
        write(tmp_path / "data" / name, name.encode() * 1000)
    return tmp_path / "data"


def write(path: Path, content: bytes, at: int = LONG_AGO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(at, at))


def read(folder: Path, *names: str, is_fresh: bool = False) -> tuple[list[str], int]:
    watch = Counted()
    digests = FileDigests(watch, is_fresh)(folder, names or ("a", "b", "deep/c"))
    return digests, watch.files


def grown_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files' times of change, which no test can set, lie in the past."""
    import time

    later = time.time_ns() + 10 * 10**9
    monkeypatch.setattr("bench.store.file_digests.time.time_ns", lambda: later)


def test_hashes_are_those_of_the_files_and_are_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old(monkeypatch)
    expected = [hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("a", "b", "deep/c")]
    assert read(folder) == (expected, 3)
    assert read(folder) == (expected, 0)
    monkeypatch.chdir(folder)
    assert read(Path()) == (expected, 0)  # the same folder by another spelling
    assert read(folder, is_fresh=True) == (expected, 3)


def test_young_files_are_hashed_again(folder: Path) -> None:
    assert read(folder)[1] == 3
    assert read(folder)[1] == 3


def test_a_changed_file_is_hashed_again_and_the_others_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old(monkeypatch)
    before, _ = read(folder)
    write(folder / "b", b"b" * 999)
    after, count = read(folder)
    assert count == 1
    assert [x == y for x, y in zip(before, after, strict=True)] == [True, False, True]


def test_files_that_exchange_their_names_are_seen_though_sizes_and_times_are_equal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_old(monkeypatch)
    (first, second), _ = read(folder, "a", "b")
    (folder / "a").rename(folder / "x")
    (folder / "b").rename(folder / "a")
    (folder / "x").rename(folder / "b")
    assert read(folder, "a", "b")[0] == [second, first]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": [1]}', '{"files": {"a": [1, 2]}}',
                                     '{"files": {"a": ["x", 2, 3, 4, "d"]}}'])  # fmt: skip
def test_a_cache_that_is_not_sound_is_no_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    grown_old(monkeypatch)
    expected, _ = read(folder)
    (file,) = (folder.parent / "cache").rglob("*.json")
    assert json.loads(file.read_text())["folder"] == str(folder)
    file.write_text(content)
    assert read(folder)[0] == expected


def test_a_home_that_cannot_be_written_costs_time_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "file").write_text("no folder can be made here")
    monkeypatch.setenv("BENCH_CACHE", str(folder.parent / "file" / "cache"))
    assert read(folder) == read(folder)


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_CACHE", "own")
    monkeypatch.setenv("XDG_CACHE_HOME", "shared")
    assert cache_folder() == Path("own")
    monkeypatch.delenv("BENCH_CACHE")
    assert cache_folder() == Path("shared/prunebench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "prunebench"


def test_what_is_missing_or_no_file_is_named(folder: Path) -> None:
    with pytest.raises(DataMissing, match="nowhere"):
        read(folder, "nowhere")
    with pytest.raises(DataDamaged, match="deep is not a file"):
        read(folder, "deep")
