"""`bench show TRIAL`: a finished trial in a few lines and a table of its layers, and finding it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bench.data.tasks import TASKS, unknown_task
from bench.errors import BenchError, UsageError
from bench.plan.registry import Registry
from bench.store.json_values import JsonObject, RecordError
from bench.store.records import Record, ResultRecord, read_spec
from bench.store.results import Results, TrialFolder
from bench.store.trial_identity import canonical

if TYPE_CHECKING:
    from bench.measure.by_layer import LayerSize


def find_trial(name: str, results: Results) -> TrialFolder | None:
    """Find a trial by the beginning of its id.

    Raises:
        UsageError: several trials begin so.
    """
    matches = [t for t in results.trials() if name and t.id.startswith(name.lower())]
    if len(matches) > 1:
        raise UsageError(
            f"{len(matches)} trials in {results.folder} begin with {name!r}; type more"
        )
    return matches[0] if matches else None


def finished_record(folder: TrialFolder) -> ResultRecord:
    """Read a trial's record.

    Raises:
        UsageError: it is not finished, or not sound.
    """
    state = folder.status()
    if state != "finished":
        why = f": {folder.error().error}" if state == "failed" else ""
        raise UsageError(f"trial {folder.id} is not finished, it is {state}{why}")
    try:
        return folder.result()
    except RecordError as error:
        raise UsageError(
            f"the record of trial {folder.id} cannot be used: {error.problem}"
        ) from error


def show_finished(folder: TrialFolder, registry: Registry, as_json: bool) -> None:
    """Print a finished trial: what it is, what came out, and what is left of each layer."""
    record = finished_record(folder)
    registry.import_own()
    cost, wrong = folder.cost()
    if wrong:
        click.echo(f"Note: {wrong}", err=True)
    try:
        rows, why = _layers(folder, registry), ""
    except BenchError as error:  # the record is sound; only its network cannot be built here
        rows, why = [], str(error)
    summary = _summary(folder, record)  # the data set's file may define its task
    if as_json:
        facts = {"folder": str(folder.path), "status": "finished", **as_written(record),
                 "measured": as_written(cost), "summary": summary,
                 "layers": [asdict(row) for row in rows], "totals": _totals(rows)}  # fmt: skip
        click.echo(json.dumps(facts | ({"no_layers": why} if why else {}), indent=1))
        return
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        click.echo(f"{key:<{width}}  {value}")
    click.echo("")
    for line in _table(rows) if rows else [f"No table of its layers: {why}"]:
        click.echo(line)


def as_written(record: Record) -> JsonObject:
    """Return a record with its names in the order of its file, which is that of the alphabet."""
    found: JsonObject = json.loads(canonical(record.as_json()))
    return found


def _summary(folder: TrialFolder, record: ResultRecord) -> dict[str, str]:
    spec, m = record.spec, record.metrics
    options = ", ".join(f"{k}={v}" for k, v in sorted(spec.options.items()))
    target = f"{spec.target:g}x" if spec.target is not None else "none"
    if record.unreachable:
        target += ", not reached"
    facts = {
        "trial": record.id,
        "method": f"{spec.method} ({options})" if options else spec.method,
        "follows": ", ".join(spec.depends_on),
        "model": f"{spec.model}, {spec.coupling} units",
        "weights": spec.weights or "",
        "data set": spec.dataset,
        "data": _data(folder, record),
        "own code": ", ".join(f"{role} {code}" for role, code in sorted(spec.sources.items())),
        "seed": str(spec.seed),
        "budget": f"{spec.budget}; too short for a result" if spec.budget == "smoke"
        else spec.budget,
        "target": target,
        "quality": _quality(record),
        "parameters": f"{m.params_effective:,} of {m.params_dense:,}: "
        f"{m.compression:.2f} times fewer, {100 * m.pruning_rate:.2f} % removed",
        "multiply-adds": f"{m.macs_effective:,} of {m.macs_dense:,}: "
        f"{m.speedup_theoretical:.2f} times fewer",
        "file": f"{m.file_bytes:,} bytes, {m.file_compression:.1f} times fewer than in "
        f"float32; with fixed widths {m.file_bytes_fixed:,}" if m.file_bytes is not None else "",
        "training": f"{m.epochs_total} epochs, {m.images_seen:,} images",
        "folder": str(folder.path),
    }  # fmt: skip
    return {key: value for key, value in facts.items() if value}


def _data(folder: TrialFolder, record: ResultRecord) -> str:
    """Return the digest of a trial's data and where they lay, which may be elsewhere now."""
    digest = record.spec.data
    if digest is None:
        return ""
    try:
        place = read_spec(folder.path / "spec.json").data
    except RecordError:
        place = None
    return f"{digest}, read from {place.path}" if place is not None else digest


def _quality(record: ResultRecord) -> str:
    m, name = record.metrics, record.task_name
    if name not in TASKS:
        return f"of {unknown_task(name)}"
    task = TASKS[name]
    try:
        value = m.number(task.headline.column)
    except RecordError as error:
        return f"unknown: {error.problem}"
    found = f"{task.headline.in_words(value)} on {m.n_test} test {task.items}"
    return f"{found}, collapsed" if m.collapsed else found


def _layers(folder: TrialFolder, registry: Registry) -> "list[LayerSize]":
    from bench.measure.by_layer import per_layer
    from bench.sweep.reload import rebuilt

    trial = rebuilt(registry, folder)
    return per_layer(trial.layout, trial.masks)


_SUMMED = ("units_kept", "units", "params_dense", "params_left", "macs_dense", "macs_left")


def _totals(rows: "list[LayerSize]") -> dict[str, int]:
    return {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}


def _table(rows: "list[LayerSize]") -> list[str]:
    heads = ("layer", "units left", "density", "parameters", "left", "multiply-adds", "left")
    total = _totals(rows)
    body = [
        (row.name, f"{row.units_kept}/{row.units}" if row.units else "",
         f"{100 * row.density:.1f} %" if row.units else "", f"{row.params_dense:,}", f"{row.params_left:,}",
         f"{row.macs_dense:,}", f"{row.macs_left:,}")
        for row in rows
    ]  # fmt: skip
    units, dense_params, params, dense_macs, macs = (
        f"{total['units_kept']}/{total['units']}", *(f"{total[n]:,}" for n in _SUMMED[2:]))  # fmt: skip
    body.append(("total", units, "", dense_params, params, dense_macs, macs))
    widths = [max(len(line[i]) for line in (heads, *body)) for i in range(len(heads))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in (heads, *body)
    ]
    stay = [f"  {row.name}: {row.why_not}" for row in rows if row.why_not]
    return [*lines, "", "Layers that cannot lose units:", *stay] if stay else lines
