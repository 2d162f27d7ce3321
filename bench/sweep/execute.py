"""Run one trial from its specification to its record."""

import json
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import nn

from bench.data.batches import Parts
from bench.errors import BenchError, TrialFailed, UsageError
from bench.graph.structure import Layout
from bench.graph.verify import removed
from bench.measure import outcome
from bench.plan.fixture import build, input_shape
from bench.plan.options import method_of
from bench.plan.registry import Registry
from bench.store import source_hash
from bench.store.atomic import whole_file
from bench.store.phase_cache import PhaseStore
from bench.store.results import file_digest, sealed, write_json
from bench.store.spec import SCHEMA, TrialSpec
from bench.sweep.context import Bench
from bench.training import pretrained
from bench.training.method import Control
from bench.training.network import about
from bench.training.pretrained import Fitted
from bench.training.recipe import Recipe
from bench.training.setting import Reference, Setting
from bench.training.trial import Trial


def execute(
    bench: Bench,
    spec: TrialSpec,
    notify: Callable[[int, int], None],
    replace: bool = False,
) -> dict[str, Any]:
    """Run a trial and write its folder, unless another run has finished it meanwhile.

    Args:
        replace: run it all the same; the old record is kept in `superseded/`.

    Returns:
        The finished record.

    Raises:
        Exception: whatever stopped the trial, after `error.json` was written.
    """
    folder = bench.results.trial(spec.id)
    locks = bench.results.folder / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{spec.id}.lock"):  # two runs may share a results folder
        record, _ = bench.results.finished(spec.id)
        if record is not None and not replace:
            return record
        if record is not None:
            bench.results.set_aside(folder, "superseded")
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            return _run(bench, spec, folder.path, notify)
        except Exception as error:
            is_ours = isinstance(error, BenchError)
            shown = str(error) if is_ours else f"{type(error).__name__}: {error}"
            told = {"error": shown, "traceback": traceback.format_exc()}
            write_json(folder.path / "error.json", told)
            raise


def _run(
    bench: Bench, spec: TrialSpec, folder: Path, notify: Callable[[int, int], None]
) -> dict[str, Any]:
    started = time.perf_counter()
    (folder / "error.json").unlink(missing_ok=True)
    write_json(folder / "spec.json", _spec_record(bench, spec))
    write_json(folder / "env.json", bench.machine.record(bench.flags))
    method = method_of(bench.registry, spec.method, spec.options)
    trial, parts = _trial(bench, spec, notify)
    method.prune(trial)
    trial.close()
    record = sealed(_result(bench, spec, folder, trial, parts, method.control()))
    _write_log(folder, trial)
    write_json(folder / "cost.json", _machine_cost(trial, time.perf_counter() - started))
    write_json(folder / "result.json", record)
    return record


def _trial(
    bench: Bench, spec: TrialSpec, notify: Callable[[int, int], None]
) -> tuple[Trial, Parts]:
    """What a method is given, at its start."""
    maker = bench.registry.model(spec.model)
    parts = bench.parts(spec.dataset, spec.budget, about(maker).input_size, spec.seed)
    network, layout = build(bench.registry, spec.model, parts.dataset, spec.seed, spec.coupling)
    weights = _weights(bench, spec, network, layout)
    network.to(bench.machine.device)
    return Trial(network, layout, _setting(bench, spec, parts, weights, notify)), parts


def _result(
    bench: Bench, spec: TrialSpec, folder: Path, trial: Trial, parts: Parts, control: Control
) -> dict[str, Any]:
    """Write what the trial ended with, and return the record of it: all that is the same on a rerun."""
    network, layout = trial.model, trial.layout
    rounds = trial.rounds if control.follows_rounds else trial.rounds[-1:]
    outcome.write_state(folder, trial)
    shape = input_shape(bench.registry, spec.model, parts.dataset)
    of_files = outcome.through_files(folder, trial, spec)
    left = removed(network, layout, trial.masks.touched, shape)
    figures = outcome.measured(folder, left, layout, trial, parts)
    return {
        "schema": SCHEMA,
        "id": spec.id,
        "spec": spec.as_json(),
        "metrics": figures | of_files | _deterministic_cost(trial),
        "task": parts.dataset.task.name,
        "curves": trial.curves,
        "kept": {
            name: outcome.measured_state(network, layout, state, parts)
            for name, state in trial.kept.items()
        },
        "unreachable": trial.unreachable if spec.target and not spec.depends_on else False,
        "control": {
            "start": control.start,
            "rounds": rounds,
            "retrains": control.retrains,
            "lr_scale": trial.lr_scale,
        },
        "phases": sorted(trial.ledger.costs),
        "files": {
            file.name: file_digest(file)
            for file in sorted(folder.glob("*.*"))
            if file.suffix in (".safetensors", ".dc")
        },
    }


def _setting(
    bench: Bench,
    spec: TrialSpec,
    parts: Parts,
    weights: Fitted | None,
    notify: Callable[[int, int], None],
) -> Setting:
    recipe = Recipe(**{k: _tuples(v) for k, v in spec.recipe.items()})
    environment = {
        **bench.machine.facts(),
        "seed": spec.seed,
        "recipe": asdict(recipe),
        "train": parts.train.digest,
        "validation": parts.validation.digest,
        "core": source_hash.of_core(),
        # The forward pass is code: two networks may share every tensor.
        "model": [spec.model, bench.registry.source_of("models", spec.model)],
    }
    return Setting(
        recipe=recipe,
        seed=spec.seed,
        target=spec.target,
        train=parts.train,
        validation=parts.validation,
        store=PhaseStore(bench.results.folder / "phases"),
        environment=environment,
        checkpoint_seconds=bench.checkpoint_seconds,
        reference=_reference(bench, spec),
        weights=weights,
        notify=notify,
    )


def _weights(bench: Bench, spec: TrialSpec, network: nn.Module, layout: Layout) -> Fitted | None:
    """The weights that the trial's network starts from, if they were given."""
    if spec.weights is None:
        return None
    file = bench.weights_file if pretrained.is_of_a_file(spec.weights) else None
    if file is None and pretrained.is_of_a_file(spec.weights):
        raise TrialFailed(f"its weights ({spec.weights}) are not given; add --weights FILE")
    tensors = pretrained.load(spec.model, spec.weights, file)
    what = f"the weights {spec.weights} do not fit {spec.model}"
    return pretrained.fitted(tensors, network, layout, what)


def _reference(bench: Bench, spec: TrialSpec) -> Reference | None:
    """Read the trial that a control follows.

    Raises:
        TrialFailed: it is not finished.
    """
    if not spec.depends_on:
        return None
    followed = spec.depends_on[0]
    record, wrong = bench.results.finished(followed)
    if record is None:
        raise TrialFailed(wrong or f"it is a control of trial {followed}, which did not finish")
    control = record["control"]
    try:
        masks = bench.results.trial(followed).file("masks.safetensors", record)
    except UsageError as error:
        raise TrialFailed(str(error)) from error
    return Reference(
        start=control["start"],
        rounds=tuple(control["rounds"]),
        lr_scale=control["lr_scale"],
        retrains=control["retrains"],
        masks=load_file(masks),
        epochs=record["metrics"]["epochs_total"],
    )


def _deterministic_cost(trial: Trial) -> dict[str, Any]:
    cost = trial.ledger.cost
    return {
        "epochs_total": cost.epochs,
        "images_seen": cost.images_seen,
        "images_forward": cost.images_forward,
        "optimizer_steps": cost.optimizer_steps,
        "trainings": sum(c.epochs > 0 for c in trial.ledger.costs.values()),
    }


def _machine_cost(trial: Trial, seconds: float) -> dict[str, Any]:
    device = trial.setting.train.device
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "train_seconds": trial.ledger.cost.seconds,
        "peak_memory_mb": peak,
        "trial_seconds": seconds,
        "work": asdict(trial.ledger.work),
    }


def _write_log(folder: Path, trial: Trial) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in trial.events)
    with whole_file(folder / "log.jsonl") as part:
        part.write_text(lines, encoding="utf-8")


def _spec_record(bench: Bench, spec: TrialSpec) -> dict[str, Any]:
    """The resolved specification, and the code it was run with."""
    registry = bench.registry
    method = method_of(registry, spec.method, spec.options)
    return {
        "spec": spec.as_json(),
        "resolved": {
            "options": asdict(method),
            "recipe": asdict(Recipe(**{k: _tuples(v) for k, v in spec.recipe.items()})),
        },
        "sources": sources(registry, spec),
    }


def sources(registry: Registry, spec: TrialSpec) -> dict[str, str]:
    """Hashes of the plug-ins a trial runs."""
    return {
        "method": registry.source_of("methods", spec.method),
        "model": registry.source_of("models", spec.model),
        "dataset": registry.source_of("datasets", spec.dataset),
    }


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
