"""`bench run`: from flags to a finished sweep."""

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import BenchError, UnknownName, UsageError
from bench.plan.registry import Registry

if TYPE_CHECKING:
    from bench.store.trial_identity import TrialSpec
    from bench.sweep.local_workers import WorkerConfig

PHASES_CAP_BYTES = 20 * 2**30


@dataclass(frozen=True)
class Flags:
    """The flags of `bench run` that say how it is run; what is run stands in `wanted`."""

    suite: str | None
    settings: tuple[str, ...]
    device: str
    threads: int
    jobs: str
    out: Path | None
    data_dir: Path
    plugins: tuple[Path, ...]
    retry_failed: bool
    rerun_changed: bool
    checkpoint_seconds: float
    resident_gb: float
    latency: str | None
    progress: str
    dry_run: bool
    as_json: bool
    wanted: dict[str, Any]

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Flags":
        own = {f.name: given.pop(f.name) for f in fields(cls) if f.name != "wanted"}
        return cls(**own, wanted=given)


def run_command(**given: Any) -> int:
    """Plan and run; returns the exit code: 0, or 1 if a trial failed."""
    from bench.plan.request import requests  # before torch is imported: bad input is answered fast

    flags = Flags.of(given)
    registry = Registry(flags.plugins)
    asked = requests(_suite_file(registry, flags.suite), _given(flags.wanted), list(flags.settings))
    from bench.plan.expand import make_plan
    from bench.store.results import Results
    from bench.sweep.machine import device_named

    device_named(flags.device)
    plan = make_plan(registry, asked, flags.threads)
    name = Path(flags.suite).stem if flags.suite else "default"
    results = Results(flags.out or Path("results") / name)
    if flags.dry_run:
        _tell(*plan.notes)
        return _dry_run(plan, results, flags.as_json)
    from bench.sweep.local_workers import WorkerConfig, jobs_of
    from bench.sweep.pending import find_pending

    workers = jobs_of(flags.jobs, len(plan.chains), flags.threads, flags.device)
    results.create()
    pending = find_pending(plan, results, registry, flags.retry_failed, flags.rerun_changed)
    _tell(*plan.notes, *pending.warnings)
    left = [plan.trials[i] for chain in pending.chains for i in chain.trials]
    _check_data(registry, left, flags.data_dir)
    _fetch_weights(registry, left)
    results.add_to_plan(plan.trials)
    if pending.trials == 0:
        return _nothing_to_do(pending, results.folder, flags.as_json)
    config = WorkerConfig(
        results.folder, flags.data_dir, flags.device, flags.threads, flags.plugins,
        tuple(sys.argv[1:]), flags.checkpoint_seconds, flags.resident_gb, _weights_file(asked),
    )  # fmt: skip
    return _run(flags, plan, pending, results, config, workers)


def _run(
    flags: Flags, plan: Any, pending: Any, results: Any, config: "WorkerConfig", workers: int
) -> int:
    from bench.sweep.local_workers import sweep
    from bench.sweep.progress import reporter

    outcome = sweep(plan, pending, config, workers, reporter(flags.progress, flags.as_json))
    _time_networks(results, Registry(flags.plugins), plan, config, flags.latency)
    _trim_phases(results)
    if not flags.as_json:
        _end(results, plan, outcome, results.folder)
    return 1 if outcome.failed else 0


def _time_networks(
    results: Any, registry: Registry, plan: Any, config: Any, effort: str | None
) -> None:
    """Time the networks in an exclusive pass after the trials, in this process and alone."""
    from bench.sweep.latency_pass import effort_named, measure_all
    from bench.sweep.machine import Machine, device_named

    smoke = all(spec.budget == "smoke" for spec in plan.trials.values())
    chosen = effort_named(effort or ("off" if smoke else "quick"))
    if chosen != "off":
        machine = Machine(device_named(config.device), config.threads)
        machine.prepare()
        measure_all(results, registry, machine, chosen, list(plan.trials), _tell)


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


def _weights_file(asked: list[Any]) -> Path | None:
    files = {Path(r.weights) for r in asked if r.weights and r.weights.endswith(".safetensors")}
    if len(files) > 1:
        raise UsageError("One file of weights at a time: this suite names several")
    return next(iter(files), None)


def _given(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that the user gave; the others are left to the suite and the defaults."""
    flags = {k: list(v) if isinstance(v, tuple) else v for k, v in wanted.items()}
    return {k: v for k, v in flags.items() if v not in (None, [])}


def _check_data(registry: Registry, left: list["TrialSpec"], data_dir: Path) -> None:
    """Read every data set that will be needed, so that a missing one stops nothing half-way."""
    from bench.data.dataset import check_images

    for name in sorted({spec.dataset for spec in left}):
        dataset = registry.dataset(name)
        try:
            split = dataset.load(data_dir)
            for part in (split.train, split.validation, split.test):
                if part is split.train and len(part) == 0:
                    continue  # evaluation does without training images
                check_images(part, dataset.shape, dataset.classes, name)
        except BenchError:
            raise
        except Exception as error:  # a user's data set may fail in any way
            raise UsageError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error


def _fetch_weights(registry: Registry, left: list["TrialSpec"]) -> None:
    """Download published weights before a worker starts: once, and a failure stops no trial."""
    from bench.training import pretrained
    from bench.training.network import about

    wanted = {(spec.model, spec.weights) for spec in left if spec.weights}
    for model, weights in sorted(wanted):
        if not pretrained.is_of_a_file(weights):  # a file was read with the plan
            pretrained.load(model, weights, None, about(registry.model(model)).weights)


def _dry_run(plan: Any, results: Any, as_json: bool) -> int:
    there = {trial.id for trial in results.trials()}
    rows = [
        {"trial": i, "label": spec.label,
         "status": results.trial(i).status() if i in there else "waiting",
         "depends_on": list(spec.depends_on)}
        for i, spec in plan.trials.items()
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        click.echo(f"{row['trial']}  {row['status']:<8}  {row['label']}")
    click.echo(f"{len(rows)} trials in {len(plan.chains)} chains; nothing was run", err=True)
    return 0


def _nothing_to_do(pending: Any, folder: Path, as_json: bool) -> int:
    finished, failed = len(pending.finished), len(pending.failed)
    if as_json:
        click.echo(json.dumps({"event": "end", "to_do": 0, "finished": finished, "failed": failed}))
    else:
        more = f"; {failed} failed before, --retry-failed runs them again" if failed else ""
        click.echo(
            f"Nothing to train: all {finished} trials are finished in {folder}{more}", err=True
        )
    return 1 if failed else 0


def _trim_phases(results: Any) -> None:
    """Keep the cache of phases under its cap; never touch what an unfinished trial may want."""
    from bench.store.phase_cache import PhaseStore

    store = PhaseStore(results.folder / "phases")
    if store.size() <= PHASES_CAP_BYTES:
        return
    used: set[str] = set()
    for folder in results.trials():
        record, _ = results.finished(folder.id)
        if record is None:
            return
        used |= set(record.phases)
    store.evict(PHASES_CAP_BYTES, used)


def _end(results: Any, plan: Any, outcome: Any, folder: Path) -> None:
    """Print the table at the end, what failed, and what to do next."""
    from bench.report.write import end_table

    if outcome.finished:
        click.echo(end_table(results, list(plan.trials)), err=True)
    for trial_id in outcome.failed:
        error = results.trial(trial_id).error().error
        place = results.trial(trial_id).path / "error.json"
        click.echo(f"failed: {plan.trials[trial_id].label}: {error} ({place})", err=True)
    click.echo(f"Trials: {len(outcome.finished)} finished, {len(outcome.failed)} failed; "
               f"bench report {folder} writes tables and figures", err=True)  # fmt: skip
