"""The folder of one results set: records that appear whole, and are checked when they are read."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from bench.errors import UsageError
from bench.store.atomic import whole_file
from bench.store.trial_identity import SCHEMA, TrialSpec, canonical

Status = Literal["finished", "failed", "started", "waiting"]


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, flush it to disk and rename it."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def file_digest(path: Path) -> str:
    """Return SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the hash of its own content, by which tampering shows."""
    return {**result, "sha256": hashlib.sha256(canonical(dict(result))).hexdigest()}


@dataclass(frozen=True)
class TrialFolder:
    """One trial's folder."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def status(self) -> Status:
        """Return the status by the files that are there, without reading them."""
        if (self.path / "result.json").exists():
            return "finished"
        if (self.path / "error.json").exists():
            return "failed"
        return "started" if self.path.exists() else "waiting"

    def result(self) -> dict[str, Any]:
        """Return the finished record.

        Raises:
            ValueError: it is unreadable, was changed by hand or belongs to another schema.
        """
        result = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        if not isinstance(result, dict) or "sha256" not in result:
            raise ValueError("it is not a trial's record")
        content = {k: v for k, v in result.items() if k != "sha256"}
        if sealed(content)["sha256"] != result["sha256"]:
            raise ValueError("its content does not match its checksum")
        if result["schema"] != SCHEMA:
            raise ValueError(f"it has schema {result['schema']}, this version reads {SCHEMA}")
        if TrialSpec.from_json(result["spec"]).id != self.id:
            raise ValueError("its specification belongs to another id")
        return result

    def file(self, name: str, record: Mapping[str, Any]) -> Path:
        """Return a file of the trial that is the one its record was written with.

        Raises:
            UsageError: it is missing or was changed.
        """
        path = self.path / name
        if not path.is_file() or file_digest(path) != record["files"].get(name):
            raise UsageError(f"{path} is not the file that its record was written with")
        return path

    def error(self) -> dict[str, Any]:
        """Return what stopped a failed trial: `error`, a sentence, and `traceback`."""
        try:
            error: dict[str, Any] = json.loads((self.path / "error.json").read_text("utf-8"))
            return {"error": str(error["error"]), "traceback": str(error.get("traceback", ""))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {"error": "its error.json is missing or unreadable", "traceback": ""}

    def cost(self) -> dict[str, Any]:
        """Return the costs that vary between machines; empty where they were not kept."""
        try:
            cost: dict[str, Any] = json.loads((self.path / "cost.json").read_text("utf-8"))
            return cost
        except (OSError, ValueError):
            return {}


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
        with FileLock(self.folder / ".plan.lock"):  # two runs may add to one folder at once
            merged = {**self.planned(), **specs}
            trials = {
                i: {"spec": s.as_json(), "depends_on": list(s.depends_on)}
                for i, s in merged.items()
            }
            write_json(self.plan_file, {"schema": SCHEMA, "trials": trials})

    def planned(self) -> dict[str, TrialSpec]:
        """Return the trials of the plan.

        Raises:
            UsageError: the plan is unreadable.
        """
        try:
            plan = json.loads(self.plan_file.read_text(encoding="utf-8"))
            return {i: TrialSpec.from_json(t["spec"]) for i, t in plan["trials"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.plan_file} is unreadable ({error}); delete it and run the same command "
                "again: finished trials are found by their folders"
            ) from error

    # -- reading -----------------------------------------------------------------------------

    def finished(self, trial_id: str) -> tuple[dict[str, Any] | None, str]:
        """Return a trial's record if it is there and sound, and what was wrong if it is not.

        An unsound record is moved to `quarantine/`, where nothing is lost.
        """
        folder = self.trial(trial_id)
        if folder.status() != "finished":
            return None, ""
        try:
            return folder.result(), ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            kept = self.set_aside(folder, "quarantine")
            return None, f"the record of trial {trial_id} was moved to {kept}: {error}"

    def set_aside(self, folder: TrialFolder, home_name: str) -> Path:
        """Move a trial's folder away under a free name, and say where to; nothing is deleted."""
        home = self.folder / home_name
        home.mkdir(exist_ok=True)
        number = 1
        while (home / f"{folder.id}-{number}").exists():
            number += 1
        kept = home / f"{folder.id}-{number}"
        folder.path.rename(kept)
        return kept


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
