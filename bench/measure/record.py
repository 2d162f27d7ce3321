"""From the files of a finished trial to the figures and files of its record."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.data.batches import MeasuringParts
from bench.data.images import Shape
from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.graph.verify import Removed, removed
from bench.measure import file_size, sizes
from bench.measure.codec import JSON
from bench.measure.handover import FILE, read_kept, save, validation_digest
from bench.measure.quality import examples, quality
from bench.pruning.hard_mask import zero
from bench.seeds import derive
from bench.store.records import (
    Columns,
    FileColumns,
    HandoverRecord,
    Metrics,
    RemovalColumns,
    ResultContent,
    StateColumns,
    SupportColumns,
    joined,
    read_handover,
)
from bench.store.results import file_digest
from bench.store.trial_identity import SCHEMA, TrialSpec
from bench.training.loop import load_model
from bench.training.trial_records import KeptState


@dataclass(frozen=True)
class FreshNetwork:
    """A network as it is built, on the device, before any weights were loaded.

    Attributes:
        shape: channels, height and width of the images that it takes.
        code: hashes of the code that it was built from and is measured with, by kind.
    """

    network: nn.Module
    layout: Layout
    shape: Shape
    code: dict[str, str]


def record_of(
    folder: Path, spec: TrialSpec, fresh: FreshNetwork, parts: MeasuringParts
) -> ResultContent:
    """Measure what a trial's files hold, and return the record of it: all that is the same on a rerun.

    The files of compressed weights, predictions and examples are written beside it. Of the trial itself
    nothing is known but its files.

    Args:
        fresh: is given the stored weights.

    Raises:
        TrialFailed: the network computes something else than it did when it was stored.
    """
    handover = read_handover(folder / FILE)
    network, layout = fresh.network, fresh.layout
    _check_code(handover, fresh)
    masks = _loaded(folder, fresh)
    _check_outputs(handover, spec, fresh, parts)
    of_files = through_files(folder, spec, fresh, masks, handover.index_bits)
    left = removed(network, layout, masks, fresh.shape)
    torch.manual_seed(derive(spec.seed, "measure"))
    figures = measured(folder, left, layout, masks, parts)
    return ResultContent(
        schema=SCHEMA,
        id=spec.id,
        spec=spec,
        metrics=joined(Metrics, *figures, of_files, handover.cost),
        task=parts.dataset.task.name,
        curves=handover.curves,
        kept={
            name: measured_state(network, layout, read_kept(folder, number), parts)
            for number, name in enumerate(handover.kept)
        },
        unreachable=handover.unreachable,
        control=handover.control,
        phases=handover.phases,
        files=_digests(folder),
    )


def _check_code(handover: HandoverRecord, fresh: FreshNetwork) -> None:
    changed = [kind for kind in fresh.code if handover.code.get(kind) != fresh.code[kind]]
    if changed:
        raise TrialFailed(
            f"the code of the {changed[0]} was changed while the trial ran; --retry-failed runs it again"
        )


def _loaded(folder: Path, fresh: FreshNetwork) -> dict[str, Tensor]:
    """Load the stored weights into the network, and return the masks."""
    device = next(fresh.network.parameters()).device
    load_model(fresh.network, load_file(folder / "model.safetensors"))
    stored = load_file(folder / "masks.safetensors", device=str(device))
    names = [*(site.name for site in fresh.layout.sites), *fresh.layout.weights]
    return {name: stored[name] for name in names if name in stored}  # in the order of the layers


def _check_outputs(
    handover: HandoverRecord, spec: TrialSpec, fresh: FreshNetwork, parts: MeasuringParts
) -> None:
    digest = validation_digest(fresh.network, fresh.layout, parts.validation, spec.seed)
    if digest != handover.validation:
        raise TrialFailed(
            "the network that the method left computes something else than its stored weights do in the "
            "network's own code: a hook, a changed attribute, a buffer that is not stored or a global "
            "switch of torch decided its outputs; undo it before prune ends"
        )


def _digests(folder: Path) -> dict[str, str]:
    return {
        file.name: file_digest(file)
        for file in sorted(folder.glob("*.*"))
        if file.suffix in (".safetensors", ".dc") and not file.name.startswith("kept-")
    }


def through_files(
    folder: Path,
    spec: TrialSpec,
    fresh: FreshNetwork,
    masks: dict[str, Tensor],
    index_bits: int | None,
) -> FileColumns:
    """Store the network as a file where its method asks for it; from now on it is what that decodes to."""
    if index_bits is None:
        return FileColumns()
    facts: dict[str, JSON] = {"trial": spec.id, "model": spec.model, "dataset": spec.dataset,
                              "seed": spec.seed}  # fmt: skip
    return file_size.through_files(folder, fresh.network, fresh.layout, masks, index_bits, facts)


def measured(
    folder: Path, left: Removed, layout: Layout, masks: dict[str, Tensor], parts: MeasuringParts
) -> tuple[Columns, ...]:
    """Return the columns of a finished trial, measured on the network that is left after removal."""
    channels_last = layout.has_convolutions
    test = parts.test.in_memory_format(channels_last)
    columns, outputs = quality(left.network, test, parts.validation.in_memory_format(channels_last))
    if test.task.keeps_examples:
        save(folder / "examples.safetensors", examples(test, outputs["test"]))
    if stored := test.task.stored(outputs):
        save(folder / "predictions.safetensors", stored)
    support = SupportColumns()
    if parts.dataset.relevant is not None:
        support = sizes.support(layout, masks, parts.dataset.relevant)
    return columns, sizes.sizes(layout, masks), support, _removal(left)


def _removal(left: Removed) -> RemovalColumns:
    found = RemovalColumns(
        params_compact=left.parameters,
        macs_compact=left.multiply_adds,
        compact_max_error=left.error,
    )
    why = {"not_compacted": left.why_whole} if left.why_whole else {}
    return found.model_copy(update=why)


def measured_state(
    network: nn.Module, layout: Layout, state: KeptState, parts: MeasuringParts
) -> StateColumns:
    """Measure a state that the method wanted beside the final one."""
    load_model(network, state.tensors)
    device = next(network.parameters()).device
    zero(network, layout, {name: mask.to(device) for name, mask in state.masks.items()})
    channels_last = layout.has_convolutions
    columns, _ = quality(
        network,
        parts.test.in_memory_format(channels_last),
        parts.validation.in_memory_format(channels_last),
    )
    return joined(StateColumns, columns, sizes.sizes(layout, state.masks))
