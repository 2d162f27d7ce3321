"""A fresh network for a data set, built from its seed, and its layers and units."""

import torch
from torch import Tensor, nn

from bench.choices import Coupling
from bench.data.dataset import Dataset
from bench.data.images import Shape
from bench.errors import UsageError, UsersCodeFailed, users_code
from bench.graph.eval_mode import evaluating
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.plan.registry import Registry
from bench.seeds import derive
from bench.training.network import Build, about


def input_shape(registry: Registry, model: str, dataset: Dataset) -> Shape:
    """Return the channels, height and width of the images that a network is given of a data set."""
    channels, height, width = dataset.shape
    side = about(registry.model(model)).input_size
    return channels, side or height, side or width


def network_of(maker: Build, outputs: int, shape: Shape) -> nn.Module:
    """Call a network's `build`.

    Raises:
        UsersCodeFailed: it raised something, or returned something else than a network.
    """
    with users_code():
        network: object = maker(outputs, shape)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UsersCodeFailed(f"build() must return a torch.nn.Module, not a {kind}")
    return network


def _check_outputs(network: nn.Module, image: Tensor, model: str, dataset: Dataset) -> None:
    """Refuse outputs that could only be held against the targets by broadcasting them.

    Raises:
        UsageError: they are not one row of as many numbers as the data set asks for.
    """
    wanted = dataset.task.outputs(dataset.classes, image.shape[1:])  # type: ignore[arg-type]
    with evaluating(network), torch.no_grad():
        outputs: object = network(image)
    if not isinstance(outputs, Tensor):
        raise UsageError(
            f"{model} gives a {type(outputs).__name__} for one image, but {dataset.name} asks for a tensor "
            f"of shape {(1, wanted)}"
        )
    found = tuple(outputs.shape)
    has_more = dataset.task.picks_class and len(found) == 2 and found[1] > wanted
    if found != (1, wanted) and not has_more:
        raise UsageError(
            f"{model} gives outputs of shape {found} for one image, but {dataset.name} asks for "
            f"{(1, wanted)}; build(num_outputs, in_shape) is told how many"
        )


def build(
    registry: Registry, model: str, dataset: Dataset, seed: int, coupling: Coupling = "tied"
) -> tuple[nn.Module, Layout]:
    """Build a network from its seed, on the CPU, and find its layers and units.

    Raises:
        UsageError: the network cannot be built or run for this data set.
    """
    maker, shape = registry.model(model), input_shape(registry, model, dataset)
    torch.manual_seed(derive(seed, "init"))
    try:
        network = network_of(maker, dataset.task.outputs(dataset.classes, shape), shape)
        layout = layout_of(network, torch.zeros(1, *shape), coupling)
    except UsersCodeFailed as error:
        raise UsageError(f"{model} cannot be built for {dataset.name} {shape}: {error}") from error
    _check_outputs(network, torch.zeros(1, *shape), model, dataset)
    if layout.has_convolutions:
        network.to(memory_format=torch.channels_last)
    return network, layout
