"""`bench run`: from flags to a finished sweep."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.streams import go_on_without_output
from bench.errors import UnknownName, UsageError
from bench.plan.registry import Registry
from bench.system_errors import cannot_write

if TYPE_CHECKING:
    from bench.plan.data_identity import DataIdentities
    from bench.plan.expand import Plan
    from bench.plan.request import Request
    from bench.store.results import Results
    from bench.store.trial_identity import TrialSpec
    from bench.sweep.config import RunConfig
    from bench.sweep.local_workers import SweepOutcome
    from bench.sweep.pending import Pending

PHASES_CAP_BYTES = 20 * 2**30


def run_command(
    *,
    suite: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    dry_run: bool,
    **given: object,
) -> int:
    """Plan and run; returns the exit code: 0, or 1 if a trial failed.

    Args:
        given: the other flags: how trials are run (`RunConfig`), and what is run (`Request`).
    """
    from bench.plan.request import Request, requests  # no torch: bad input is answered fast

    wanted = {name: given.pop(name) for name in Request.model_fields if name in given}
    plugins: Any = given["plugins"]
    registry = Registry(plugins)
    asked = requests(_suite_file(registry, suite), _given(wanted), list(settings))
    from bench.plan.expand import make_plan
    from bench.sweep.config import RunConfig

    folder = out or Path("results") / (Path(suite).stem if suite else "default")
    own = {"out": folder, "weights_file": _weights_file(asked), "command": tuple(sys.argv[1:])}
    config = RunConfig.checked(given | own)
    data = _data(registry, config, may_be_missing=dry_run)
    plan = make_plan(registry, asked, config.threads, data)
    if dry_run:
        _tell(
            *plan.notes,
            *(f"{why} (until then its trials have no ids)" for why in data.missing.values()),
        )
        return _dry_run(plan, config)
    return _run(plan, data, config.model_copy(update={"data": tuple(data.found)}))


def _data(registry: Registry, config: "RunConfig", may_be_missing: bool) -> "DataIdentities":
    from bench.cli.hashing_progress import HashingProgress
    from bench.plan.data_identity import DataIdentities
    from bench.store.file_digests import FileDigests

    shown = config.progress != "off" and not config.as_json
    hash_files = FileDigests(HashingProgress() if shown else None)
    return DataIdentities(registry, config.data_dir, hash_files, may_be_missing)


def _run(plan: "Plan", data: "DataIdentities", config: "RunConfig") -> int:
    from bench.store.results import Results
    from bench.sweep.local_workers import sweep
    from bench.sweep.pending import find_pending
    from bench.sweep.progress import reporter

    registry, results = data.registry, Results(config.out)
    go_on_without_output()
    pending = find_pending(plan, results, registry, config.retry_failed, config.rerun_changed)
    _tell(*plan.notes, *pending.warnings)
    left = [plan.trials[i] for chain in pending.chains for i in chain.trials]
    _check_data(data, left)
    _fetch_weights(registry, left)
    results.create()  # now that nothing is refused any more
    _keep_own_files(results, registry)
    _add_to_plan(results, plan)
    if pending.trials == 0:
        return _nothing_to_do(pending, config)
    outcome = sweep(plan, pending, config, reporter(config.progress, config.as_json))
    _time_networks(results, registry, plan, config)
    _trim_phases(results)
    if not config.as_json:
        _end(results, plan, outcome, pending)
    return 1 if outcome.failed or pending.unreadable else 0


def _add_to_plan(results: "Results", plan: "Plan") -> None:
    """Write the plan.

    Raises:
        UsageError: the disk is full, or read-only: nothing was run.
    """
    try:
        results.add_to_plan(plan.trials)
    except OSError as error:
        raise UsageError(str(cannot_write(error, results.folder) or error)) from error


def _keep_own_files(results: "Results", registry: Registry) -> None:
    """Copy the user's files, so that trials can be rebuilt when these have changed."""
    from bench.store.source_copies import SourceCopies, remember

    copies = SourceCopies(results.folder / "sources")
    for files in registry.files_read():
        copies.keep(files)
        remember(files)


def _time_networks(
    results: "Results", registry: Registry, plan: "Plan", config: "RunConfig"
) -> None:
    """Time the networks in an exclusive pass after the trials, in this process and alone."""
    from bench.sweep.latency_pass import measure_all

    smoke = all(spec.budget == "smoke" for spec in plan.trials.values())
    effort = config.latency or ("off" if smoke else "quick")
    if effort != "off":
        config.machine.prepare()
        measure_all(results, registry, config.machine, effort, list(plan.trials), _tell)


def _suite_file(registry: Registry, suite: str | None) -> Path | None:
    if suite is None:
        return None
    if suite.endswith(".toml"):
        return Path(suite)
    entries = registry.entries("suites")
    if suite not in entries:
        raise UnknownName("suite", suite, entries)
    return entries[suite].path


def _tell(*notes: str) -> None:
    for note in notes:
        click.echo(f"Note: {note}", err=True)


def _weights_file(asked: "list[Request]") -> Path | None:
    files = {Path(r.weights) for r in asked if r.weights and r.weights.endswith(".safetensors")}
    if len(files) > 1:
        raise UsageError("One file of weights at a time: this suite names several")
    return next(iter(files), None)


def _given(wanted: dict[str, object]) -> dict[str, object]:
    """Return the flags that the user gave; the others are left to the suite and the defaults."""
    flags = {k: list(v) if isinstance(v, tuple) else v for k, v in wanted.items()}
    return {k: v for k, v in flags.items() if v not in (None, [])}


def _check_data(data: "DataIdentities", left: list["TrialSpec"]) -> None:
    """Read every data set that will be needed, so that a missing one stops nothing half-way."""
    from bench.plan.data_identity import loaded

    for name in sorted({spec.dataset for spec in left} - data.checked):
        loaded(data.registry.dataset(name), name, data.data_dir)


def _fetch_weights(registry: Registry, left: list["TrialSpec"]) -> None:
    """Download published weights before a worker starts: once, and a failure stops no trial."""
    from bench.training import pretrained
    from bench.training.network import about

    wanted = {(spec.model, spec.weights) for spec in left if spec.weights}
    for model, weights in sorted(wanted):
        if not pretrained.is_of_a_file(weights):  # a file was read with the plan
            pretrained.load(model, weights, None, about(registry.model(model)).weights)


def _dry_run(plan: "Plan", config: "RunConfig") -> int:
    from bench.plan.data_identity import NOT_HERE
    from bench.store.results import Results

    results = Results(config.out)
    there = {trial.id for trial in results.trials()}
    rows = [
        {"trial": i if spec.data != NOT_HERE else None, "label": spec.label,
         "status": results.trial(i).status() if i in there else "waiting",
         "depends_on": list(spec.depends_on) if spec.data != NOT_HERE else []}
        for i, spec in plan.trials.items()
    ]  # fmt: skip
    if config.as_json:
        click.echo(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        click.echo(f"{row['trial'] or '-':<12}  {row['status']:<8}  {row['label']}")
    click.echo(f"{len(rows)} trials in {len(plan.chains)} chains; nothing was run", err=True)
    return 0


def _nothing_to_do(pending: "Pending", config: "RunConfig") -> int:
    finished, failed = len(pending.finished), len(pending.failed)
    unreadable = len(pending.unreadable)
    if config.as_json:
        click.echo(json.dumps({"event": "end", "to_do": 0, "finished": finished, "failed": failed,
                               "unreadable": unreadable}))  # fmt: skip
    else:
        more = f"; {failed} failed before, --retry-failed runs them again" if failed else ""
        more += f"; {_left_out(unreadable)}" if unreadable else ""
        every = "" if more else "all "
        click.echo(
            f"Nothing to train: {every}{finished} trials are finished in {config.out}{more}",
            err=True,
        )
    return 1 if failed or unreadable else 0


def _left_out(unreadable: int) -> str:
    return f"{unreadable} cannot be read and were left as they are (bench doctor says more)"


def _trim_phases(results: "Results") -> None:
    """Keep the cache of phases under its cap; never touch what an unfinished trial may want."""
    from bench.store.phase_cache import PhaseStore

    store = PhaseStore(results.folder / "phases")
    if store.size() <= PHASES_CAP_BYTES:
        return
    used: set[str] = set()
    for folder in results.trials():
        record = results.finished(folder.id).record
        if record is None:
            return
        used |= set(record.phases)
    store.evict(PHASES_CAP_BYTES, used)


def _end(results: "Results", plan: "Plan", outcome: "SweepOutcome", pending: "Pending") -> None:
    """Print the table at the end, what failed, and what to do next."""
    from bench.report.write import end_table

    if outcome.finished:
        click.echo(end_table(results, list(plan.trials)), err=True)
    for trial_id in outcome.failed:
        folder = results.trial(trial_id)
        error, place = folder.error(), folder.path / "error.json"
        if not place.exists():
            click.echo(f"not run: {plan.trials[trial_id].label}: its folder cannot be read or written, or "
                       f"its record was left as it is ({folder.path})", err=True)  # fmt: skip
            continue
        if error.unexpected:
            click.echo(error.traceback, err=True)
        click.echo(f"failed: {plan.trials[trial_id].label}: {error.error} ({place})", err=True)
    more = f", {_left_out(len(pending.unreadable))}" if pending.unreadable else ""
    click.echo(f"Trials: {len(outcome.finished)} finished, {len(outcome.failed)} failed{more}; "
               f"bench report {results.folder} writes tables and figures", err=True)  # fmt: skip
