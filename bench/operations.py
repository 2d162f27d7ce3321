"""What a traced operation does to channels, and the tracer that stops where torch's modules begin."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

# Elementwise and zero-preserving, or over positions only: a channel that is 0 before is 0 after.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
                nn.Hardswish, nn.Hardtanh, nn.Softsign, nn.PReLU)  # fmt: skip
PASSING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout,
            nn.Dropout2d, nn.Identity, nn.Upsample, nn.ZeroPad2d)  # fmt: skip
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)
FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.elu, F.hardswish, F.mish,
                     torch.relu, torch.tanh, torch.abs), "activation"),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
                     F.dropout, F.dropout2d, F.interpolate, torch.max_pool2d), "pass"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add), "add"),
    **dict.fromkeys((torch.cat, torch.concat), "cat"),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze), "reshape"),
    **dict.fromkeys((torch.chunk, torch.split), "split"),
    torch.mean: "mean", F.pad: "pad", operator.getitem: "item",
}  # fmt: skip
TENSOR_METHODS = {
    **dict.fromkeys(("relu", "relu_", "tanh", "abs"), "activation"), "contiguous": "pass",
    **dict.fromkeys(("add", "add_"), "add"),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze"), "reshape"), "mean": "mean",
    **dict.fromkeys(("chunk", "split"), "split"),
}  # fmt: skip
Shape = tuple[int, ...]


class LeafTracer(fx.Tracer):
    """Stops at every module of torch.nn, and at nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


def shapes_of(graph: fx.GraphModule, example: Tensor) -> dict[str, Shape]:
    """Shape of every tensor in the graph, by node name."""
    shapes: dict[str, Shape] = {}

    class Note(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                shapes[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Note(graph).run(example)
    return shapes


def asks_size(node: fx.Node) -> bool:
    """Whether a node only computes with sizes: x.size(0), x.shape[0], len(x)."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    return node.target is getattr and str(node.args[1]) == "shape"


def writes_into(user: fx.Node, node: fx.Node) -> bool:
    """Whether an operation changes its input in place: x += y, nn.ReLU(inplace=True)."""
    if user.op == "call_module":
        owner = user.graph.owning_module
        assert owner is not None
        return bool(getattr(owner.get_submodule(str(user.target)), "inplace", False))
    if user.op == "call_method":
        return str(user.target).endswith("_") and user.args[0] is node
    in_place = user.target is operator.iadd and user.args[0] is node
    return in_place or bool(user.kwargs.get("inplace", False))
