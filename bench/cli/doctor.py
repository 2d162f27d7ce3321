"""`bench doctor`: what of a results folder is damaged, unreadable, unfinished or not ours."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.errors import UsageError
from bench.store.results import Results, newest

if TYPE_CHECKING:
    from bench.store.inspection import Inspection, Surroundings

_MOST_SHOWN = 20  # findings of one kind
_TITLES = {
    "damaged": "Damaged:",
    "unreadable": "Unreadable, and left as they are:",
    "missing": "Not begun:",
    "left over": "Half written:",
    "foreign": "Not of bench:",
}


def doctor_command(folder: Path | None, repair: bool, as_json: bool) -> int:
    """Inspect a results folder; returns 1 if something is damaged or unreadable, or locks fail."""
    from bench.store.inspection import inspect, surroundings

    results = Results(folder) if folder is not None else newest()
    if not results.plan_file.exists() and not (results.folder / "trials").is_dir():
        raise UsageError(
            f"{results.folder} is no results folder: it has neither a plan.json nor a folder trials; "
            "name one that bench run made"
        )
    shown = sys.stderr.isatty() and not as_json
    found = inspect(results, repair, _progress if shown else lambda done, of: None)
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)
    around = surroundings(results.folder)
    if as_json:
        click.echo(json.dumps(
            {"results": str(results.folder), "states": dict(found.states), "phases": found.phases,
             "findings": [asdict(each) for each in found.findings], **asdict(around)},
            indent=1))  # fmt: skip
    else:
        _print(results, found, around)
    return 1 if around.locks or any(each.is_open for each in found.findings) else 0


def _progress(done: int, of: int) -> None:
    if done % 20 == 0:
        click.echo(f"\r{done:,} of {of:,} trials and phases read", nl=False, err=True)


def _print(results: Results, found: "Inspection", around: "Surroundings") -> None:
    states = ", ".join(
        f"{count:,} {state}" for state, count in sorted(found.states.items()) if count
    )
    click.echo(f"{results.folder}: {states or 'no trials'}; {found.phases:,} phases")
    for kind, title in _TITLES.items():
        of_kind = [each for each in found.findings if each.kind == kind]
        if of_kind:
            click.echo(title)
        for each in of_kind[:_MOST_SHOWN]:
            done = f" ({each.done})" if each.done else ""
            click.echo(f"  {each.path}: {each.what}{done}")
        if len(of_kind) > _MOST_SHOWN:
            click.echo(f"  and {len(of_kind) - _MOST_SHOWN:,} more (--json lists all)")
    click.echo(
        f"Disk: {_size(around.free_bytes)} free. Memory: {_size(around.memory_bytes)} available."
    )
    if not around.may_write:
        click.echo("You may read this folder and not write into it.")
    if around.locks:
        click.echo(f"Locks do not work here ({around.locks}): two runs may not share this folder.")
    left = [each for each in found.findings if each.is_open]
    if any(each.kind == "damaged" for each in left):
        click.echo(
            f"bench doctor {results.folder} --repair moves what is damaged to quarantine/; then bench run, "
            "as before, computes it again."
        )
    if not left:
        click.echo("Everything that is there is sound.")


def _size(number: int | None) -> str:
    if number is None:
        return "an unknown amount"
    return f"{number / 2**30:,.1f} GiB"
