"""Follow channels through a traced network, and say layer by layer which outputs cannot be units.

A unit can be dropped where its being zero makes exactly its own channels zero, everywhere up to the
layers that read them. What breaks that (a sigmoid, a normalisation over channels, a layer used
twice, an operation that is not known here) refuses the layers behind it and no others.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from torch import fx

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow, Flow
from bench.graph.coupled_groups import Groups, Signal
from bench.graph.operations import (
    NORMS,
    Role,
    TensorShape,
    argument,
    called,
    is_sigmoid,
    role_of,
    split_sizes,
    writes_into,
)
from bench.graph.shape_arithmetic import ShapeNumbers
from bench.graph.structure import Coupling, Layer, Norm


class Dependencies:
    """Walks a traced network from its input to its output.

    After `read`: `inputs` per layer, `norms`, `refused` with reasons, `emitting` (those of them whose
    dead outputs can be cut out all the same), `groups` of layers whose units are one decision, and
    `gates`.
    """

    def __init__(
        self, graph: fx.GraphModule, layers: dict[str, Layer], shapes: dict[str, TensorShape],
        coupling: Coupling,
    ) -> None:  # fmt: skip
        self.graph, self.layers, self.shapes, self.coupling = graph, layers, shapes, coupling
        self.modules = dict(graph.named_modules())
        self.calls = Counter(str(n.target) for n in graph.graph.nodes if n.op == "call_module")
        weights = Counter(id(self.modules[name].weight) for name in layers)
        for name in layers:  # two modules with one weight are one layer used twice
            self.calls[name] = max(self.calls[name], weights[id(self.modules[name].weight)])
        self.inputs: dict[str, Flow] = {}
        self.norms: list[Norm] = []
        self.refused: dict[str, str] = {}
        self.emitting: dict[str, str] = {}  # no units, but a dead output is a constant
        self.groups = Groups(
            {n: la.weight_shape[0] for n, la in layers.items()}, coupling == "tied"
        )
        self.gates: dict[str, Flow] = {}
        self.sums: list[Flow] = []
        self.roles: dict[str, Role] = {}
        self._signals: dict[fx.Node, Any] = {}
        self._sizes = ShapeNumbers(shapes)

    def read(self) -> None:
        for node in self.graph.graph.nodes:
            if node.op == "output":
                for signal in self._arguments(node):
                    self._refuse(signal.channels, "its outputs are the network's")
                break
            self._signals[node] = self._visit(node)
            for source in node.all_input_nodes:
                if writes_into(node, source):  # whoever reads the source later reads this
                    self._signals[source] = self._signals[node]
        for name in self.layers:
            if name not in self.inputs:
                self.refused.setdefault(name, "it is not called as a layer of its own")
        structural = self.refused
        self.groups.spread(structural)
        self.refused = self.emitting | structural
        self.groups.spread(self.refused)
        self.emitting = {n: why for n, why in self.refused.items() if n not in structural}

    # -- nodes -------------------------------------------------------------------------------

    def _visit(self, node: fx.Node) -> Any:
        """Return the node's signal; None where it is no tensor."""
        given = self._arguments(node)
        role = role_of(node, self.modules)
        if not given and role != "given" and node.name not in self.shapes:
            role = "size"  # computed of sizes alone
        self.roles[node.name] = role
        if role == "size":
            self._sizes.note(node, [signal.channels for signal in given])
            return None
        if role != "reshape":
            self._refuse_counted(node)
        if role == "given" or not given:
            return self._unknown(node)
        try:
            name = str(node.target)
            if node.op == "call_module":
                self._refuse_second_use(name)
            if role == "opaque":
                raise CannotFollow(
                    f"{called(node, self.modules)} is not known to keep a zero channel at zero"
                )
            visit: Callable[[fx.Node, list[Signal]], Any] = getattr(self, f"_{role}")
            return visit(node, given)
        except CannotFollow as reason:
            why = str(reason)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            why = f"{node.name!r} is called in a way that is not understood"
        self.roles[node.name] = "opaque"
        self._refuse_counted(node)
        return self._lost(node, given, why)

    @property
    def channels(self) -> dict[str, Flow]:
        """The channels of each tensor in the graph, by node name."""
        return {n.name: s.channels for n, s in self._signals.items() if isinstance(s, Signal)}

    def _arguments(self, node: fx.Node) -> list[Signal]:
        found = []
        for source in node.all_input_nodes:
            signal = self._signals.get(source)
            found += [signal] if isinstance(signal, Signal) else list(signal or ())
        return found

    def _unknown(self, node: fx.Node) -> Signal | None:
        shape = self.shapes.get(node.name)
        if shape is None:
            return None
        channels = flows.unknown(shape[1] if len(shape) > 1 else 1)
        return Signal(channels, node.name, channels)

    def _lost(self, node: fx.Node, given: Iterable[Signal], reason: str) -> Signal | None:
        """Refuse all that flows into a node, and know nothing of what comes out of it."""
        for signal in given:
            self._refuse(signal.channels, reason)
        return self._unknown(node)

    def _refuse(self, channels: Flow, reason: str) -> None:
        for name in flows.layers_of(channels):
            self.refused.setdefault(name, reason)

    def _refuse_counted(self, node: fx.Node) -> None:
        for channels in self._sizes.behind(node):
            self._refuse(channels, f"{node.name!r} computes with how many channels there are")

    # -- modules -----------------------------------------------------------------------------

    def _refuse_second_use(self, name: str) -> None:
        has_parameters = next(self.modules[name].parameters(), None) is not None
        if has_parameters and self.calls[name] > 1:
            if name in self.layers:
                self.refused.setdefault(name, f"the layer is used {self.calls[name]} times")
            raise CannotFollow(f"{name!r} is used {self.calls[name]} times")

    def _layer(self, node: fx.Node, given: list[Signal]) -> Signal:
        (signal,), layer = given, self.layers[str(node.target)]
        rank = len(self.shapes[node.name])
        wanted = 4 if layer.is_convolution else 2
        if flows.width(signal.channels) != layer.n_inputs or rank != wanted:
            self.refused[layer.name] = "it does not read channels"
            self._refuse(signal.channels, f"{layer.name!r} does not read channels")
        else:
            self.inputs[layer.name] = signal.channels
        self.groups.note(signal)
        mine = flows.of_layer(layer.name, layer.weight_shape[0])
        if layer.groups > 1:
            if layer.weight_shape[0] == layer.groups:
                # Whatever the coupling: apart, two masks could leave a chain without any path.
                self.groups.tie(signal.channels, mine)
            else:
                self._refuse(signal.channels, f"{layer.name!r} is a grouped convolution")
                self.refused[layer.name] = f"it has {layer.groups} groups, which must stay equal"
        if not self._has_norm_next(node):
            self.gates[layer.name] = mine
        return Signal(mine, node.name, mine)

    def _norm(self, node: fx.Node, given: list[Signal]) -> Signal:
        (signal,), name = given, str(node.target)
        if next(self.modules[name].parameters(), None) is None:
            raise CannotFollow(f"{name!r} has no scale to silence a channel with")
        self.norms.append(Norm(name, signal.channels, (f"{name}.weight", f"{name}.bias")))
        self.gates[name] = signal.channels
        return Signal(signal.channels, node.name, signal.channels)

    def _has_norm_next(self, node: fx.Node) -> bool:
        """Return True where a normalisation alone reads this output: then it is enough to gate that one."""
        user = next(iter(node.users), None)
        if len(node.users) != 1 or user is None or user.op != "call_module":
            return False
        name = str(user.target)
        return isinstance(self.modules[name], NORMS) and self.calls[name] == 1

    # -- operations --------------------------------------------------------------------------

    def _activation(self, node: fx.Node, given: list[Signal]) -> Signal:
        if is_sigmoid(node, self.modules):
            why = f"{called(node, self.modules)} does not keep a zero channel at zero"
            self.emitting |= dict.fromkeys(flows.layers_of(given[0].channels), why)
        return Signal(given[0].channels, node.name, given[0].channels)

    def _pass(self, node: fx.Node, given: list[Signal]) -> Signal:
        return given[0]

    def _add(self, node: fx.Node, given: list[Signal]) -> Signal:
        found = [self._signals.get(a) for a in node.args if isinstance(a, fx.Node)]
        terms = [term for term in found if isinstance(term, Signal)]
        if len(terms) != 2:
            raise CannotFollow(f"{node.name!r} adds a number")
        first, second = terms
        summed = flows.added(first.channels, second.channels)
        if self.coupling == "internal":
            for term in (first, second):
                self._refuse(term.channels, "it is added to others, and the coupling is internal")
        elif self.coupling != "tied" or not self.groups.tie(first.channels, second.channels):
            for term in (first, second):
                self.groups.note(term)
        self.sums.append(summed)
        return Signal(summed, node.name, summed)

    def _mul(self, node: fx.Node, given: list[Signal]) -> Signal:
        """Follow a product with a factor that is never dropped, such as squeeze-and-excitation's gate."""
        found = [self._signals.get(a) for a in node.args if isinstance(a, fx.Node)]
        first, second = (s for s in found if isinstance(s, Signal))
        if flows.layers_of(first.channels):
            first, second = second, first
        if flows.layers_of(first.channels) or len(first.channels) != 1:
            raise CannotFollow(f"{node.name!r} multiplies channels that could each be dropped")
        if flows.width(first.channels) != flows.width(second.channels):
            raise CannotFollow(f"{node.name!r} multiplies tensors of different channels")
        return Signal(second.channels, node.name, second.channels)

    def _cat(self, node: fx.Node, given: list[Signal]) -> Signal:
        dim = argument(node, 1, "dim", 0)
        if dim not in (1, 1 - len(self.shapes[node.name])):
            raise CannotFollow(f"{node.name!r} does not join channels")
        listed = argument(node, 0, "tensors")
        joins = self._signals[listed] if isinstance(listed, fx.Node) else None
        parts = [self._signals[part] for part in listed] if joins is None else list(joins)
        joined = sum((part.channels for part in parts), ())
        for part in parts:
            self.groups.note(part)
        return Signal(joined, node.name, joined)

    def _reshape(self, node: fx.Node, given: list[Signal]) -> Signal:
        (signal,) = given
        before, after = self.shapes[str(node.all_input_nodes[0].name)], self.shapes[node.name]
        if after == before:
            return signal
        if len(after) != 2 or after[0] != 1 or before[0] != 1:  # the example is one image
            raise CannotFollow(f"{node.name!r} does not flatten an image into one row")
        flat = flows.repeated(signal.channels, after[1] // flows.width(signal.channels))
        return Signal(flat, signal.node, signal.seen)

    def _mean(self, node: fx.Node, given: list[Signal]) -> Signal:
        dims = argument(node, 1, "dim")
        if not isinstance(dims, tuple | list) or not {d % 4 for d in dims} <= {2, 3}:
            raise CannotFollow(f"{node.name!r} is not a mean over positions")
        return given[0]

    def _pad(self, node: fx.Node, given: list[Signal]) -> Signal:
        (signal,) = given
        pads: Any = node.args[1]
        if node.kwargs.get("value") or len(node.args) > 3 or len(pads) > 6:
            raise CannotFollow(f"{node.name!r} pads with something else than zeros")
        before, after = (pads[4], pads[5]) if len(pads) == 6 else (0, 0)
        padded = (*flows.zeros(before), *signal.channels, *flows.zeros(after))
        return Signal(padded, node.name, padded)

    def _item(self, node: fx.Node, given: list[Signal]) -> Any:
        arguments: Any = node.args
        value, index = self._signals.get(arguments[0]), arguments[1]
        if isinstance(value, tuple):
            return value[index]
        if not isinstance(index, tuple) or len(index) < 2 or index[0] != slice(None):
            raise CannotFollow(f"{node.name!r} takes out something else than channels")
        channels, of_channels = given[0].channels, index[1]
        if of_channels != slice(None):
            if not isinstance(of_channels, slice):
                raise CannotFollow(f"{node.name!r} takes out single channels")
            start, stop, step = of_channels.indices(flows.width(channels))
            if step != 1:
                raise CannotFollow(f"{node.name!r} takes every {step}th channel")
            self.groups.note(given[0])
            channels = flows.cut(channels, start, stop)
        return Signal(channels, node.name, channels)

    def _split(self, node: fx.Node, given: list[Signal]) -> Any:
        if argument(node, 2, "dim", 0) != 1:
            raise CannotFollow(f"{node.name!r} does not split channels")
        self.groups.note(given[0])
        channels = given[0].channels
        parts, start = [], 0
        for size in split_sizes(node, flows.width(channels)):
            part = flows.cut(channels, start, start + size)
            start += size
            parts.append(Signal(part, "", ()))
        return tuple(parts)
