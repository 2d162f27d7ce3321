"""The names of data sets in a report: one name for each content, two contents never under one name."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.store.json_values import RecordError
from bench.store.records import read_spec
from bench.store.results import TrialFolder
from bench.store.trial_identity import TrialSpec

FOLDER = "imagefolder:"  # before the digest that stands for a folder's path
DIGITS = 8


@dataclass
class DatasetNames:
    """The contents that each data set has in a report, and the folders' names."""

    _contents: dict[str, set[str | None]] = field(default_factory=lambda: defaultdict(set))
    _folders: dict[str, str] = field(default_factory=dict)

    def note(self, spec: TrialSpec, trial: TrialFolder) -> None:
        """Take in a finished trial's data."""
        self._contents[spec.dataset].add(spec.data)
        if spec.dataset.startswith(FOLDER) and spec.data and spec.dataset not in self._folders:
            self._folders[spec.dataset] = folder_name(trial)

    def shown(self, spec: TrialSpec) -> str:
        """Return the name of a trial's data: of a folder, or of one of several contents, with digits."""
        name = self._folders.get(spec.dataset)
        if name is not None:
            return in_words(name, spec)
        several = len(self._contents[spec.dataset]) > 1
        return f"{spec.dataset}-{spec.data[:DIGITS]}" if several and spec.data else spec.dataset


def in_words(folder: str, spec: TrialSpec) -> str:
    """Return the name of a user's images: the folder's, as it was, and the beginning of their digest."""
    return f"{FOLDER}{folder}-{str(spec.data)[:DIGITS]}" if folder else spec.dataset


def folder_name(trial: TrialFolder) -> str:
    """Return the name of the folder that a trial's images lay in; empty where it was not kept."""
    try:
        place = read_spec(trial.path / "spec.json").data
    except RecordError:
        return ""
    return Path(place.path).name if place is not None else ""
