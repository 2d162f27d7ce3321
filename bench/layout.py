"""What masks need to know of a network: its layers, and the sites where it has units.

A *site* is a group of units that masks speak of. `"conv1"` are the filters of the layer `conv1`, each
with its bias and its normalisation affine; `"input:fc1"` are the inputs of a linear layer that is fed
by pixels or by a flattened feature map. The classifier's outputs are never units.
"""

from dataclasses import dataclass, field

from torch import fx


@dataclass(frozen=True)
class Site:
    """A group of units.

    Attributes:
        name: the producing module's name, or `input:` and the consuming module's.
        size: number of units.
        module: the layer whose rows (outputs) or columns (inputs) the units are.
        norm: the BatchNorm whose affine belongs to the units.
        gate: the module whose output (for inputs: whose input) a gate multiplies.
        activation: graph node that holds the post-activation values.
    """

    name: str
    size: int
    module: str
    norm: str | None = None
    gate: str = ""
    activation: str = ""

    @property
    def is_input(self) -> bool:
        return self.name.startswith("input:")


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer as masks see it.

    Attributes:
        source: the layer that feeds it; None when that is the network's input.
        columns_per_unit: how many of this layer's inputs one unit of the source becomes (flatten).
        positions: output positions per image: MACs are positions x weights.
        is_prunable_output: False for the classifier.
    """

    name: str
    weight_shape: tuple[int, ...]
    has_bias: bool
    positions: int
    source: str | None = None
    columns_per_unit: int = 1
    is_prunable_output: bool = False
    norm: str | None = None


@dataclass(frozen=True)
class Layout:
    """All that masks need to know of a network."""

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    parameters: dict[str, tuple[int, ...]] = field(repr=False)
    why_no_sites: str = ""
    graph: fx.GraphModule | None = field(default=None, repr=False, compare=False)

    def site(self, name: str) -> Site:
        return next(s for s in self.sites if s.name == name)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the prunable weights: those of convolutions and linear layers."""
        return {f"{layer.name}.weight": layer.weight_shape for layer in self.layers}

    @property
    def has_convolutions(self) -> bool:
        return any(len(layer.weight_shape) == 4 for layer in self.layers)
