"""Track integers derived from tensor shapes, and the channels they count."""

import operator
from collections.abc import Iterable, Mapping

from torch import fx

from bench.graph.channels import Flow
from bench.graph.nodes import TensorShape, argument

CHANNELS = 1


class ShapeNumbers:
    """Remembers, for each number in a graph, the channels whose count it depends on.

    A smaller network has fewer channels, so such a number is another one there. That is right where
    a tensor is reshaped with it, and wrong in arithmetic.
    """

    def __init__(self, shapes: Mapping[str, TensorShape]) -> None:
        self.shapes = shapes
        self._counted: dict[fx.Node, list[Flow]] = {}

    def note(self, node: fx.Node, given: Iterable[Flow]) -> None:
        """Take up a number.

        Args:
            given: the channels of the tensors it was asked of.
        """
        whose = [] if self._is_another_dimension(node) else [*given, *self.behind(node)]
        self._counted[node] = whose

    def behind(self, node: fx.Node) -> list[Flow]:
        """Return the channels that were counted for the numbers that a node is given."""
        return [flow for source in node.all_input_nodes for flow in self._counted.get(source, [])]

    def _is_another_dimension(self, node: fx.Node) -> bool:
        """Return True where a node asks for anything but a number of channels: a batch, a height, a type."""
        if node.target == "dim":
            return True
        if node.target is getattr:
            return str(node.args[1]) != "shape"
        if node.target not in ("size", operator.getitem):
            return False
        tensor = node.all_input_nodes[0]
        if node.target is operator.getitem:  # of a shape
            tensor = next(iter(tensor.all_input_nodes), tensor)
        index, rank = argument(node, 1, "dim"), len(self.shapes.get(tensor.name, ()))
        return isinstance(index, int) and rank > 0 and bool(index % rank != CHANNELS)
