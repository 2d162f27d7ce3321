"""The structure of a network: its layers, the channels that connect them, and its units.

A *site* is a group of units that masks speak of. `"conv1"` are the filters of the layer `conv1`, each
with its bias and its normalisation affine; where layers are added into one stream and units are
tied, one site holds the filters of all of them. `"input:fc1"` are the inputs of a linear layer that
is fed by pixels or by a flattened feature map. The classifier's outputs are never units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx

from bench.choices import Coupling
from bench.graph.channels import Flow, alive
from bench.graph.layers import Layer, Norm, Site
from bench.graph.operations.base import Operation
from bench.graph.operations.layer_calls import LayerCall


@dataclass(frozen=True)
class Layout:
    """The structure of one network.

    Attributes:
        refused: layers whose outputs are no units, each with the reason.
        gates: modules whose output a gate multiplies, with the channels they put out.
        channels: of each node of the graph that is a tensor, what its channels are.
        operations: what each node of the graph does to them.
        streams: sums whose channels go only when they are dead in every term (`intersection`).
        coupling: what becomes of layers that are added: they share one site (`tied`); each has its
            own and loses its dead units, scattered into the stream (`branch`) or not
            (`intersection`); or they lose none, only layers inside branches do (`internal`).
    """

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    parameters: dict[str, tuple[int, ...]] = field(repr=False)
    norms: tuple[Norm, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    gates: dict[str, Flow] = field(default_factory=dict, repr=False)
    coupling: Coupling = "tied"
    streams: tuple[Flow, ...] = field(default=(), repr=False)
    graph: fx.GraphModule | None = field(default=None, repr=False, compare=False)
    channels: dict[str, Flow] = field(default_factory=dict, repr=False)
    operations: dict[str, Operation] = field(default_factory=dict, repr=False, compare=False)

    def site(self, name: str) -> Site:
        return next(s for s in self.sites if s.name == name)

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def calls_layer(self, node: str) -> bool:
        """Return True where a node of the graph is the call of a convolution or linear layer."""
        return isinstance(self.operations.get(node), LayerCall)

    @property
    def why_no_sites(self) -> str:
        """The reason, in one line, that no layer has units; empty if one has."""
        if any(not site.is_input for site in self.sites):
            return ""
        reasons = dict.fromkeys(f"{name}: {why}" for name, why in self.refused.items())
        return "; ".join(list(reasons)[:3])

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the prunable weights: those of convolutions and linear layers."""
        names = {f"{layer.name}.weight": layer.weight_shape for layer in self.layers}
        # Where two layers share a weight, it has the first one's name.
        return {name: shape for name, shape in names.items() if name in self.parameters}

    @property
    def own_layers(self) -> tuple[Layer, ...]:
        """The layers that have a weight of their own: of two that share one, the first."""
        weights = self.weights
        return tuple(la for la in self.layers if f"{la.name}.weight" in weights)

    @property
    def has_convolutions(self) -> bool:
        return any(layer.is_convolution for layer in self.layers)

    def units(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the living outputs of each layer that has a unit mask."""
        return {
            module: masks[site.name]
            for site in self.sites
            if not site.is_input and site.name in masks
            for module in site.modules
        }

    def input_columns(self, layer: Layer, masks: Mapping[str, Tensor]) -> Tensor | None:
        """Return the inputs of a layer that live under unit masks, (inputs,); None: all of them."""
        own = masks.get(f"input:{layer.name}")
        columns = alive(layer.inputs, self.units(masks))
        if columns is None:
            return own
        return columns if own is None else columns & own
