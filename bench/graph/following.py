"""The state of a walk through a traced network: what is known of its channels so far."""

from collections import Counter

from torch import fx

from bench.choices import Coupling
from bench.graph import channels as flows
from bench.graph.channels import CannotFollow, Flow
from bench.graph.coupled_groups import Groups, Signal
from bench.graph.layers import Layer, Norm
from bench.graph.nodes import TensorShape
from bench.graph.shape_arithmetic import ShapeNumbers

# A call puts out one tensor, several as torch.split does, or none that channels could be followed in.
Signals = Signal | tuple[Signal, ...] | None


class Following:
    """The state that operations read and add to while channels are followed from input to output.

    Attributes:
        inputs: per layer, what feeds it.
        norms: modules with parameters per channel.
        refused: layers whose outputs are no units, each with the reason.
        emitting: those of them whose dead outputs can be cut out all the same: they are constants.
        groups: layers whose units are one decision.
        gates: modules whose output a gate multiplies, with the channels they put out.
        sums: the channels of every addition.
    """

    def __init__(
        self, graph: fx.GraphModule, layers: dict[str, Layer], shapes: dict[str, TensorShape],
        coupling: Coupling,
    ) -> None:  # fmt: skip
        self.layers, self.shapes, self.coupling = layers, shapes, coupling
        self.modules = dict(graph.named_modules())
        self.calls = Counter(str(n.target) for n in graph.graph.nodes if n.op == "call_module")
        weights = Counter(id(self.modules[name].weight) for name in layers)
        for name in layers:  # two modules with one weight are one layer used twice
            self.calls[name] = max(self.calls[name], weights[id(self.modules[name].weight)])
        self.inputs: dict[str, Flow] = {}
        self.norms: list[Norm] = []
        self.refused: dict[str, str] = {}
        self.emitting: dict[str, str] = {}
        self.groups = Groups(
            {n: la.weight_shape[0] for n, la in layers.items()}, coupling == "tied"
        )
        self.gates: dict[str, Flow] = {}
        self.sums: list[Flow] = []
        self.signals: dict[fx.Node, Signals] = {}
        self.numbers = ShapeNumbers(shapes)

    @property
    def channels(self) -> dict[str, Flow]:
        """The channels of each tensor in the graph, by node name."""
        return {n.name: s.channels for n, s in self.signals.items() if isinstance(s, Signal)}

    def into(self, node: fx.Node) -> list[Signal]:
        """Return the tensors that a node is given, the parts of a split one by one."""
        found = []
        for source in node.all_input_nodes:
            signal = self.signals.get(source)
            found += [signal] if isinstance(signal, Signal) else list(signal or ())
        return found

    def placed(self, node: fx.Node) -> list[Signal]:
        """Return the tensors among a node's arguments that are given by their place."""
        found = (self.signals.get(a) for a in node.args if isinstance(a, fx.Node))
        return [signal for signal in found if isinstance(signal, Signal)]

    def tensor_into(self, node: fx.Node) -> fx.Node:
        """Return the first node that gives a tensor to a node which is given one."""
        sources = node.all_input_nodes
        return next(s for s in sources if isinstance(self.signals.get(s), Signal))

    def unknown(self, node: fx.Node) -> Signal | None:
        """Return a tensor that nothing is known of; None where the node puts out no tensor."""
        shape = self.shapes.get(node.name)
        if shape is None:
            return None
        channels = flows.unknown(shape[1] if len(shape) > 1 else 1)
        return Signal(channels, node.name, channels)

    def refuse(self, channels: Flow, reason: str) -> None:
        """Say of the layers behind some channels that their outputs are no units."""
        for name in flows.layers_of(channels):
            self.refused.setdefault(name, reason)

    def refuse_counted(self, node: fx.Node) -> None:
        """Refuse the layers whose channels were counted for a number that a node is given."""
        for channels in self.numbers.behind(node):
            self.refuse(channels, f"{node.name!r} computes with how many channels there are")

    def refuse_second_use(self, node: fx.Node) -> None:
        """Refuse a module with parameters that is called more than once.

        Raises:
            CannotFollow: it is.
        """
        name = str(node.target)
        if node.op != "call_module" or self.calls[name] <= 1:
            return
        if next(self.modules[name].parameters(), None) is not None:
            if name in self.layers:
                self.refused.setdefault(name, f"the layer is used {self.calls[name]} times")
            raise CannotFollow(f"{name!r} is used {self.calls[name]} times")
