"""The parts of a network's structure: layers, units, and what stands between them."""

from dataclasses import dataclass

from torch import Tensor

from bench.graph.channels import Flow


@dataclass(frozen=True)
class Reading:
    """The place of a site's post-activation values: a range of one graph node's channels."""

    node: str
    start: int
    length: int
    repeat: int = 1


@dataclass(frozen=True)
class Site:
    """A group of units.

    Attributes:
        name: the first producing layer's name, or `input:` and the consuming layer's.
        size: number of units.
        modules: the layers whose rows (outputs) or columns (inputs) the units are.
        readings: where in the graph the units' post-activation values are.
        may_be_empty: whether all of it may go, with every other such site, and the network is
            still connected: the inside of a residual branch.
    """

    name: str
    size: int
    modules: tuple[str, ...]
    readings: tuple[Reading, ...] = ()
    may_be_empty: bool = False

    @property
    def is_input(self) -> bool:
        return self.name.startswith("input:")

    @property
    def module(self) -> str:
        """The first of `modules`: the only one unless units are tied."""
        return self.modules[0]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer.

    Attributes:
        positions: output positions per image: MACs are positions x weights.
        inputs: what feeds it, channel by channel.
        reads_channels: whether its inputs are the channels of one tensor, that could be dead.
        groups: 1; as many as there are channels in a depthwise convolution.
        is_prunable_output: whether its outputs are units, so that masks may speak of them.
        is_removable_output: whether an output that nothing enters or leaves can be cut out: units,
            and those that end in a sigmoid, which emit a constant when they are dead.
    """

    name: str
    weight_shape: tuple[int, ...]
    has_bias: bool
    positions: int
    inputs: Flow = ()
    reads_channels: bool = False
    groups: int = 1
    is_prunable_output: bool = False
    is_removable_output: bool = False

    @property
    def n_inputs(self) -> int:
        return self.weight_shape[1] * self.groups

    @property
    def is_convolution(self) -> bool:
        return len(self.weight_shape) == 4

    def seen_by_outputs(self, inputs: Tensor) -> Tensor:
        """Return what each output sees of (inputs,): (1, inputs), or (outputs, inputs of its group)."""
        if self.groups == 1:
            return inputs[None, :]
        per_group = inputs.view(self.groups, self.weight_shape[1])
        return per_group.repeat_interleave(self.weight_shape[0] // self.groups, dim=0)


@dataclass(frozen=True)
class Norm:
    """A module with parameters per channel, which die with the channel: a normalisation's affine."""

    name: str
    channels: Flow
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class LiveUnits:
    """The living outputs and inputs of each layer, after propagating dead units."""

    out: dict[str, Tensor]
    inputs: dict[str, Tensor]
