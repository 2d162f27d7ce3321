"""A finished trial's figures counted again from what is stored of it, and held against its record."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.data.batches import Part
from bench.data.images import Shape
from bench.data.tasks import Task
from bench.errors import TrialFailed
from bench.graph.rewriting import CannotCut
from bench.graph.structure import Layout
from bench.graph.verify import MOST_ERROR, Removed, removed
from bench.measure import sizes
from bench.measure.agreement import Span, Tally
from bench.measure.codec import CodecError
from bench.measure.file_size import FILES, file_columns
from bench.measure.quality import columns_of, examples, quality
from bench.pruning.hard_mask import zero
from bench.pruning.masks import REACHED, Masks
from bench.seeds import derive, generator
from bench.store.phase_cache import read_phase
from bench.store.phase_records import Cost
from bench.store.records import (
    CostColumns,
    FileColumns,
    QualityColumns,
    RemovalColumns,
    ResultRecord,
)
from bench.training.evaluation import scored

# Relative to the largest output of an image: other processors and versions sum in another order.
OTHER_MACHINE = 1e-4
OTHER_MACHINE_FIGURE = 1e-3  # relative, where the task cannot say what its outputs' error does
SUMMED_AGAIN = 1e-9  # relative: the same float32 outputs, summed in another order
HALF = 2.0**-11  # relative error of a float16
HALF_LEAST = 2.0**-25  # absolute, of the smallest ones


@dataclass(frozen=True)
class Stored:
    """The stored network of a trial, in the network that it was built as.

    Attributes:
        masks: those that are not all ones, on the network's device.
        shape: channels, height and width of the images that it takes.
        relevant: inputs that matter, where the data set knows them.
    """

    network: nn.Module
    layout: Layout
    masks: Mapping[str, Tensor]
    shape: Shape
    relevant: Tensor | None


@dataclass(frozen=True)
class Images:
    """The parts of a data set that a finished network is measured on."""

    test: Part
    validation: Part

    @property
    def task(self) -> Task:
        return self.test.task

    def by_name(self) -> dict[str, Part]:
        return {"test": self.test, "validation": self.validation}


# -- sizes, from masks and weights -------------------------------------------------------------------


def hold_structure(tally: Tally, record: ResultRecord, stored: Stored) -> Removed | None:
    """Count sizes, rates and the removal again; return the network after it, None where it fails."""
    layout, masks = stored.layout, stored.masks
    if wrong := _wrong_masks(stored):
        tally.hold("masks.safetensors", "masks of its network", wrong)
        return None
    tally.columns(record.metrics, sizes.sizes(layout, masks))
    if stored.relevant is not None:
        tally.columns(record.metrics, sizes.support(layout, masks, stored.relevant))
    _hold_masks(tally, record, stored)
    try:
        left = removed(stored.network, layout, masks, stored.shape)
    except (TrialFailed, CannotCut) as error:
        tally.hold("compact_max_error", record.metrics.compact_max_error, str(error))
        return None
    _hold_removal(tally, record.metrics, left)
    return left


def _wrong_masks(stored: Stored) -> str:
    """Say why the masks are none of the network's; nothing where they are."""
    masks = _all_kept(stored)
    if foreign := sorted(stored.masks.keys() - masks.keys()):
        return f"the network has nothing that is called {foreign[0]!r}"
    try:
        masks.load(stored.masks)
    except TrialFailed as error:
        return str(error)
    return ""


def _all_kept(stored: Stored) -> Masks:
    return Masks(stored.layout, torch.device("cpu"), lambda purpose: generator(0, purpose))


def _hold_masks(tally: Tally, record: ResultRecord, stored: Stored) -> None:
    """Hold what the masks say against the weights and the record: zeros, rounds, the target."""
    zeroed = copy.deepcopy(stored.network)
    zero(zeroed, stored.layout, stored.masks)
    state, before = zeroed.state_dict(), stored.network.state_dict()
    alive = [name for name in before if not _same(state[name], before[name])]
    tally.hold("dropped weights that are not zero", [], alive)
    masks = _all_kept(stored)
    masks.load(stored.masks)
    counts, spec = masks.counts(), record.spec
    if counts and record.control.rounds:
        tally.hold("control.rounds (the last)", record.control.rounds[-1], counts)
    misses = spec.target is not None and masks.compression < spec.target * REACHED
    tally.hold("unreachable", record.unreachable, misses and not spec.depends_on)


def _hold_removal(tally: Tally, recorded: RemovalColumns, left: Removed) -> None:
    found = RemovalColumns(params_compact=left.parameters, macs_compact=left.multiply_adds)
    tally.columns(recorded, found)
    tally.hold("not_compacted", recorded.not_compacted, left.why_whole)
    if recorded.compact_max_error is not None:  # the last bits of a proof are the processor's own
        bound = (0.0, MOST_ERROR)
        tally.hold("compact_max_error", recorded.compact_max_error, left.error, bound)


def _same(a: Tensor, b: Tensor) -> bool:
    """Compare values; NaN, of which there are many, equals NaN."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


# -- quality, from the network or its stored predictions ---------------------------------------------


def hold_outputs(
    tally: Tally,
    record: ResultRecord,
    folder: Path,
    left: Removed,
    images: Images,
    is_same_machine: bool,
) -> None:
    """Put the images into the network again: exact on the machine of the record, else up to rounding."""
    torch.manual_seed(derive(record.spec.seed, "measure"))
    try:
        found, outputs = quality(left.network, images.test, images.validation)
    except TrialFailed as error:
        tally.hold(images.task.headline.column, _headline(record, images.task), str(error))
        return
    relative = 0.0 if is_same_machine else OTHER_MACHINE
    errors = {name: _row_scale(each) * relative for name, each in outputs.items()}
    spans = (
        None if is_same_machine else _spans(found, outputs, images, errors, OTHER_MACHINE_FIGURE)
    )
    _hold_quality(tally, record, images.task, found, spans)
    of_files = {"predictions.safetensors": images.task.stored(outputs)}
    if images.task.keeps_examples:
        of_files["examples.safetensors"] = examples(images.test, outputs["test"])
    for name, tensors in of_files.items():
        if tensors and name not in record.files:
            tally.leave_out([name], "the record knows of no such file")
        if name in record.files and name in tally.equal:  # the file of the record
            tally.hold(f"outputs in {name}", [], _unlike(folder / name, tensors, relative))


def hold_predictions(tally: Tally, record: ResultRecord, file: Path, images: Images) -> None:
    """Score stored predictions, where the network itself cannot be asked: up to their rounding."""
    task = images.task
    names = (*task.columns, task.validation, "validation_loss", "collapsed")
    outputs = _outputs_in(file, images)
    if isinstance(outputs, str):
        tally.leave_out(names, outputs)
        return
    is_half = any(each.dtype == torch.float16 for each in outputs.values())
    wide = {name: each.float().to(images.test.device) for name, each in outputs.items()}
    errors = {name: (each.abs() * HALF + HALF_LEAST) * is_half for name, each in wide.items()}
    scores = {name: scored(task, wide[name], part.y) for name, part in images.by_name().items()}
    found = columns_of(task, scores["test"], scores["validation"])
    spans = _spans(found, wide, images, errors, SUMMED_AGAIN)
    if is_half and not task.spans(wide["test"], images.test.y, errors["test"]):
        tally.leave_out(
            names, f"{file.name} holds rounded outputs, of which the task cannot say the error"
        )
        return
    _hold_quality(tally, record, task, found, spans)


def _hold_quality(
    tally: Tally,
    record: ResultRecord,
    task: Task,
    found: QualityColumns,
    spans: Mapping[str, Span] | None,
) -> None:
    """Hold the columns of a task; every version has written the headline."""
    headline = task.headline.column
    if record.metrics.column(headline) is None:
        tally.hold(headline, None, found.column(headline))
    tally.columns(record.metrics, found, spans)


def _headline(record: ResultRecord, task: Task) -> float | str | None:
    return record.metrics.column(task.headline.column)


def _row_scale(outputs: Tensor) -> Tensor:
    """Return the largest output of each image (n, 1), 1 at least."""
    return outputs.abs().amax(1, keepdim=True).clamp(min=1.0)


def _spans(
    found: QualityColumns,
    outputs: Mapping[str, Tensor],
    images: Images,
    errors: Mapping[str, Tensor],
    otherwise: float,
) -> dict[str, Span]:
    """Return what each column may be where outputs are known up to an error.

    Args:
        otherwise: relative error of a column of which the task cannot say it.
    """
    spans = {
        name: (value - abs(value) * otherwise, value + abs(value) * otherwise)
        for name, value in found.scalars().items()
        if isinstance(value, float)
    }
    task = images.task
    test, validation = (
        task.spans(outputs[name], part.y, errors[name]) for name, part in images.by_name().items()
    )
    if test:
        spans |= {name: span for name, span in test.items() if name != "loss"}
        spans |= {"test_loss": test["loss"], "validation_loss": validation["loss"]}
        spans[task.validation] = validation[task.headline.column]
    return spans


def _outputs_in(file: Path, images: Images) -> dict[str, Tensor] | str:
    """Return the outputs that a file holds for the images, or why it cannot be used."""
    try:
        outputs = load_file(file)
    except (OSError, SafetensorError):
        return f"{file.name} cannot be read"
    parts = images.by_name()
    if outputs.keys() != parts.keys() or not all(_fits(outputs[n], parts[n]) for n in parts):
        return f"{file.name} does not hold an output for every target of the data set"
    if not all(bool(each.isfinite().all()) for each in outputs.values()):
        return f"{file.name} holds numbers beyond float16"
    return outputs


def _fits(outputs: Tensor, part: Part) -> bool:
    """Return True where outputs can be held against a part's targets."""
    if outputs.dim() != 2 or len(outputs) != len(part) or not outputs.is_floating_point():
        return False
    if part.task.targets == "labels":
        return outputs.shape[1] > int(part.y.max())
    return part.task.targets == "numbers" and outputs.shape == part.y.shape


def _unlike(file: Path, expected: Mapping[str, Tensor], relative: float) -> list[str]:
    """Return the names of tensors in a file that are not the expected ones."""
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        return [f"it cannot be read ({error})"]
    names = sorted(found.keys() ^ expected.keys())
    for name in sorted(found.keys() & expected.keys()):
        wanted, given = expected[name].cpu(), found[name]
        if (
            wanted.shape != given.shape
            or wanted.dtype != given.dtype
            or not _near(wanted, given, relative)
        ):
            names.append(name)
    return names


def _near(wanted: Tensor, given: Tensor, relative: float) -> bool:
    if relative == 0.0 or wanted.dim() < 2:
        return _same(wanted, given)
    step = 2 * HALF if wanted.dtype == torch.float16 else 0.0  # one may be rounded up, one down
    allowed = _row_scale(wanted.float().flatten(1)).view(-1, *[1] * (wanted.dim() - 1)) * (
        relative + step
    )
    return bool(((wanted.float() - given.float()).abs() <= allowed).all())


# -- files and costs ---------------------------------------------------------------------------------


def hold_files(tally: Tally, record: ResultRecord, folder: Path, network: nn.Module) -> None:
    """Count the bytes of Deep Compression files again, and decode them to the stored network."""
    if record.metrics.file_bytes is None:
        return
    names = [name for name in FileColumns.model_fields if name in record.metrics.as_json()]
    bad = [name for name in FILES.values() if any(d.figure == name for d in tally.differences)]
    if bad:
        tally.leave_out(names, f"{bad[0]} is not the file that the record was written with")
        return
    try:
        tally.columns(record.metrics, file_columns(folder, network.state_dict()))
    except (TrialFailed, CodecError, OSError) as error:
        tally.hold("file_bytes", record.metrics.file_bytes, str(error))


def hold_costs(tally: Tally, record: ResultRecord, phases: Path) -> None:
    """Add the costs of the trial's phases up again, where the cache still has them all.

    They are the least that a trial can have cost: passes outside phases are stored nowhere.
    """
    names = [name for name in CostColumns.model_fields if name in record.metrics.as_json()]
    found = [read_phase(phases, key) for key in record.phases]
    missing = sum(each is None for each in found)
    if missing:
        why = f"{missing} of its {len(found)} phases are no longer in the cache"
        tally.leave_out(names, why)
        return
    costs = [each.cost for each in found if each is not None]
    total = Cost()
    for cost in costs:
        total.add(cost)
    least = {"epochs_total": total.epochs, "images_seen": total.images_seen,
             "images_forward": total.images_forward,
             "multiply_adds_outside": total.multiply_adds_outside, "optimizer_steps": total.optimizer_steps,
             "trainings": sum(cost.epochs > 0 for cost in costs)}  # fmt: skip
    for name in names:
        tally.hold(name, record.metrics.column(name), least[name], (least[name], float("inf")))


def leave_out_rest(tally: Tally, record: ResultRecord, why: str) -> None:
    """Name every figure of a record that was not counted again.

    Args:
        why: of the columns of the network.
    """
    tally.leave_out(record.metrics.model_fields_set, why)
    if record.kept:
        tally.leave_out(["kept"], "the weights of states beside the final one are not stored")
    told = ["control", *(["curves"] if record.curves else [])]
    tally.leave_out(told, "what a method said or measured while it worked is stored nowhere else")
