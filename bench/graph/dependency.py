"""Follow channels through a traced network, and say layer by layer which outputs cannot be units.

A unit can be dropped where its being zero makes exactly its own channels zero, everywhere up to the
layers that read them. What breaks that (a sigmoid, a normalisation over channels, a layer used
twice, an operation that is not known here) refuses the layers behind it and no others.
"""

from torch import fx

from bench.choices import Coupling
from bench.graph.channels import CannotFollow
from bench.graph.following import Following, Signals
from bench.graph.layers import Layer
from bench.graph.nodes import TensorShape, writes_into
from bench.graph.operations import operation_of
from bench.graph.operations.base import Operation
from bench.graph.operations.plain import Given, Number, Unknown


def follow(
    graph: fx.GraphModule, layers: dict[str, Layer], shapes: dict[str, TensorShape],
    coupling: Coupling,
) -> tuple[Following, dict[str, Operation]]:  # fmt: skip
    """Walk a traced network from its input to its output.

    Returns:
        What is known of its channels, and the operation of each node by the node's name.
    """
    walk = Following(graph, layers, shapes, coupling)
    operations: dict[str, Operation] = {}
    for node in graph.graph.nodes:
        if node.op == "output":
            for signal in walk.into(node):
                walk.refuse(signal.channels, "its outputs are the network's")
            break
        operations[node.name], walk.signals[node] = _visited(node, walk)
        for source in node.all_input_nodes:
            if writes_into(node, source):  # whoever reads the source later reads this
                walk.signals[source] = walk.signals[node]
    _spread_refusals(walk)
    return walk, operations


def _visited(node: fx.Node, walk: Following) -> tuple[Operation, Signals]:
    """Return a node's operation, and what comes out of it; nothing is known after what is refused."""
    given, operation = walk.into(node), operation_of(node, walk.modules)
    is_tensor = node.name in walk.shapes
    if not given and not isinstance(operation, Given):
        operation = Unknown(node) if is_tensor else Number(node)
    try:
        if not isinstance(operation, Number | Given) and not operation.resizes:
            walk.refuse_counted(node)
        walk.refuse_second_use(node)
        return operation, operation.follow(given, walk)
    except CannotFollow as reason:
        walk.refuse_counted(node)
        for signal in given:
            walk.refuse(signal.channels, str(reason))
        return Unknown(node), walk.unknown(node)


def _spread_refusals(walk: Following) -> None:
    """Refuse what is one decision with a refused layer, and layers that are not called at all."""
    for name in walk.layers:
        if name not in walk.inputs:
            walk.refused.setdefault(name, "it is not called as a layer of its own")
    structural = walk.refused
    walk.groups.spread(structural)
    walk.refused = walk.emitting | structural
    walk.groups.spread(walk.refused)
    walk.emitting = {n: why for n, why in walk.refused.items() if n not in structural}
