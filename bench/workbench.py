"""What a process needs to run trials: where results go, names, machine, data, fresh networks."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.data import Dataset, Part, Shape, shrink_for_smoke
from bench.environment import Machine
from bench.errors import UsageError
from bench.layout import Coupling, Layout
from bench.modes import evaluating
from bench.network import about
from bench.records import Results
from bench.registry import Registry
from bench.seeds import derive
from bench.sites import layout_of
from bench.streaming import RESIDENT_BYTES
from bench.task import CLASSIFICATION


@dataclass(frozen=True)
class Parts:
    """A data set on the device."""

    dataset: Dataset
    train: Part
    validation: Part
    test: Part


@dataclass
class Bench:
    """What a process needs to run trials: where results go, names, machine, data."""

    results: Results
    registry: Registry
    machine: Machine
    data_root: Path
    flags: list[str] = field(default_factory=list)
    checkpoint_seconds: float = 30.0
    resident_bytes: int = RESIDENT_BYTES
    weights_file: Path | None = None
    _parts: dict[tuple[str, str, int | None, int | None], Parts] = field(default_factory=dict)

    def parts(self, name: str, budget: str, size: int | None, seed: int) -> Parts:
        """Load a data set once per process; one that is drawn, once for each seed."""
        always = self.registry.dataset(name)
        dataset = always.for_seed(seed)
        key = (name, budget, size, None if dataset is always else seed)
        if key not in self._parts:
            split = dataset.load(self.data_root)
            if budget == "smoke":
                split = shrink_for_smoke(split)
            three = (
                Part.of(
                    images, dataset, size, self.machine.device, resident_bytes=self.resident_bytes
                )
                for images in (split.train, split.validation, split.test)
            )
            self._parts[key] = Parts(dataset, *three)
        return self._parts[key]


def input_shape(registry: Registry, model: str, dataset: Dataset) -> Shape:
    """Channels, height and width of the images that a network is given of a data set."""
    channels, height, width = dataset.shape
    side = about(registry.model(model)).input_size
    return channels, side or height, side or width


def _check_outputs(network: nn.Module, image: Tensor, model: str, dataset: Dataset) -> None:
    """Refuse outputs that could only be held against the targets by broadcasting them.

    Raises:
        UsageError: they are not one row of as many numbers as the data set asks for.
    """
    wanted = dataset.task.outputs(dataset.classes, image.shape[1:])  # type: ignore[arg-type]
    with evaluating(network), torch.no_grad():
        found = tuple(network(image).shape)
    has_more = dataset.task == CLASSIFICATION and len(found) == 2 and found[1] > wanted
    if found != (1, wanted) and not has_more:
        raise UsageError(
            f"{model} gives outputs of shape {found} for one image, but {dataset.name} asks for "
            f"{(1, wanted)}; build(num_outputs, in_shape) is told how many"
        )


def build(
    registry: Registry, model: str, dataset: Dataset, seed: int, coupling: Coupling = "tied"
) -> tuple[nn.Module, Layout]:
    """Build a network from its seed, on the CPU, and find its layers and units."""
    maker, shape = registry.model(model), input_shape(registry, model, dataset)
    torch.manual_seed(derive(seed, "init"))
    try:
        network = maker(dataset.task.outputs(dataset.classes, shape), shape)
        layout = layout_of(network, torch.zeros(1, *shape), coupling)
    except Exception as error:  # a user's network may fail in any way
        first = str(error).partition("\n")[0]
        raise UsageError(f"{model} cannot be built for {dataset.name} {shape}: {first}") from error
    _check_outputs(network, torch.zeros(1, *shape), model, dataset)
    if layout.has_convolutions:
        network.to(memory_format=torch.channels_last)
    return network, layout
