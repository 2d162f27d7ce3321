"""The folder of one results set: records that appear whole, and are checked when they are read."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UsageError
from bench.store.atomic import whole_file
from bench.store.json_values import Json, JsonObject, RecordError, RecordMissing, RecordUnreadable
from bench.store.locks import locked
from bench.store.records import (
    CostRecord,
    ErrorRecord,
    ResultContent,
    ResultRecord,
    read_cost,
    read_error,
    read_plan,
    read_result,
)
from bench.store.trial_identity import SCHEMA, TrialSpec

Status = Literal["finished", "failed", "started", "waiting", "unreadable"]


def write_json(path: Path, value: Json) -> None:
    """Write JSON as a file that appears whole."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, allow_nan=False)
        file.write("\n")


def file_digest(path: Path) -> str:
    """Return SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TrialFolder:
    """One trial's folder."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def status(self) -> Status:
        """Return the status by the files that are there, without reading them.

        Unreadable is a folder into which the system does not let anybody look.
        """
        try:
            if (self.path / "result.json").exists():
                return "finished"
            if (self.path / "error.json").exists():
                return "failed"
            return "started" if self.path.exists() else "waiting"
        except OSError as error:  # of a name that is too long there can be nothing
            return "waiting" if error.errno == errno.ENAMETOOLONG else "unreadable"

    def result(self) -> ResultRecord:
        """Return the finished record.

        Raises:
            RecordUnreadable: the system does not let it be read, or a newer version wrote it.
            RecordError: it is damaged or was changed by hand.
        """
        return read_result(self.path / "result.json")

    def file(self, name: str, record: ResultContent) -> Path:
        """Return a file of the trial that is the one its record was written with.

        Raises:
            UsageError: it is missing or was changed.
        """
        path = self.path / name
        if not path.is_file() or file_digest(path) != record.files.get(name):
            raise UsageError(f"{path} is not the file that its record was written with")
        return path

    def error(self) -> ErrorRecord:
        """Return what stopped a failed trial."""
        try:
            return read_error(self.path / "error.json")
        except RecordError:
            return ErrorRecord(error="its error.json is missing or unreadable", traceback="")

    def cost(self) -> tuple[CostRecord, str]:
        """Return the costs that vary between machines, and what was wrong with them.

        They are empty where they were not kept, or are not sound; their file stays as it is.
        """
        try:
            return read_cost(self.path / "cost.json"), ""
        except RecordMissing:
            return CostRecord(), ""
        except RecordError as error:
            return CostRecord(), f"the costs of trial {self.id} are not shown: {error}"


@dataclass(frozen=True)
class Finished:
    """The outcome of reading a trial's record.

    Attributes:
        record: None where there is none that can be used.
        problem: one sentence; empty where nothing is wrong.
        is_damaged: it is proven that the record is not what was written; one that is merely unreadable
            may be sound.
    """

    record: ResultRecord | None = None
    problem: str = ""
    is_damaged: bool = False

    @property
    def is_unreadable(self) -> bool:
        return bool(self.problem) and not self.is_damaged


class Results:
    """A results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"The results folder {self.folder} cannot be written ({error.strerror}); "
                "--out names another one"
            ) from error

    def trial(self, trial_id: str) -> TrialFolder:
        return TrialFolder(self.folder / "trials" / trial_id)

    def trials(self) -> Iterator[TrialFolder]:
        """Yield every trial folder there is, planned or merged in by copying, by id."""
        for path in sorted((self.folder / "trials").glob("[0-9a-f]*")):
            if path.is_dir():
                yield TrialFolder(path)

    # -- the plan ----------------------------------------------------------------------------

    @property
    def plan_file(self) -> Path:
        return self.folder / "plan.json"

    def add_to_plan(self, specs: Mapping[str, TrialSpec]) -> None:
        """Write every trial and what it depends on, beside those of earlier runs."""
        with locked(self.folder / ".plan.lock"):  # two runs may add to one folder at once
            trials: JsonObject = {
                i: {"spec": spec.as_json(), "depends_on": list(spec.depends_on)}
                for i, spec in {**self.planned(), **specs}.items()
            }
            write_json(self.plan_file, {"schema": SCHEMA, "trials": trials})

    def planned(self) -> dict[str, TrialSpec]:
        """Return the trials of the plan.

        Raises:
            UsageError: the plan is unreadable.
        """
        try:
            plan = read_plan(self.plan_file)
        except RecordMissing:
            return {}
        except RecordUnreadable as error:
            raise UsageError(f"{error}; nothing was changed") from error
        except RecordError as error:
            raise UsageError(
                f"{self.plan_file} is damaged ({error.problem}); delete it and run the same command "
                "again: finished trials are found by their folders"
            ) from error
        return {trial_id: trial.spec for trial_id, trial in plan.trials.items()}

    # -- reading -----------------------------------------------------------------------------

    def finished(self, trial_id: str) -> Finished:
        """Read a trial's record, if it is finished; whatever is found, the files stay as they are."""
        folder = self.trial(trial_id)
        state = folder.status()
        try:
            if state == "unreadable":
                folder.path.stat()  # says why
                raise RecordUnreadable("its folder cannot be looked into")
            return Finished(folder.result()) if state == "finished" else Finished()
        except RecordMissing:  # it was moved away just now
            return Finished()
        except (RecordUnreadable, OSError) as error:
            why = _why(error)
            return Finished(
                problem=f"the record of trial {trial_id} is left out and as it is: {why}"
            )
        except RecordError as error:
            problem = (
                f"the record of trial {trial_id} is left out, for it is damaged: {error.problem}"
            )
            return Finished(problem=problem, is_damaged=True)

    def quarantine(self, folder: TrialFolder) -> str:
        """Move a damaged trial's folder to `quarantine/`, and return what is to be said about it."""
        kept = self.set_aside(folder, "quarantine")
        return (
            f"trial {folder.id} was damaged, and its folder was moved to {kept}: look into it, or delete "
            "it; bench run computes the trial again"
        )

    def set_aside(self, folder: TrialFolder, home_name: str) -> Path:
        """Move a trial's folder away under a free name, and say where to; nothing is deleted."""
        return self.move_away(folder.path, home_name, folder.id)

    def move_away(self, path: Path, home_name: str, name: str) -> Path:
        """Move a file or folder away, and return where to: the name with the first free number."""
        home = self.folder / home_name
        home.mkdir(exist_ok=True)
        number = 1
        while (home / f"{name}-{number}").exists():
            number += 1
        kept = home / f"{name}-{number}"
        path.rename(kept)
        return kept


def _why(error: RecordError | OSError) -> str:
    return error.problem if isinstance(error, RecordError) else str(error.strerror)


def newest(root: Path = Path("results")) -> Results:
    """Return the results folder that was run last.

    Raises:
        UsageError: there is none.
    """
    plans = sorted(root.glob("*/plan.json"), key=lambda p: p.stat().st_mtime)
    if not plans:
        raise UsageError(
            f"There are no results in {root}/ yet; bench run --methods magnitude makes some, and "
            "bench report FOLDER reports others"
        )
    return Results(plans[-1].parent)
