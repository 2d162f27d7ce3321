"""The exclusive pass after the trials: latency of every finished network, one at a time."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from filelock import FileLock
from torch import nn

from bench.errors import BenchError
from bench.measure import latency
from bench.measure.sparse import with_sparse_linear
from bench.plan.registry import Registry
from bench.store.results import Results, TrialFolder, write_json
from bench.sweep.machine import Machine
from bench.sweep.reload import Rebuilt, rebuilt

Tell = Callable[[str], None]


def measure_all(
    results: Results,
    registry: Registry,
    machine: Machine,
    effort: latency.Effort,
    ids: list[str],
    tell: Tell,
) -> int:
    """Time the finished trials that have no times of this machine and effort yet.

    Networks of the same architecture share one measurement.

    Returns:
        How many trials got times.
    """
    known: dict[str, dict[str, Any]] = {}
    done = 0
    with FileLock(results.folder / ".measure.lock"):
        for trial_id in ids:
            folder = results.trial(trial_id)
            if folder.status() != "finished" or _has_times(folder, machine, effort):
                continue
            try:
                times = _times(rebuilt(registry, folder), machine, effort, known)
            except BenchError as error:
                tell(f"trial {trial_id} has no latency: {error}")
                continue
            write_json(folder.path / "cost.json", folder.cost() | {"latency": times})
            done += 1
    return done


def _setup(machine: Machine, effort: latency.Effort) -> dict[str, Any]:
    return {"effort": effort, "device": machine.device.type, "threads": machine.threads,
            "dtype": "float32", "batch_sizes": list(latency.BATCH_SIZES),
            "torch": torch.__version__}  # fmt: skip


def _has_times(folder: TrialFolder, machine: Machine, effort: latency.Effort) -> bool:
    before = folder.cost().get("latency")
    return isinstance(before, dict) and before.get("setup") == _setup(machine, effort)


def _times(
    trial: Rebuilt, machine: Machine, effort: latency.Effort, known: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    smaller = trial.smaller().to(machine.device)
    key = _architecture(trial, smaller)
    if key not in known:
        dense = trial.network.to(machine.device)
        times = latency.measure(dense, smaller, trial.shape, machine.device, latency.SPANS[effort])
        known[key] = {"setup": _setup(machine, effort), **latency.columns(times)}
        if any(name in trial.layout.weights for name in trial.masks):
            known[key] |= _of_zeros(trial, dense, smaller, machine, effort)
    return known[key]


def _of_zeros(
    trial: Rebuilt, dense: nn.Module, smaller: nn.Module, machine: Machine, effort: latency.Effort
) -> dict[str, Any]:
    """Return the gain of zeros inside layers: nothing on dense kernels; on sparse ones, as measured."""
    found: dict[str, Any] = {"note": "dense kernels gain nothing from zeros inside a layer"}
    sparse = with_sparse_linear(smaller) if machine.device.type == "cpu" else None
    if sparse is not None:
        times = latency.measure(dense, sparse, trial.shape, machine.device, latency.SPANS[effort])
        found |= {f"{k}_sparse": v for k, v in latency.columns(times).items() if "speedup" in k}
    return found


def _architecture(trial: Rebuilt, smaller: nn.Module) -> str:
    """Return a hash of what decides a network's latency: operations and sizes, not weights."""
    shapes = {name: list(p.shape) for name, p in smaller.state_dict().items()}
    zeros = {name: int(m.sum()) for name, m in trial.masks.items() if name in trial.layout.weights}
    text = json.dumps([trial.spec.model, trial.shape, shapes, zeros], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
