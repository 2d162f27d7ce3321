"""Nodes of a traced network: how they are found, named and read."""

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument

TensorShape = tuple[int, ...]
_IN_PLACE = (operator.iadd, operator.imul, operator.itruediv)


class LeafTracer(fx.Tracer):
    """Stops at every module of torch.nn, and at nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


def shapes_of(graph: fx.GraphModule, example: Tensor) -> dict[str, TensorShape]:
    """Return the shape of every tensor in the graph, by node name."""
    shapes: dict[str, TensorShape] = {}

    class Note(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                shapes[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Note(graph).run(example)
    return shapes


def called(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of a node for users: a module with its class."""
    if node.op != "call_module":
        return repr(node.name)
    return f"{str(node.target)!r} ({type(modules[str(node.target)]).__name__})"


def writes_into(user: fx.Node, node: fx.Node) -> bool:
    """Return True where an operation changes its input in place: x += y, nn.ReLU(inplace=True)."""
    if user.op == "call_module":
        owner = user.graph.owning_module
        assert owner is not None
        return bool(getattr(owner.get_submodule(str(user.target)), "inplace", False))
    if user.op == "call_method":
        return str(user.target).endswith("_") and user.args[0] is node
    in_place = user.target in _IN_PLACE and user.args[0] is node
    return in_place or bool(user.kwargs.get("inplace", False))


def argument(node: fx.Node, place: int, name: str, default: Argument = None) -> Argument:
    """Return an argument of a call, given by its place or by its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
