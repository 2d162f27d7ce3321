"""`bench status`: how far a run is."""

import json
from collections import Counter
from pathlib import Path

import click

from bench.errors import UsageError
from bench.store.results import Results, newest


def status_command(folder: Path | None, as_json: bool) -> None:
    """Count trials by what became of them, and name the failed ones."""
    results = Results(folder) if folder is not None else newest()
    planned = results.planned()
    if not planned:
        raise UsageError(f"{results.folder} has no plan: nothing was run there")
    states = {i: results.trial(i).status() for i in planned}
    counts = Counter(states.values())
    failed = {i: results.trial(i).error().error for i, state in states.items() if state == "failed"}
    if as_json:
        click.echo(json.dumps({"results": str(results.folder), "trials": len(planned),
                               "counts": counts, "failed": failed}, indent=1))  # fmt: skip
        return
    click.echo(f"{results.folder}: {len(planned)} trials")
    for state in ("finished", "failed", "started", "waiting", "unreadable"):
        if counts[state]:
            click.echo(f"  {counts[state]:>6} {state}")
    for trial_id, error in failed.items():
        click.echo(f"  {trial_id} {planned[trial_id].label}: {error}")
