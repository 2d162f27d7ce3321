"""Errors in words for the user; the command line maps each class to an exit code."""

import difflib
from collections.abc import Iterable


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
