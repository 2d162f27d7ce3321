"""A finished trial's network, built again from its record: the masked one and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.data.dataset import Dataset
from bench.data.images import Shape
from bench.errors import TrialFailed, UsageError
from bench.graph.cut import compact
from bench.graph.structure import Layout
from bench.plan.build_network import build, input_shape
from bench.plan.recorded_code import registry_of_record
from bench.plan.registry import FOLDER, Registry
from bench.store.json_values import RecordError
from bench.store.records import read_spec
from bench.store.results import TrialFolder
from bench.store.source_copies import SourceCopies
from bench.store.trial_identity import TrialSpec
from bench.training.loop import load_model


@dataclass(frozen=True)
class Rebuilt:
    """A finished trial's network on the CPU.

    Attributes:
        network: the masked network: dropped weights are zeros.
        masks: those that are not all ones.
        shape: channels, height and width of the images that it takes.
        not_compacted: why its dead units were left in it; empty where they were not.
    """

    spec: TrialSpec
    network: nn.Module
    layout: Layout
    masks: Mapping[str, Tensor]
    dataset: Dataset
    shape: Shape
    not_compacted: str = ""

    def smaller(self) -> nn.Module:
        """Return the network without its dead units; the masked one where none could be cut out of it."""
        if self.layout.graph is None or not self.masks or self.not_compacted:
            return self.network
        return compact(self.network, self.layout, self.masks)


def rebuilt(registry: Registry, folder: TrialFolder) -> Rebuilt:
    """Build a trial's network from its specification, stored weights and masks.

    Args:
        registry: with the files that the user names; what a record names is not run unasked.

    Raises:
        NotRunUnasked: the network or data set is a file that its user has not allowed.
        UsageError: the trial is not finished, its files are not those it was recorded with, or its
            weights are not those of the network as it is built today.
    """
    if folder.status() != "finished":
        raise UsageError(f"trial {folder.id} is {folder.status()}: run it to its end first")
    try:
        record = folder.result()
    except RecordError as error:
        raise UsageError(
            f"the record of trial {folder.id} cannot be used: {error.problem}"
        ) from error
    weights, masks = (_tensors(folder.file(f"{n}.safetensors", record)) for n in ("model", "masks"))
    spec = record.spec
    copies = SourceCopies(folder.path.parent.parent / "sources")
    registry = registry_of_record(registry, spec, copies)
    if spec.dataset.startswith(FOLDER):
        _add_folder(registry, folder, spec)
    dataset = registry.dataset(spec.dataset).for_seed(spec.seed)
    network, layout = build(registry, spec.model, dataset, spec.seed, spec.coupling)
    _load(network, weights, folder.id)
    shape = input_shape(registry, spec.model, dataset)
    return Rebuilt(
        spec, network.eval(), layout, masks, dataset, shape,
        record.metrics.not_compacted,
    )  # fmt: skip


def _add_folder(registry: Registry, folder: TrialFolder, spec: TrialSpec) -> None:
    """Say which classes the trial's images had; they need not be here any more."""
    try:
        place = read_spec(folder.path / "spec.json").data
    except RecordError as error:
        raise UsageError(
            f"the classes of {spec.dataset} stand in a file that is not sound: {error}"
        ) from error
    if place is not None:
        registry.add_folder(spec.dataset, place)


def _tensors(file: Path) -> dict[str, Tensor]:
    """Read a file of tensors.

    Raises:
        UsageError: it is none, though it is the file of the record.
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UsageError(f"{file} is not a file of tensors ({error})") from error


def _load(network: nn.Module, weights: dict[str, Tensor], trial_id: str) -> None:
    """Give a network its stored weights.

    Raises:
        UsageError: their names or shapes are not its own.
    """
    try:
        load_model(network, weights)
    except TrialFailed as error:
        raise UsageError(
            f"the weights of trial {trial_id} do not fit its model, whose code must have changed "
            f"since: {error}"
        ) from error
