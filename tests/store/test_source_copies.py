"""Copies of users' files are what their hash says, and a user's own code is remembered."""

import os
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.store.source_copies import SourceCopies, remember, remembered
from bench.store.source_files import SourceFiles, read_source_files


@pytest.fixture
def files(tmp_path: Path) -> SourceFiles:
    folder = tmp_path / "mine"
    (folder / "pack").mkdir(parents=True)
    (folder / "main.py").write_text("from pack import inner  # a comment\n")
    (folder / "pack" / "inner.py").write_text("x = 1\n")
    (folder / "unrelated.py").write_text("y = 1\n")
    return read_source_files(folder / "main.py")


@pytest.fixture
def copies(tmp_path: Path, files: SourceFiles) -> SourceCopies:
    found = SourceCopies(tmp_path / "results" / "sources")
    found.keep(files)
    return found


def test_a_copy_has_the_names_and_texts_of_the_files(
    copies: SourceCopies, files: SourceFiles
) -> None:
    folder = copies.folder / files.hash
    there = {str(p.relative_to(folder)) for p in folder.rglob("*.py")}
    assert there == {"main.py", "pack/inner.py"}
    assert (folder / "main.py").read_text() == "from pack import inner  # a comment\n"
    found = copies.find(files.hash)
    assert (found.main, found.texts, found.hash) == ("main.py", files.texts, files.hash)
    assert [p.name for p in copies.folder.iterdir()] == [files.hash]


def test_a_copy_is_written_once(copies: SourceCopies, files: SourceFiles) -> None:
    before = (copies.folder / files.hash / "main.py").stat()
    copies.keep(files)
    assert (copies.folder / files.hash / "main.py").stat() == before


@pytest.mark.parametrize("damage", ["edited", "missing", "added", "data", "link", "fifo", "gone"])
def test_a_copy_that_was_changed_is_refused_and_written_again(
    copies: SourceCopies, files: SourceFiles, damage: str, tmp_path: Path
) -> None:
    folder = copies.folder / files.hash
    inner = folder / "pack" / "inner.py"
    if damage == "edited":
        inner.write_text("x = 2\n")
    elif damage == "missing":
        inner.unlink()
    elif damage == "added":
        (folder / "more.py").write_text("")
    elif damage == "data":
        (folder / "weights.pt").write_bytes(b"read by honest code")
    elif damage == "link":
        inner.unlink()
        inner.symlink_to(tmp_path / "mine" / "pack" / "inner.py")
    elif damage == "fifo":
        os.mkfifo(folder / "pipe.py")
    else:
        folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        copies.find(files.hash)
    copies.keep(files)
    assert copies.find(files.hash).texts == files.texts
    assert [p.name for p in copies.folder.iterdir()] == [files.hash]


def test_comments_may_differ_and_compiled_files_are_not_looked_at(
    copies: SourceCopies, files: SourceFiles
) -> None:
    folder = copies.folder / files.hash
    (folder / "main.py").write_text("from pack import inner\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"anything")
    assert copies.find(files.hash).texts.keys() == files.texts.keys()


@pytest.mark.parametrize("name", ["../mine", "..", "", "0" * 32, "A" * 32])
def test_only_a_hash_is_a_copys_name(copies: SourceCopies, name: str) -> None:
    with pytest.raises(UsageError, match="there is no copy"):
        copies.find(name)


def test_what_a_user_ran_is_remembered(
    files: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert remembered(files.hash) is None
    remember(files)
    assert remembered(files.hash) == tmp_path / "mine" / "main.py"
    (note,) = (tmp_path / "cache").rglob("*.json")
    note.write_text("[")
    assert remembered(files.hash) is None


def test_a_cache_that_cannot_be_written_stops_nothing(
    files: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember(files)
    assert remembered(files.hash) is None


def test_without_a_setting_the_cache_is_in_the_home_folder(
    files: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative"):  # the standard ignores relative ones
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        remember(files)
    assert list((tmp_path / ".cache" / "prunebench").rglob("*.json"))
