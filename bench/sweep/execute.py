"""Run one trial from its specification to its record."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench.errors import BenchError, MachineFailed, TrialFailed, UsageError, in_words
from bench.measure.handover import clear, hand_over
from bench.plan.options import method_of, recipe_from
from bench.store.atomic import whole_file
from bench.store.locks import LockRefused, locked
from bench.store.phase_records import LogLine
from bench.store.records import (
    CostRecord,
    ErrorRecord,
    ResolvedRecord,
    ResultRecord,
    SpecRecord,
    WorkRecord,
    seal_cost,
)
from bench.store.results import write_json
from bench.store.trial_identity import TrialSpec
from bench.sweep.context import SweepContext
from bench.sweep.machine import Machine
from bench.sweep.measurer import InThisProcess, Measurer
from bench.sweep.trial_inputs import trial_of
from bench.system_errors import cannot_write
from bench.training.trial import TrialOutcome, run_method


def execute(
    context: SweepContext,
    spec: TrialSpec,
    notify: Callable[[int, int], None],
    replace: bool = False,
    measurer: Measurer | None = None,
) -> ResultRecord:
    """Run a trial and write its folder, unless another run has finished it meanwhile.

    Args:
        replace: run it all the same; the old record is kept in `superseded/`.
        measurer: measures the finished network; None: this process, which must not have test images
            while a method runs, and so should run no other trial.

    Returns:
        The finished record.

    Raises:
        MachineFailed: a full disk, a process that was ended: the trial is left to the next run.
        Exception: whatever else stopped the trial, after `error.json` was written.
    """
    try:
        return _execute(context, spec, notify, replace, measurer or InThisProcess(context))
    except (MachineFailed, LockRefused):
        raise
    except Exception as error:
        of_disk = cannot_write(error, context.config.out)
        if of_disk is None:
            raise
        raise of_disk from error


def _execute(
    context: SweepContext,
    spec: TrialSpec,
    notify: Callable[[int, int], None],
    replace: bool,
    measurer: Measurer,
) -> ResultRecord:
    folder = context.results.trial(spec.id)
    if folder.path.exists() and not folder.path.is_dir():
        raise TrialFailed(f"{folder.path} is no folder, and the trial's should be; move it away")
    locks = context.results.folder / "locks"
    locks.mkdir(exist_ok=True)
    with locked(locks / f"{spec.id}.lock"):  # two runs may share a results folder
        found = context.results.finished(spec.id)
        record = found.record
        if found.is_unreadable:  # it was not so when the run began; it may be sound
            raise UsageError(f"{found.problem}; the trial was not run again")
        if found.is_damaged:
            context.tell(context.results.quarantine(folder))
        if record is not None and not replace:
            return record
        if record is not None:
            context.results.set_aside(folder, "superseded")
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            return _run(context, spec, folder.path, notify, measurer)
        except LockRefused:  # of a phase: the trial has not failed
            raise
        except Exception as error:
            if isinstance(error, MachineFailed) or cannot_write(error, context.config.out):
                raise
            facts = ErrorRecord(
                error=in_words(error), traceback=traceback.format_exc(),
                unexpected=not isinstance(error, BenchError),
            )  # fmt: skip
            write_json(folder.path / "error.json", facts.as_json())
            raise


def _run(
    context: SweepContext,
    spec: TrialSpec,
    folder: Path,
    notify: Callable[[int, int], None],
    measurer: Measurer,
) -> ResultRecord:
    start = time.perf_counter()
    (folder / "error.json").unlink(missing_ok=True)
    context.use_code_of(spec)
    write_json(folder / "spec.json", _spec_record(context, spec).as_json())
    write_json(folder / "env.json", context.machine.record(list(context.config.command)).as_json())
    method = method_of(context.registry, spec.method, spec.options)
    running, parts = trial_of(context, spec, notify)
    trial = run_method(running, method.prune)
    hand_over(folder, spec, trial, method.control(), parts, context.code_of(spec))
    record = measurer.measure(spec, folder)
    clear(folder)
    _write_log(folder, trial.events)
    seconds = time.perf_counter() - start
    cost = _machine_cost(trial, context.machine, seconds)
    write_json(folder / "cost.json", seal_cost(cost, spec.id).as_json())
    write_json(folder / "result.json", record.as_json())
    return record


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
