"""The exclusive pass after the trials: latency of every finished network, one at a time."""

import hashlib
import json
from collections.abc import Callable

import torch
from torch import nn

from bench.choices import Effort
from bench.errors import BenchError, MachineFailed
from bench.measure import latency
from bench.measure.sparse import with_sparse_linear
from bench.plan.recorded_code import NotRunUnasked
from bench.plan.registry import Registry
from bench.store.json_values import RecordError, RecordMissing
from bench.store.locks import locked
from bench.store.records import CostRecord, LatencyRecord, LatencySetup, read_cost, seal_cost
from bench.store.results import Results, TrialFolder, write_json
from bench.sweep.machine import Machine
from bench.sweep.reload import Rebuilt, rebuilt
from bench.system_errors import cannot_write

Tell = Callable[[str], None]


def measure_all(
    results: Results,
    registry: Registry,
    machine: Machine,
    effort: Effort,
    ids: list[str],
    tell: Tell,
) -> int:
    """Time the finished trials that have no times of this machine and effort yet.

    Networks of the same architecture share one measurement.

    Returns:
        How many trials got times.

    Raises:
        NotRunUnasked: some are of files that their user has not allowed; the others got theirs.
        CannotWrite: the disk is full, or the folder cannot be written; what was timed before stays.
    """
    try:
        return _measure_all(results, registry, machine, effort, ids, tell)
    except OSError as error:
        of_disk = cannot_write(error, results.folder)
        if of_disk is None:
            raise
        raise of_disk from error


def _measure_all(
    results: Results,
    registry: Registry,
    machine: Machine,
    effort: Effort,
    ids: list[str],
    tell: Tell,
) -> int:
    known: dict[str, LatencyRecord] = {}
    done = unasked = 0
    with locked(results.folder / ".measure.lock"):
        for trial_id in ids:
            folder = results.trial(trial_id)
            if folder.status() != "finished" or _has_times(folder, machine, effort):
                continue
            try:
                cost = _kept_cost(folder)
                times = _times(rebuilt(registry, folder), machine, effort, known)
            except MachineFailed:
                raise
            except (BenchError, RecordError) as error:
                tell(f"trial {trial_id} has no latency: {error}")
                unasked += isinstance(error, NotRunUnasked)
                continue
            with_times = cost.model_copy(update={"latency": times})
            write_json(folder.path / "cost.json", seal_cost(with_times, trial_id).as_json())
            done += 1
    if unasked:
        raise NotRunUnasked(
            f"{unasked} trials of files that are not run unasked were not timed, {done} others were; "
            "--plugin FILE names a file that may be run"
        )
    return done


def _kept_cost(folder: TrialFolder) -> CostRecord:
    """Return the costs that times are written beside.

    Raises:
        RecordError: there is a file that is not sound, and would be lost.
    """
    try:
        return read_cost(folder.path / "cost.json")
    except RecordMissing:
        return CostRecord()


def _setup(machine: Machine, effort: Effort) -> LatencySetup:
    return LatencySetup(
        effort=effort,
        device=machine.device.type,
        threads=machine.threads,
        dtype="float32",
        batch_sizes=list(latency.BATCH_SIZES),
        torch=str(torch.__version__),
    )


def _has_times(folder: TrialFolder, machine: Machine, effort: Effort) -> bool:
    before = folder.cost()[0].latency
    return before is not None and before.setup == _setup(machine, effort)


def _times(
    trial: Rebuilt, machine: Machine, effort: Effort, known: dict[str, LatencyRecord]
) -> LatencyRecord:
    smaller = trial.smaller().to(machine.device)
    key = _architecture(trial, smaller)
    if key not in known:
        dense = trial.network.to(machine.device)
        times = latency.measure(dense, smaller, trial.shape, machine.device, latency.SPANS[effort])
        found = LatencyRecord(setup=_setup(machine, effort)).with_times(latency.columns(times))
        if any(name in trial.layout.weights for name in trial.masks):
            found = _of_zeros(found, trial, smaller, machine, effort)
        known[key] = found
    return known[key]


def _of_zeros(
    found: LatencyRecord,
    trial: Rebuilt,
    smaller: nn.Module,
    machine: Machine,
    effort: Effort,
) -> LatencyRecord:
    """Add the gain of zeros inside layers: nothing on dense kernels; on sparse ones, as measured."""
    note = "dense kernels gain nothing from zeros inside a layer"
    noted = found.model_copy(update={"note": note})
    sparse = with_sparse_linear(smaller) if machine.device.type == "cpu" else None
    if sparse is None:
        return noted
    dense = trial.network
    times = latency.measure(dense, sparse, trial.shape, machine.device, latency.SPANS[effort])
    return noted.with_times(latency.sparse_columns(times))


def _architecture(trial: Rebuilt, smaller: nn.Module) -> str:
    """Return a hash of what decides a network's latency: operations and sizes, not weights."""
    shapes = {name: list(p.shape) for name, p in smaller.state_dict().items()}
    zeros = {name: int(m.sum()) for name, m in trial.masks.items() if name in trial.layout.weights}
    code = trial.spec.sources.get("model")  # two networks of one name may share every shape
    text = json.dumps([trial.spec.model, code, trial.shape, shapes, zeros], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
