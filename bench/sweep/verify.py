"""Verify finished trials: what their records say against what is counted again of their files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open

from bench.choices import MOST_THREADS
from bench.data.batches import MeasuringParts
from bench.errors import BenchError, users_code
from bench.measure import recount
from bench.measure.agreement import Tally
from bench.store.json_values import RecordError, RecordMissing
from bench.store.records import ResultRecord, read_cost, read_environment, read_sources, read_spec
from bench.store.results import TrialFolder, file_digest
from bench.store.source_hash import is_other_code
from bench.store.trial_identity import TrialSpec
from bench.sweep.context import SweepContext
from bench.sweep.machine import Machine
from bench.sweep.reload import Rebuilt, rebuilt

T = TypeVar("T")
_NETWORK = {"model.safetensors", "masks.safetensors"}  # of every finished trial
_PREDICTIONS = "predictions.safetensors"
_OF_A_MOMENT = ("train_seconds", "peak_memory_mb", "trial_seconds", "work", "latency")


@dataclass(frozen=True)
class Verified:
    """A trial whose record was held against its files.

    Attributes:
        label: in progress lines; the id where the record is not sound.
        notes: what may explain a difference.
    """

    trial: str
    label: str
    tally: Tally
    notes: tuple[str, ...] = ()


def verify(context: SweepContext, folder: TrialFolder) -> Verified:
    """Count a finished trial's figures again; nothing of its folder is changed."""
    tally = Tally()
    try:
        record = folder.result()
    except RecordError as error:
        tally.hold("result.json", "a sound record", error.problem)
        return Verified(folder.id, folder.id, tally)
    _hold_file_digests(tally, record, folder)
    _hold_neighbours(tally, record, folder)
    recount.hold_costs(tally, record, context.results.folder / "phases")
    machine = Machine(context.machine.device, min(record.spec.threads, MOST_THREADS))
    machine.prepare()
    why = _hold_network(tally, context, record, folder, _is_machine_of(folder, machine))
    recount.leave_out_rest(tally, record, why)
    notes = _other_code(context, folder, record.spec) if tally.differences else ()
    return Verified(folder.id, record.spec.label, tally, notes)


# -- files beside the record -------------------------------------------------------------------------


def _hold_file_digests(tally: Tally, record: ResultRecord, folder: TrialFolder) -> None:
    unnamed = dict.fromkeys(_NETWORK - record.files.keys(), "no hash of it")
    for name, digest in {**record.files, **unnamed}.items():
        path = folder.path / name
        if path.parent != folder.path:
            found = "no file of its folder"
        elif not path.is_file():
            found = "missing"
        else:
            found = _digest(path)
        tally.hold(name, digest, found)


def _digest(path: Path) -> str:
    """Return the hash of a file, or what is wrong with it: its hash alone does not make it one of tensors."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return file_digest(path)
        return file_digest(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except SafetensorError as error:
        return f"no file of tensors ({error})"


def _hold_neighbours(tally: Tally, record: ResultRecord, folder: TrialFolder) -> None:
    """Hold spec.json and cost.json: one is of this trial, the other matches its seal."""
    try:
        tally.hold("spec.json", record.id, read_spec(folder.path / "spec.json").spec.id)
    except RecordMissing:
        tally.leave_out(["spec.json"], "it is missing")
    except RecordError as error:
        tally.hold("spec.json", record.id, error.problem)
    try:
        cost = read_cost(folder.path / "cost.json")
    except RecordMissing:
        tally.leave_out(["cost.json"], "it is missing")
        return
    except RecordError as error:
        tally.hold("cost.json", "sealed costs of this trial", error.problem)
        return
    moment = [name for name in _OF_A_MOMENT if name in cost.model_fields_set]
    if cost.is_sealed:
        tally.equal.append("cost.json")
        tally.leave_out(
            moment, "seconds and memory are of one moment; the seal of cost.json is whole"
        )
    else:
        why = "cost.json has no seal, as older versions wrote it: a change would not be noticed"
        tally.leave_out(["cost.json", *moment], why)


# -- the network -------------------------------------------------------------------------------------


def _hold_network(
    tally: Tally,
    context: SweepContext,
    record: ResultRecord,
    folder: TrialFolder,
    is_same_machine: bool,
) -> str:
    """Hold all that is counted of the network; return why the rest was not."""
    trial, why = _tried(lambda: rebuilt(context.registry, folder))
    images, no_data = _images(context, record)
    if images is not None:
        tally.hold("task", record.task_name, images.task.name)
    left = None
    if trial is not None:
        stored = _stored(trial, context.machine)
        recount.hold_files(tally, record, folder.path, stored.network)
        left = recount.hold_structure(tally, record, stored)
        why = "the network cannot be cut down to what was measured" if left is None else ""
        if left is not None and images is not None:
            images = _in_memory_format(images, trial)
            recount.hold_outputs(tally, record, folder.path, left, images, is_same_machine)
    if left is None and images is not None:
        _hold_predictions(tally, record, folder, images)
    return why or no_data or "nothing here counts them again"


def _hold_predictions(
    tally: Tally, record: ResultRecord, folder: TrialFolder, images: recount.Images
) -> None:
    if _PREDICTIONS in record.files and _PREDICTIONS in tally.equal:
        recount.hold_predictions(tally, record, folder.path / _PREDICTIONS, images)


def _stored(trial: Rebuilt, machine: Machine) -> recount.Stored:
    device = machine.device
    masks = {name: mask.to(device) for name, mask in trial.masks.items()}
    network = trial.network.to(device)
    return recount.Stored(network, trial.layout, masks, trial.shape, trial.dataset.relevant)


def _images(context: SweepContext, record: ResultRecord) -> tuple[recount.Images | None, str]:
    parts, why = _tried(lambda: _parts(context, record.spec))
    if parts is None:
        return None, why
    return recount.Images(parts.test, parts.validation), ""


def _parts(context: SweepContext, spec: TrialSpec) -> MeasuringParts:
    # Without the network nothing is asked of the images, and its stored outputs need labels alone.
    network, _ = _tried(lambda: context.registry.model(spec.model))
    with users_code():
        return context.measuring_parts(spec, has_network=network is not None)


def _in_memory_format(images: recount.Images, trial: Rebuilt) -> recount.Images:
    last = trial.layout.has_convolutions
    test, validation = (p.in_memory_format(last) for p in (images.test, images.validation))
    return recount.Images(test, validation)


def _tried(make: Callable[[], T]) -> tuple[T | None, str]:
    """Return what can be made here, or why it cannot."""
    try:
        return make(), ""
    except BenchError as error:
        return None, str(error)


# -- circumstances -----------------------------------------------------------------------------------


def _is_machine_of(folder: TrialFolder, machine: Machine) -> bool:
    """Return True where arithmetic here is that of the machine that the trial ran on."""
    try:
        then = read_environment(folder.path / "env.json")
    except RecordError:
        return False
    now = machine.arithmetic()
    return all(getattr(then, name) == getattr(now, name) for name in now.model_fields_set)


def _other_code(context: SweepContext, folder: TrialFolder, spec: TrialSpec) -> tuple[str, ...]:
    """Say what of the trial's code is not what it was: it may be why a figure differs."""
    try:
        then = read_sources(folder.path / "spec.json")
        now = {
            "model": context.registry.source_of("models", spec.model),
            "dataset": context.registry.source_of("datasets", spec.dataset),
        }
    except (RecordError, BenchError):
        return ()
    changed = [kind for kind, code in now.items() if is_other_code(then.get(kind, ""), code)]
    return tuple(
        f"the code of the {kind} {getattr(spec, kind)} is not what the trial was run with"
        for kind in changed
    )
