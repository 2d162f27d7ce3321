"""Errors in words for the user; the command line maps each class to an exit code."""

import difflib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


class UsersCodeFailed(UsageError):
    """What a network or data set of the user's raised, told in its own words."""


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
        frame = _raised_by(error)
        where = f" ({_place(frame)})" if frame is not None and not _is_ours(frame) else ""
        raise UsersCodeFailed(_first_line(error) + where) from error


def in_words(error: BaseException) -> str:
    """Return an error as one line: a sentence that is meant for the user, or whose fault it is."""
    if isinstance(error, BenchError):
        return str(error)
    frame = _raised_by(error)
    if frame is None or _is_ours(frame):
        where = f" ({_place(frame)})" if frame is not None else ""
        return f"{_first_line(error)}{where}: a fault of bench; please report it with its traceback"
    return f"{_first_line(error)} ({_place(frame)})"


def _first_line(error: BaseException) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


_OURS = Path(__file__).resolve().parent
_PLUGIN_FOLDERS = tuple(
    (_OURS / kind).resolve() for kind in ("methods", "models", "datasets")
)  # in a checkout they stand beside `bench/`
_LIBRARIES = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")}
)


def _raised_by(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost line of bench or of the user's own code, libraries left out."""
    frames = traceback.extract_tb(error.__traceback__)
    known = [f for f in frames if _is_ours(f) or _is_users(f)]
    return known[-1] if known else None


def _is_ours(frame: traceback.FrameSummary) -> bool:
    file = Path(frame.filename).resolve()
    return any(file.is_relative_to(folder) for folder in (_OURS, *_PLUGIN_FOLDERS))


def _is_users(frame: traceback.FrameSummary) -> bool:
    file = Path(frame.filename).resolve()
    in_library = any(file.is_relative_to(folder) for folder in _LIBRARIES)
    return file.is_file() and not in_library and not file.is_relative_to(Path(sys.prefix).resolve())


def _place(frame: traceback.FrameSummary) -> str:
    """Return where a line stands: graph/cut.py of bench, or the name of a user's file."""
    file = Path(frame.filename).resolve()
    roots = (_OURS.parent, *(folder.parent for folder in _PLUGIN_FOLDERS))
    inside = next(
        (file.relative_to(r) for r in roots if _is_ours(frame) and file.is_relative_to(r)), None
    )
    return f"{inside or file.name}, line {frame.lineno}, in {frame.name}"
