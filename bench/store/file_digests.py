"""SHA-256 of files, each read once: what was hashed before is kept for the user, by path, size and times."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from bench.errors import DataDamaged, DataMissing, UsageError
from bench.store.atomic import whole_file
from bench.store.json_values import RecordError, read_json

# A file that is written twice within the resolution of its times would keep its entry.
_YOUNG_NANOSECONDS = 2 * 10**9
_THREADS = 4  # reading and hashing both let other threads run
_AT_ONCE = 512  # files handed to them: there may be millions, and an interruption waits for these


class Watch(Protocol):
    """Is told how far the hashing of many files is."""

    def begin(self, files: int, size: int) -> None: ...
    def advance(self, size: int) -> None: ...
    def end(self) -> None: ...


class NoWatch:
    """Shows nothing."""

    def begin(self, files: int, size: int) -> None: ...
    def advance(self, size: int) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class _Facts:
    """The facts of a file that change with its content.

    Attributes:
        changed: time of the last change of its entry; a renamed file keeps the other time.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Facts":
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def is_young(self, now: int) -> bool:
        return now - max(self.modified, self.changed) < _YOUNG_NANOSECONDS


_Known: TypeAlias = dict[str, tuple[_Facts, str]]


def cache_folder() -> Path | None:
    """Return the user's folder for what can be computed again; None where there is none."""
    if own := os.environ.get("BENCH_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "prunebench"
    try:
        return Path.home() / ".cache" / "prunebench"
    except RuntimeError:  # a user without a home
        return None


class FileDigests:
    """Hashes files, and keeps the hashes under the user's cache folder where that can be written.

    Attributes:
        is_fresh: every file is read, whatever is known of it.
    """

    def __init__(self, watch: Watch | None = None, is_fresh: bool = False) -> None:
        self.watch: Watch = watch or NoWatch()
        self.is_fresh = is_fresh
        cache = cache_folder()
        self._cache = cache / "digests" if cache is not None else None

    def __call__(self, folder: Path, names: Sequence[str]) -> list[str]:
        """Return SHA-256 of each file.

        Raises:
            DataMissing, DataDamaged: a file is not there, or changes while it is read.
            UsageError: a file cannot be read.
        """
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay, ".." goes
        known = self._known(folder)
        now = time.time_ns()
        # Of texts, not of paths: there may be millions, and paths are slow to make.
        facts = [_facts(f"{folder}{os.sep}{name}") for name in names]
        digests = {
            name: known[name][1]
            for name, found in zip(names, facts, strict=True)
            if not self.is_fresh and name in known and known[name][0] == found
        }
        todo = [(n, f) for n, f in zip(names, facts, strict=True) if n not in digests]
        try:
            for (name, found), digest in zip(todo, self._hashed(folder, todo), strict=True):
                digests[name] = digest
                known.pop(name, None)
                if not found.is_young(now):
                    known[name] = (found, digest)
        finally:  # what is hashed before an interruption is not hashed again
            if todo:
                self._keep(folder, known)
        return [digests[name] for name in names]

    def _hashed(self, folder: Path, todo: list[tuple[str, _Facts]]) -> Iterator[str]:
        self.watch.begin(len(todo), sum(found.size for _, found in todo))
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                for start in range(0, len(todo), _AT_ONCE):
                    some = todo[start : start + _AT_ONCE]
                    read = pool.map(lambda each: _hash(f"{folder}{os.sep}{each[0]}", each[1]), some)
                    for (_, found), digest in zip(some, read, strict=True):
                        self.watch.advance(found.size)
                        yield digest
        finally:
            self.watch.end()

    def _file(self, folder: Path) -> Path | None:
        if self._cache is None:
            return None
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
        return self._cache / f"{name}.json"

    def _known(self, folder: Path) -> _Known:
        """Read what was hashed before; a cache that is not sound is no cache."""
        file = self._file(folder)
        if file is None:
            return {}
        try:
            kept = read_json(file)
        except RecordError:
            return {}
        files = kept.get("files") if isinstance(kept, dict) else None
        rows = files.items() if isinstance(files, dict) else ()
        return {name: entry for name, row in rows if (entry := _entry(row)) is not None}

    def _keep(self, folder: Path, known: _Known) -> None:
        file = self._file(folder)
        if file is None:
            return
        rows = {
            name: [f.size, f.modified, f.changed, f.inode, digest]
            for name, (f, digest) in known.items()
        }
        with suppress(OSError):  # a home that cannot be written costs time, not the run
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as part:
                part.write_text(json.dumps({"folder": str(folder), "files": rows}), "utf-8")


def _entry(row: object) -> tuple[_Facts, str] | None:
    if not isinstance(row, list) or len(row) != 5:
        return None
    *numbers, digest = row
    is_sound = isinstance(digest, str) and all(type(n) is int for n in numbers)
    return (_Facts(*numbers), digest) if is_sound else None


def _facts(path: str) -> _Facts:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError as error:
        raise DataMissing(f"{path} is missing; put the data set's file back") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataDamaged(f"{path} is not a file; put the data set's file there")
    return _Facts.of(found)


def _hash(path: str, expected: _Facts) -> str:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            found = _Facts.of(os.fstat(file.fileno()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    if found != expected:
        raise DataDamaged(f"{path} changed while it was read; wait until it is written")
    return digest
