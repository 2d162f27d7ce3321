"""Errors in words for the user; the command line maps each class to an exit code."""

import difflib
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class BenchError(Exception):
    """Root of every error that is meant for the user. One sentence, no traceback."""

    exit_code = 2


class UsageError(BenchError):
    """The request cannot be carried out as it stands; nothing was started."""


MOST_SHOWN = 40


class UnknownName(UsageError):
    """A name that no method, model, data set, suite or option has."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(set(known))
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if close:
            hint = f"Did you mean {' or '.join(repr(c) for c in close)}?"
        elif known:
            more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
            hint = f"Known: {', '.join(known[:MOST_SHOWN])}{more}."
        else:
            hint = f"There is no {kind} to choose from."
        super().__init__(f"Unknown {kind} {name!r}. {hint}")


class DataMissing(UsageError):
    """A data set is not in the data folder."""


class DataDamaged(UsageError):
    """A data file is there but is not what it should be."""


class TrialFailed(BenchError):
    """A trial could not be finished; the others go on."""

    exit_code = 1


class MachineFailed(BenchError):
    """The machine stopped the work: a full disk, a process ended from outside. No trial is to blame.

    Nothing is recorded of it; the same command goes on. The exit code is that of an interrupted run.
    """

    exit_code = 130


class NotInContract(TrialFailed, AttributeError):
    """Something that a method asked of its trial, and a trial does not have."""


class UsersCodeFailed(UsageError):
    """An error that a network or data set of the user's raised, told in its own words."""


class ErrorElsewhere(Exception):
    """An error of another process, already in words: whose fault it is stands in them."""


@contextmanager
def users_code() -> Iterator[None]:
    """Pass on what somebody else's code raises, with the line of theirs that raised it.

    To be put around the one call that runs it, and nothing else: a fault of ours is not theirs.

    Raises:
        UsersCodeFailed: it raised anything that is not meant for the user already.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        place = _raised_at(error)
        where = f" ({place})" if place is not None and not place.is_ours else ""
        raise UsersCodeFailed(_first_line(error) + where) from error


def in_words(error: BaseException) -> str:
    """Return an error as one line: a sentence that is meant for the user, or whose fault it is."""
    if isinstance(error, BenchError | ErrorElsewhere):
        return str(error)
    place = _raised_at(error)
    where = f" ({place})" if place is not None else ""
    if place is not None and not place.is_ours:
        return _first_line(error) + where
    return f"{_first_line(error)}{where}: a fault of bench; please report it with its traceback"


def _first_line(error: BaseException) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@dataclass(frozen=True)
class _Place:
    """A line of code: of bench and its plug-ins, or of a user's."""

    file: Path
    line: int
    function: str

    @property
    def is_ours(self) -> bool:
        return any(self.file.is_relative_to(folder) for folder in _ours())

    @property
    def is_library(self) -> bool:
        """Return True for Python's own and for installed packages, where a user's code is not."""
        return not self.file.is_file() or any(self.file.is_relative_to(f) for f in _libraries())

    def __str__(self) -> str:
        roots = [folder.parent for folder in _ours() if self.file.is_relative_to(folder)]
        shown = self.file.relative_to(roots[0]).as_posix() if roots else self.file.name
        return f"{shown}, line {self.line}, in {self.function}"


@cache
def _ours() -> tuple[Path, ...]:
    """Return the folders of bench; in a checkout those of plug-ins stand beside it, and are links in it."""
    bench = Path(__file__).resolve().parent
    return (bench, *((bench / kind).resolve() for kind in ("methods", "models", "datasets")))


@cache
def _libraries() -> tuple[Path, ...]:
    """Return the folders of Python and of installed packages."""
    import sysconfig  # only where there is an error to tell

    return Path(sys.prefix).resolve(), Path(sysconfig.get_path("stdlib")).resolve()


def _raised_at(error: BaseException) -> _Place | None:
    """Return the innermost line of bench or of a user's own code; libraries are left out."""
    places = [
        _Place(Path(frame.f_code.co_filename).resolve(), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    known = [place for place in places if place.is_ours or not place.is_library]
    return known[-1] if known else None
