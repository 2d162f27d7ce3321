"""`bench verify`: finished trials' figures counted again, and held against their records."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.show_trial import find_trial
from bench.errors import UsageError
from bench.store.json_values import Json, JsonObject, in_words
from bench.store.results import Results, TrialFolder, newest

if TYPE_CHECKING:
    from bench.sweep.verify import Verified

_MOST_FIGURES = 6  # of those that were left out, in a line


def verify_command(
    name: str | None,
    folder: Path | None,
    data_dir: Path,
    max_megapixels: float,
    device: str,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Verify a trial, or every finished one of a folder; returns 1 if a figure differs."""
    from bench.sweep.config import RunConfig
    from bench.sweep.context import SweepContext
    from bench.sweep.verify import verify

    results, trials = _named(name, folder)
    finished = [trial for trial in trials if trial.status() == "finished"]
    if not finished:
        states = _in_words(Counter[str](trial.status() for trial in trials))
        raise UsageError(f"There is no finished trial to verify in {results.folder}: {states}")
    flags = {"out": results.folder, "data_dir": data_dir, "device": device, "plugins": plugins}
    context = SweepContext(RunConfig.checked({**flags, "max_megapixels": max_megapixels}))
    context.registry.import_own()
    done = []
    for number, trial in enumerate(finished, 1):
        found = verify(context, trial)
        done.append(found)
        if len(finished) > 1:
            counter = f"[{number:>{len(str(len(finished)))}}/{len(finished)}]"
            _say(f"{counter} {found.label}: {_outcome(found)}", err=True)
    others = Counter[str](trial.status() for trial in trials if trial not in finished)
    if as_json:
        click.echo(json.dumps(_as_json(results, done, others), indent=1))
    else:
        _print(results, done, others)
    return 1 if any(each.tally.differences for each in done) else 0


def _named(name: str | None, folder: Path | None) -> tuple[Results, list[TrialFolder]]:
    """Return the trials that are meant: a results folder's, those of the newest run, or one by its id.

    Raises:
        UsageError: there is no such folder or trial.
    """
    if name is not None and folder is None and (Path(name) / "trials").is_dir():
        folder, name = Path(name), None
    elif name is not None and Path(name).parent.name == "trials" and Path(name).is_dir():
        path = Path(name)
        return Results(path.parent.parent), [TrialFolder(path)]
    results = newest() if folder is None else Results(folder)
    if name is None:
        trials = list(results.trials())
        if not trials:
            raise UsageError(
                f"There are no trials in {results.folder}; bench verify takes a trial or a results "
                "folder that bench run made"
            )
        return results, trials
    trial = find_trial(name, results)
    if trial is None:
        raise UsageError(
            f"{name!r} is neither a results folder nor the beginning of a trial's id in "
            f"{results.folder}; --results FOLDER looks for trials elsewhere"
        )
    return results, [trial]


def _outcome(found: "Verified") -> str:
    tally = found.tally
    if tally.differences:
        names = ", ".join(d.figure for d in tally.differences[:_MOST_FIGURES])
        return f"DIFFERS in {names}{', …' if len(tally.differences) > _MOST_FIGURES else ''}"
    apart = sum(len(each.figures) for each in tally.left_out)
    bounded = f", {len(tally.bounded)} within rounding" if tally.bounded else ""
    left = f", {apart} not counted again" if apart else ""
    return f"{len(tally.equal)} figures equal{bounded}{left}"


def _print(results: Results, done: "list[Verified]", others: Counter[str]) -> None:
    """Print differences, what was left out and why, and how many trials are equal."""
    for found in done:
        if len(done) == 1 or found.tally.differences:
            _say(f"{found.trial}  {found.label}: {_outcome(found)}")
        for each in found.tally.differences:
            click.echo(
                f"  {each.figure}: recorded {_value(each.recorded)}, found {_value(each.found)}"
            )
        for note in found.notes:
            _say(f"  perhaps because {note}")
    _print_left_out(done)
    different = sum(bool(each.tally.differences) for each in done)
    click.echo(
        f"{results.folder}: {len(done)} finished trial{'s' * (len(done) != 1)} verified, "
        f"{len(done) - different} without a difference, {different} with one"
    )
    if others:
        _say(f"Not verified: {_in_words(others)}")


def _print_left_out(done: "list[Verified]") -> None:
    """Print each reason once, with its figures and the number of trials."""
    figures: dict[str, set[str]] = {}
    trials: Counter[str] = Counter()
    for found in done:
        for each in found.tally.left_out:
            figures.setdefault(each.why, set()).update(each.figures)
            trials[each.why] += 1
    if figures:
        _say("Not counted again:")
    for why, names in figures.items():
        shown = sorted(names)[:_MOST_FIGURES]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        of = f" ({trials[why]} trials)" if len(done) > 1 else ""
        _say(f"  {', '.join(shown)}{more}{of}: {why}")


def _as_json(results: Results, done: "list[Verified]", others: Counter[str]) -> JsonObject:
    return {
        "results": str(results.folder),
        "trials": [_trial(found) for found in done],
        "not_verified": dict(others),
    }


def _trial(found: "Verified") -> Json:
    tally = found.tally
    return {
        "trial": found.trial,
        "label": found.label,
        "differs": bool(tally.differences),
        "differences": [
            {"figure": d.figure, "recorded": d.recorded, "found": d.found}
            for d in tally.differences
        ],
        "equal": sorted(tally.equal),
        "bounded": sorted(tally.bounded),
        "not_counted": [{"figures": list(e.figures), "why": e.why} for e in tally.left_out],
        "notes": list(found.notes),
    }


def _say(line: str, err: bool = False) -> None:
    """Print a line; a record may hold anything, and a terminal obeys what it is sent."""
    click.echo(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line), err=err
    )


def _value(value: Json) -> str:
    """Return a value as a line shows it: numbers and sentences as they are, all else in words."""
    if isinstance(value, str):
        return value or "nothing"
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ", ".join(map(str, value[:_MOST_FIGURES]))
    if isinstance(value, int | float):
        return repr(value)
    return in_words(value)


def _in_words(states: Counter[str]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none"
