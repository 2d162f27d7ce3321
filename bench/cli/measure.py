"""`bench measure`: the exclusive pass that times every finished network, dense and compact in turn."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.errors import UsageError
from bench.plan.registry import Registry
from bench.system_errors import CannotWrite

if TYPE_CHECKING:
    from bench.choices import Effort


def measure_command(
    folder: Path | None, effort: "Effort", device: str, threads: int, plugins: tuple[Path, ...]
) -> None:
    """Time what has no times of this machine yet."""
    from bench.store.results import Results, newest
    from bench.sweep.latency_pass import measure_all
    from bench.sweep.machine import Machine, device_named

    results = Results(folder) if folder is not None else newest()
    machine = Machine(device_named(device), threads)
    machine.prepare()
    ids = [trial.id for trial in results.trials()]
    if not ids:
        raise UsageError(
            f"There are no trials in {results.folder}; bench measure takes a results folder that "
            "bench run made"
        )
    registry = Registry(plugins, for_records=True)
    try:
        done = measure_all(
            results, registry, machine, effort, ids, lambda t: click.echo(t, err=True)
        )
    except CannotWrite as error:
        raise UsageError(str(error)) from error
    click.echo(f"{results.folder}: {done} trials timed; bench report shows the speed-ups", err=True)
