"""Run one trial from its specification to its record."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from bench.data.batches import Parts
from bench.errors import BenchError, in_words
from bench.graph.verify import removed
from bench.measure.record import measured, measured_state, through_files, write_state
from bench.plan.build_network import input_shape
from bench.plan.options import method_of, recipe_from
from bench.store.atomic import whole_file
from bench.store.phase_records import LogLine
from bench.store.records import (
    ControlRecord,
    CostColumns,
    CostRecord,
    ErrorRecord,
    Metrics,
    ResolvedRecord,
    ResultContent,
    ResultRecord,
    SpecRecord,
    WorkRecord,
    joined,
    seal,
    seal_cost,
)
from bench.store.results import file_digest, write_json
from bench.store.trial_identity import SCHEMA, TrialSpec
from bench.sweep.context import SweepContext
from bench.sweep.machine import Machine
from bench.sweep.trial_inputs import trial_of
from bench.training.method import Control
from bench.training.trial import TrialOutcome, run_method


def execute(
    context: SweepContext,
    spec: TrialSpec,
    notify: Callable[[int, int], None],
    replace: bool = False,
) -> ResultRecord:
    """Run a trial and write its folder, unless another run has finished it meanwhile.

    Args:
        replace: run it all the same; the old record is kept in `superseded/`.

    Returns:
        The finished record.

    Raises:
        Exception: whatever stopped the trial, after `error.json` was written.
    """
    folder = context.results.trial(spec.id)
    locks = context.results.folder / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{spec.id}.lock"):  # two runs may share a results folder
        record, _ = context.results.finished(spec.id)
        if record is not None and not replace:
            return record
        if record is not None:
            context.results.set_aside(folder, "superseded")
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            return _run(context, spec, folder.path, notify)
        except Exception as error:
            facts = ErrorRecord(
                error=in_words(error), traceback=traceback.format_exc(),
                unexpected=not isinstance(error, BenchError),
            )  # fmt: skip
            write_json(folder.path / "error.json", facts.as_json())
            raise


def _run(
    context: SweepContext, spec: TrialSpec, folder: Path, notify: Callable[[int, int], None]
) -> ResultRecord:
    started = time.perf_counter()
    (folder / "error.json").unlink(missing_ok=True)
    context.use_code_of(spec)
    write_json(folder / "spec.json", _spec_record(context, spec).as_json())
    write_json(folder / "env.json", context.machine.record(list(context.config.command)).as_json())
    method = method_of(context.registry, spec.method, spec.options)
    running, parts = trial_of(context, spec, notify)
    trial = run_method(running, method.prune)
    record = seal(_result(context, spec, folder, trial, parts, method.control()))
    _write_log(folder, trial.events)
    seconds = time.perf_counter() - started
    cost = _machine_cost(trial, context.machine, seconds)
    write_json(folder / "cost.json", seal_cost(cost, spec.id).as_json())
    write_json(folder / "result.json", record.as_json())
    return record


def _result(
    context: SweepContext,
    spec: TrialSpec,
    folder: Path,
    trial: TrialOutcome,
    parts: Parts,
    control: Control,
) -> ResultContent:
    """Write what the trial ended with, and return the record of it: all that is the same on a rerun."""
    network, layout = trial.model, trial.layout
    rounds = trial.rounds if control.follows_rounds else trial.rounds[-1:]
    write_state(folder, trial)
    shape = input_shape(context.registry, spec.model, parts.dataset)
    of_files = through_files(folder, trial, spec)
    left = removed(network, layout, trial.masks.touched, shape)
    figures = measured(folder, left, trial, parts)
    return ResultContent(
        schema=SCHEMA,
        id=spec.id,
        spec=spec,
        metrics=joined(Metrics, *figures, of_files, _deterministic_cost(trial)),
        task=parts.dataset.task.name,
        curves=trial.curves,
        kept={
            name: measured_state(network, layout, state, parts)
            for name, state in trial.kept.items()
        },
        unreachable=trial.unreachable if spec.target and not spec.depends_on else False,
        control=ControlRecord(
            start=control.start,
            rounds=rounds,
            retrains=control.retrains,
            lr_scale=trial.lr_scale,
        ),
        phases=sorted(trial.costs),
        files={
            file.name: file_digest(file)
            for file in sorted(folder.glob("*.*"))
            if file.suffix in (".safetensors", ".dc")
        },
    )


def _deterministic_cost(trial: TrialOutcome) -> CostColumns:
    cost = trial.cost
    return CostColumns(
        epochs_total=cost.epochs,
        images_seen=cost.images_seen,
        images_forward=cost.images_forward,
        multiply_adds_outside=cost.multiply_adds_outside,
        optimizer_steps=cost.optimizer_steps,
        trainings=sum(c.epochs > 0 for c in trial.costs.values()),
    )


def _machine_cost(trial: TrialOutcome, machine: Machine, seconds: float) -> CostRecord:
    return CostRecord(
        train_seconds=trial.cost.seconds,
        peak_memory_mb=machine.peak_memory_mb(),
        trial_seconds=seconds,
        work=WorkRecord(**asdict(trial.work)),
    )


def _write_log(folder: Path, events: list[LogLine]) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    with whole_file(folder / "log.jsonl") as part:
        part.write_text(lines, encoding="utf-8")


def _spec_record(context: SweepContext, spec: TrialSpec) -> SpecRecord:
    """Return the resolved specification and the hashes of the code it is run with."""
    registry = context.registry
    method = method_of(registry, spec.method, spec.options)
    resolved = ResolvedRecord.model_construct(
        options=asdict(method), recipe=asdict(recipe_from(spec.recipe))
    )
    record = SpecRecord(spec=spec, resolved=resolved, sources=registry.sources_of(spec))
    planned = context.data.of(spec)
    return record if planned is None else record.model_copy(update={"data": planned.place})
