"""From a finished network to the figures and files of its record."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from bench.data.batches import Parts
from bench.graph.structure import Layout
from bench.graph.verify import Removed
from bench.measure import file_size, sizes
from bench.measure.codec import JSON
from bench.measure.quality import examples, quality
from bench.pruning.hard_mask import apply_hard, zero
from bench.store.atomic import whole_file
from bench.store.records import (
    Columns,
    FileColumns,
    RemovalColumns,
    StateColumns,
    SupportColumns,
    joined,
)
from bench.store.trial_identity import TrialSpec
from bench.training.loop import load_model
from bench.training.trial import TrialOutcome
from bench.training.trial_records import KeptState


def write_state(folder: Path, trial: TrialOutcome) -> None:
    """Store masks and the final weights, dropped ones as zeros."""
    apply_hard(trial.model, trial.masks)
    masks = {name: mask.cpu() for name, mask in trial.masks.touched.items()}
    _save(folder / "masks.safetensors", masks)
    _save(folder / "model.safetensors", trial.model.state_dict())


def through_files(folder: Path, trial: TrialOutcome, spec: TrialSpec) -> FileColumns:
    """Store the network as a file where its method asks for it; from now on it is what that decodes to."""
    if trial.index_bits is None:
        return FileColumns()
    facts: dict[str, JSON] = {"trial": spec.id, "model": spec.model, "dataset": spec.dataset,
                              "seed": spec.seed}  # fmt: skip
    return file_size.through_files(
        folder, trial.model, trial.layout, trial.masks.touched, trial.index_bits, facts
    )


def measured(folder: Path, left: Removed, trial: TrialOutcome, parts: Parts) -> tuple[Columns, ...]:
    """Return the columns of a finished trial, measured on the network that is left after removal."""
    layout = trial.layout
    channels_last = layout.has_convolutions
    test = parts.test.in_memory_format(channels_last)
    columns, outputs = quality(left.network, test, parts.validation.in_memory_format(channels_last))
    if test.task.keeps_examples:
        _save(folder / "examples.safetensors", examples(test, outputs["test"]))
    if stored := test.task.stored(outputs):
        _save(folder / "predictions.safetensors", stored)
    support = SupportColumns()
    if parts.dataset.relevant is not None:
        support = sizes.support(layout, trial.masks.touched, parts.dataset.relevant)
    return columns, sizes.sizes(layout, trial.masks.touched), support, _removal(left)


def _removal(left: Removed) -> RemovalColumns:
    found = RemovalColumns(
        params_compact=left.parameters,
        macs_compact=left.multiply_adds,
        compact_max_error=left.error,
    )
    why = {"not_compacted": left.why_whole} if left.why_whole else {}
    return found.model_copy(update=why)


def measured_state(
    network: nn.Module, layout: Layout, state: KeptState, parts: Parts
) -> StateColumns:
    """Measure a state that the method wanted beside the final one."""
    load_model(network, state.tensors)
    zero(network, layout, state.masks)
    channels_last = layout.has_convolutions
    columns, _ = quality(
        network,
        parts.test.in_memory_format(channels_last),
        parts.validation.in_memory_format(channels_last),
    )
    return joined(StateColumns, columns, sizes.sizes(layout, state.masks))


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with whole_file(path) as part:
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, part
        )
