"""The identity of data in a plan: a digest of its content, and where it lay.

What comes inside a package is identified by its name, what is drawn by its code and seed. Everything else
is read once while trials are planned.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.content import digest_of_files, digest_of_split, mark_of_files, mark_of_part
from bench.data.dataset import Dataset, check_images
from bench.data.splits import Split
from bench.errors import DataMissing, UsageError, UsersCodeFailed, users_code
from bench.plan.registry import FOLDER, Registry
from bench.store.file_digests import FileDigests
from bench.store.records import DataPlace

NOT_HERE = "not here"  # stands for the digest of data that a dry run does without
_DIGITS, _DIGITS_OF_NAME = 32, 12


@dataclass(frozen=True)
class PlannedData:
    """The data of trials as they were when these were planned.

    Attributes:
        dataset: the name in specifications; a folder's holds its digest in place of its path.
        seed: of the trials, where every seed has its own draw.
        marks: of the files together, or of the three parts, by which a later reader sees a change.
        planned_at: nanoseconds since 1970, before any of them was read.
    """

    dataset: str
    seed: int | None
    digest: str
    place: DataPlace
    marks: tuple[str, ...] = ()
    planned_at: int = 0


class DataIdentities:
    """Finds the identity of each data set of a plan, once.

    Attributes:
        found: the data of the plan so far.
        checked: names of data sets that were loaded and are sound.
        missing: what a dry run does without, in words.
    """

    def __init__(
        self,
        registry: Registry,
        data_dir: Path,
        hash_files: FileDigests | None = None,
        may_be_missing: bool = False,
    ) -> None:
        self.registry, self.data_dir = registry, data_dir
        self.hash_files = hash_files or FileDigests()
        self.may_be_missing = may_be_missing
        self.found: list[PlannedData] = []
        self.checked: set[str] = set()
        self.missing: dict[str, str] = {}
        self._datasets: dict[str, Dataset] = {}
        self._by_name: dict[tuple[str, int | None], PlannedData | None] = {}

    def of(self, name: str, seed: int) -> PlannedData | None:
        """Return the data that a trial reads; None where a name, or code and seed, say it all.

        Raises:
            DataMissing, DataDamaged: the files are not there or not sound.
        """
        if name not in self._datasets:  # an image folder is walked through when it is made
            self._datasets[name] = self.registry.dataset(name)
        always = self._datasets[name]
        dataset = always.for_seed(seed)
        key = (name, None if dataset is always else seed)
        if key not in self._by_name:
            self._by_name[key] = self._found(name, key[1], dataset)
        return self._by_name[key]

    def _found(self, name: str, seed: int | None, dataset: Dataset) -> PlannedData | None:
        is_shipped = self.registry.find("datasets", name).is_shipped
        is_drawn = seed is not None
        if not dataset.needs_files and (is_shipped or is_drawn):
            return None
        try:
            planned = self._read(name, seed, dataset, is_shipped)
        except DataMissing as error:
            if not self.may_be_missing:
                raise
            self.missing[name] = str(error)
            return PlannedData(name, seed, NOT_HERE, DataPlace(path=str(self.data_dir)))
        if (same := find(self.found, planned.dataset, seed)) is not None:
            return same  # another spelling of its path, or a copy
        self.found.append(planned)
        self.checked |= {planned.dataset} if name in self.checked else set()
        if planned.dataset != name:
            self.registry.add_folder(planned.dataset, planned.place)
        return planned

    def _read(self, name: str, seed: int | None, dataset: Dataset, is_shipped: bool) -> PlannedData:
        now = time.time_ns()
        files = raw_files(dataset, self.data_dir) if is_shipped else ()
        if files and all((self.data_dir / file).is_file() for file in files):
            marks: tuple[str, ...] = (mark_of_files(self.data_dir, files),)
            digest = digest_of_files(self.data_dir, files, self.hash_files)
        else:
            split = loaded(dataset, name, self.data_dir)
            self.checked.add(name)
            marks = tuple(
                mark_of_part(part) for part in (split.train, split.validation, split.test)
            )
            digest = digest_of_split(split, dataset.classes, self.hash_files)
        digest = digest[:_DIGITS]
        if not name.startswith(FOLDER):
            return PlannedData(name, seed, digest, _place(self.data_dir), marks, now)
        place = _place(
            self.registry.find("datasets", name).path, classes=list(getattr(dataset, "names", ()))
        )
        short = f"{FOLDER}{digest[:_DIGITS_OF_NAME]}"
        return PlannedData(short, seed, digest, place, marks, now)


def find(planned: Sequence[PlannedData], dataset: str, seed: int | None) -> PlannedData | None:
    """Return the data of a name and draw."""
    return next((p for p in planned if (p.dataset, p.seed) == (dataset, seed)), None)


def raw_files(dataset: Dataset, root: Path) -> tuple[str, ...]:
    """Return the files that hold all of a shipped data set, relative to `root`; none where it has many."""
    return tuple(path.relative_to(root).as_posix() for path in dataset.files(root))


def loaded(dataset: Dataset, name: str, data_dir: Path) -> Split:
    """Load a data set and look at everything that can be seen without decoding files.

    Raises:
        UsageError: its code fails, or gives something else than the data it declares.
        DataMissing, DataDamaged: the files are not there or not sound.
    """
    try:
        with users_code():
            split: object = dataset.load(data_dir)
    except UsersCodeFailed as error:
        raise UsageError(f"{name} cannot be loaded: {error}") from error
    if not isinstance(split, Split):
        raise UsageError(f"{name}: load() must give a Split, not a {type(split).__name__}")
    for part in (split.train, split.validation, split.test):
        if part is split.train and len(part) == 0:
            continue  # evaluation does without training images
        check_images(part, dataset.shape, dataset.classes, name)
    return split


def _place(path: Path, **more: list[str]) -> DataPlace:
    return DataPlace(path=os.path.abspath(path), **more)  # noqa: PTH100 - links stay, ".." goes
