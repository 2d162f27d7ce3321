"""The inspection of a results folder: what of it is damaged, unreadable, unfinished or not ours.

Looking changes nothing. Repairing moves what is proven to be damaged to `quarantine/`, where nothing is
lost, and deletes what ended processes left half written.
"""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from filelock import Timeout

from bench.errors import UsageError
from bench.store.json_values import RecordError, RecordMissing, RecordUnreadable
from bench.store.locks import lock_of
from bench.store.phase_cache import check_phase
from bench.store.records import ResultRecord, read_cost, read_environment, read_error, read_spec
from bench.store.results import Results, TrialFolder, file_digest
from bench.store.source_copies import SourceCopies, is_source_hash
from bench.store.trial_identity import is_trial_id

Kind = Literal["damaged", "unreadable", "missing", "left over", "foreign"]
PROBLEMS: tuple[Kind, ...] = ("damaged", "unreadable")

_OF_A_FOLDER = {"plan.json", ".plan.lock", ".measure.lock", "locks", "trials", "phases", "sources",
                "quarantine", "superseded", "palette.json", "runs.csv", "summary.csv", "report.html",
                "figures", "tables"}  # fmt: skip
_BESIDE_A_RECORD = {"cost.json": read_cost, "env.json": read_environment, "spec.json": read_spec,
                    "error.json": read_error}  # fmt: skip
_OF_A_TRIAL = {*_BESIDE_A_RECORD, "result.json", "log.jsonl", "handover.json"}
_STALE_SECONDS = 3600.0  # a file that is being written is younger


@dataclass(frozen=True)
class Finding:
    """Something in a results folder that is not as it should be, or not ours.

    Attributes:
        path: from the results folder.
        what: the rest of the sentence.
        done: what repairing did about it; empty: nothing.
    """

    kind: Kind
    path: str
    what: str
    done: str = ""

    @property
    def is_open(self) -> bool:
        """Return True for a problem that still is there."""
        return self.kind in PROBLEMS and not self.done


@dataclass
class Inspection:
    """All that was found.

    Attributes:
        states: how many of the planned trials, and of those that are there, are in which state.
        phases: files of the cache that were read.
    """

    findings: list[Finding] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    phases: int = 0


def inspect(
    results: Results, repair: bool = False, tell: Callable[[int, int], None] = lambda done, of: None
) -> Inspection:
    """Look at every file of a results folder.

    Args:
        repair: move damaged trials and files to `quarantine/`, and delete what was left half written.
        tell: is given how many trials and files of the cache were read, and how many there are.
    """
    return _Inspector(results, repair, tell).run()


class _Inspector:
    def __init__(self, results: Results, repair: bool, tell: Callable[[int, int], None]) -> None:
        self.results, self.repair, self.tell = results, repair, tell
        self.home = results.folder
        self.found = Inspection()

    def run(self) -> Inspection:
        phases = [*_files(self.home / "phases"), *_files(self.home / "phases" / "progress")]
        trials = sorted(_entries(self.home / "trials"))
        self._plan({path.name for path in trials})
        for done, path in enumerate(trials):
            self.tell(done, len(trials) + len(phases))
            self._trial(path)
        for done, path in enumerate(phases, len(trials)):
            self.tell(done, len(trials) + len(phases))
            self._phase(path)
        for path in sorted(_entries(self.home / "sources")):
            self._source(path)
        for path in sorted(_entries(self.home)):
            if path.name not in _OF_A_FOLDER:
                self._left_over_or_foreign(path)
        return self.found

    # -- parts of a folder -------------------------------------------------------------------

    def _plan(self, there: set[str]) -> None:
        try:
            planned = self.results.planned()
        except UsageError as error:
            is_damaged = not isinstance(error.__cause__, RecordUnreadable)
            what = str(error).removeprefix(f"{self.results.plan_file} is ")
            self._note("damaged" if is_damaged else "unreadable", self.results.plan_file, what)
            return
        missing = sorted(planned.keys() - there)
        self.found.states["waiting"] += len(missing)
        if missing:
            shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
            self._note(
                "missing",
                self.home / "trials",
                f"{len(missing)} planned trials have not begun: {shown}",
            )

    def _trial(self, path: Path) -> None:
        if not is_trial_id(path.name) or not path.is_dir() or path.is_symlink():
            self._left_over_or_foreign(path)
            return
        folder = TrialFolder(path)
        state = folder.status()
        self.found.states[state] += 1
        own = set(_OF_A_TRIAL)
        if state == "unreadable":
            self._note("unreadable", path, self.results.finished(path.name).problem)
            return
        if state == "finished":
            found = self.results.finished(path.name)
            if found.record is None:
                kind: Kind = "damaged" if found.is_damaged else "unreadable"
                self._note(
                    kind, path / "result.json", found.problem, self._quarantine(folder, kind)
                )
                return
            own |= set(found.record.files)
            if self._files_of(folder, found.record):
                return
        self._beside(folder)
        for file in sorted(_entries(path)):
            if file.name not in own and not (
                state != "finished" and file.suffix in (".safetensors", ".dc")
            ):
                self._left_over_or_foreign(file)

    def _files_of(self, folder: TrialFolder, record: ResultRecord) -> bool:
        """Compare a trial's files with its record; True if the trial is no longer in its place."""
        for name, digest in record.files.items():
            file = folder.path / name
            try:
                what = (
                    ""
                    if file_digest(file) == digest
                    else "it is not what its record was written with"
                )
            except FileNotFoundError:
                what = "it is missing"
            except OSError as error:
                self._note("unreadable", file, f"it cannot be read ({error.strerror})")
                continue
            if what:
                done = self._quarantine(folder, "damaged")
                self._note("damaged", file, what, done)
                if done:
                    return True
        return False

    def _beside(self, folder: TrialFolder) -> None:
        for name, read in _BESIDE_A_RECORD.items():
            try:
                read(folder.path / name)
            except RecordMissing:
                continue
            except RecordUnreadable as error:
                self._note("unreadable", folder.path / name, error.problem)
            except RecordError as error:
                done = self._set_aside(folder.path / name, f"{folder.id}-{name}")
                self._note("damaged", folder.path / name, error.problem, done)

    def _phase(self, path: Path) -> None:
        if path.suffix != ".safetensors":
            self._left_over_or_foreign(path)
            return
        self.found.phases += 1
        try:
            what = check_phase(path)
        except FileNotFoundError:  # finished, or forgotten, meanwhile
            return
        except OSError as error:
            self._note("unreadable", path, f"it cannot be read ({error.strerror})")
            return
        if what:
            self._note("damaged", path, what, self._set_aside(path, f"phases-{path.name}"))

    def _source(self, path: Path) -> None:
        if not is_source_hash(path.name):
            self._left_over_or_foreign(path)
            return
        try:
            SourceCopies(path.parent).find(path.name)
        except UsageError as error:
            done = self._set_aside(path, f"sources-{path.name}")
            self._note("damaged", path, str(error).removeprefix(f"{path} "), done)

    def _left_over_or_foreign(self, path: Path) -> None:
        is_part = path.name.endswith(".part") or path.name.startswith((".new-", ".write-"))
        if not is_part:
            self._note("foreign", path, "no file of bench; it is left alone")
            return
        done = ""
        with suppress(OSError):
            if self.repair and time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                done = "deleted"
        self._note(
            "left over", path, "half written by a process that was ended, or is writing it", done
        )

    # -- what is done ------------------------------------------------------------------------

    def _quarantine(self, folder: TrialFolder, kind: Kind) -> str:
        """Move a damaged trial away, unless a run has it in hand."""
        if not self.repair or kind != "damaged":
            return ""
        locks = self.home / "locks"
        try:
            locks.mkdir(exist_ok=True)
            with lock_of(locks / f"{folder.id}.lock", timeout=0):
                return f"moved to {self.results.set_aside(folder, 'quarantine')}"
        except (Timeout, OSError, NotImplementedError):
            return ""

    def _set_aside(self, path: Path, name: str) -> str:
        if not self.repair:
            return ""
        try:
            return f"moved to {self.results.move_away(path, 'quarantine', name)}"
        except OSError:
            return ""

    def _note(self, kind: Kind, path: Path, what: str, done: str = "") -> None:
        name = path.relative_to(self.home).as_posix()
        self.found.findings.append(Finding(kind, name, what, done))


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder; nothing where there is none, or nobody may look into it."""
    with suppress(OSError):
        yield from folder.iterdir()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if path.is_file())


# -- the machine ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """The disk, memory and locks that a run finds where a results folder lies.

    Attributes:
        free_bytes: of its disk; None where the system does not say.
        memory_bytes: that processes may still take.
        may_write: whether this user may write into it.
        locks: what is wrong with locks there; empty: they work. None: nobody has made one to try yet.
    """

    free_bytes: int | None
    memory_bytes: int | None
    may_write: bool
    locks: str | None


def surroundings(folder: Path) -> Surroundings:
    """Return the state of a folder's disk and of the machine; nothing is written."""
    free = None
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
    return Surroundings(free, _memory(), os.access(folder, os.W_OK), _locks(folder / ".plan.lock"))


def _memory() -> int | None:
    """Return the bytes that are available, where the system says it as Linux does."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _locks(path: Path) -> str | None:
    """Try a lock that a run has left, which is an empty file."""
    if not path.is_file():
        return None
    try:
        with lock_of(path, timeout=0):
            return ""
    except Timeout:
        return ""  # somebody holds it: locks work
    except (OSError, NotImplementedError) as error:
        return getattr(error, "strerror", None) or str(error)
