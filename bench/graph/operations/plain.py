"""Nodes that do nothing to channels: inputs, numbers, and calls that nothing is known of."""

from bench.graph.coupled_groups import Signal
from bench.graph.following import Following, Signals
from bench.graph.operations.base import Operation, unknown
from bench.graph.rewriting import Pieces, Rewriting


class Given(Operation):
    """The network's input, or a parameter or buffer that its forward reads."""

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        return walk.unknown(self.node)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        if self.node.op == "get_attr":
            return smaller.attribute(self.node)
        return smaller.whole(self.node, smaller.copy(self.node))


class Unknown(Operation):
    """A call that may make anything of its input; it must get all of it."""

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        raise unknown(self.node, walk.modules)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        return smaller.copy_whole(self.node)


class Number(Operation):
    """A number that is computed of sizes: x.size(0), x.shape[0], x.shape[2] // 2."""

    functions = (getattr,)
    methods = ("size", "dim", "numel")

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        asks_of_tensor = bool(given) and self.node.target is getattr
        if asks_of_tensor and self.node.args[1] not in ("shape", "device", "dtype", "ndim"):
            raise unknown(self.node, walk.modules)
        walk.numbers.note(self.node, [signal.channels for signal in given])
        return None

    def rewrite(self, smaller: Rewriting) -> Pieces:
        if all(source in smaller.copies for source in self.node.all_input_nodes):
            smaller.copy(self.node)
        return None
