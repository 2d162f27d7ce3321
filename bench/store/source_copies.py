"""Copies of users' files in a results folder, and the list of the code that this user has run.

`sources/<hash>/` holds a file and its neighbours under their names. A results folder may come from
anybody: what a copy holds is compared with its hash, and a file is run only if its user named it or ran
the same code before.
"""

import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from bench.errors import UsageError
from bench.store.atomic import whole_file
from bench.store.json_values import RecordError, read_json
from bench.store.source_files import SourceFiles, source_files_in
from bench.store.user_cache import user_cache

_HASH = re.compile(r"[0-9a-f]{32}")
_MOST_BYTES = 2**26  # of all files of a copy that are read


def is_source_hash(value: object) -> bool:
    """Return True for what can be the hash of a user's file, and the name of a folder."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


class SourceCopies:
    """The folder `sources/` of one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, files: SourceFiles) -> None:
        """Copy a user's file and its neighbours, unless they are there already.

        Raises:
            UsageError: the folder cannot be written.
        """
        target = self.folder / files.hash
        if _is_sound(self, files.hash):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self.folder) as part:
                new, old = Path(part) / "new", Path(part) / "old"
                for name, text in files.texts.items():
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    (new / name).write_bytes(text)
                with suppress(FileNotFoundError):
                    target.rename(old)  # damaged
                with suppress(OSError):  # another run was faster
                    new.rename(target)
        except OSError as error:
            raise UsageError(
                f"{self.folder}, where copies of your files are kept, cannot be written "
                f"({error.strerror}); --out names another results folder"
            ) from error
        if not _is_sound(self, files.hash):
            raise UsageError(f"{target} cannot be written; --out names another results folder")

    def find(self, digest: str) -> SourceFiles:
        """Return the files of a copy; nothing of them is run.

        Raises:
            UsageError: there is no copy, or it is not the code of that hash.
        """
        folder = self.folder / digest
        if not is_source_hash(digest) or not folder.is_dir():
            raise UsageError(f"there is no copy of it in {self.folder}")
        texts = _texts_of(folder)
        for main in (name for name in sorted(texts) if "/" not in name):
            try:
                files = source_files_in(folder.resolve(), main, texts.get)
            except UsageError:
                continue
            # A file beside the code may be read by it, and could be anybody's.
            if files.texts.keys() == texts.keys() and files.hash == digest:
                return files
        raise UsageError(f"{folder} does not hold the code of that hash alone; it was changed")


def _is_sound(copies: SourceCopies, digest: str) -> bool:
    try:
        copies.find(digest)
    except UsageError:
        return False
    return True


def _texts_of(folder: Path) -> dict[str, bytes]:
    """Read the files of a copy.

    Raises:
        UsageError: one cannot be read, or they are none.
    """
    texts = {}
    left = _MOST_BYTES
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "__pycache__" in path.relative_to(folder).parts or (
            path.is_dir() and not path.is_symlink()
        ):
            continue  # compiled forms are never read
        if path.is_symlink() or not path.is_file() or path.stat().st_size > left:
            raise UsageError(f"{path} is no copy of a user's file")
        try:
            texts[name] = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from error
        left -= len(texts[name])
    return texts


# -- what this user has run ------------------------------------------------------------------------


def remember(files: SourceFiles) -> None:
    """Note that this user runs a file; where nothing can be written, nothing is noted."""
    folder = user_cache() / "own-sources"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{files.hash}.json") as part:
            part.write_text(json.dumps({"path": str(files.path)}) + "\n", encoding="utf-8")


def remembered(digest: str) -> Path | None:
    """Return where a user's file of this hash stood when this user ran it last; None if never."""
    try:
        found = read_json(user_cache() / "own-sources" / f"{digest}.json")
    except RecordError:
        return None
    path = found.get("path") if isinstance(found, dict) else None
    return Path(path) if isinstance(path, str) and os.path.isabs(path) else None  # noqa: PTH117
