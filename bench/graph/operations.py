"""The operations that are known, by what they do to channels, and the tracer that finds them."""

import math
import operator
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

TensorShape = tuple[int, ...]
Role = Literal["given", "layer", "norm", "activation", "pass", "add", "mul", "cat", "reshape", "mean",
               "pad", "item", "split", "size", "opaque"]  # fmt: skip

# Elementwise and zero-preserving, or over positions only: a channel that is 0 before is 0 after.
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
                nn.Hardswish, nn.Hardtanh, nn.Softsign, nn.PReLU)  # fmt: skip
_PASSING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout,
            nn.Dropout2d, nn.Identity, nn.Upsample, nn.ZeroPad2d)  # fmt: skip
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)
_FUNCTIONS: dict[Any, Role] = {
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.elu, F.hardswish, F.mish,
                     torch.relu, torch.tanh, torch.abs), "activation"),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
                     F.dropout, F.dropout2d, F.interpolate, torch.max_pool2d), "pass"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add), "add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), "mul"),
    **dict.fromkeys((torch.cat, torch.concat), "cat"),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze), "reshape"),
    **dict.fromkeys((torch.chunk, torch.split), "split"),
    **dict.fromkeys((operator.neg, torch.neg), "activation"),
    torch.mean: "mean", F.pad: "pad", operator.getitem: "item",
}  # fmt: skip
_IN_PLACE = (operator.iadd, operator.imul, operator.itruediv)
_MULTIPLYING = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_DIVIDING = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
_TENSOR_METHODS: dict[Any, Role] = {
    **dict.fromkeys(("relu", "relu_", "tanh", "abs", "neg"), "activation"), "contiguous": "pass",
    **dict.fromkeys(("add", "add_"), "add"), **dict.fromkeys(("mul", "mul_"), "mul"),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze"), "reshape"), "mean": "mean",
    **dict.fromkeys(("chunk", "split"), "split"),
}  # fmt: skip
_MODULES: tuple[tuple[Any, Role], ...] = (
    ((nn.Conv2d, nn.Linear), "layer"), (NORMS, "norm"), (_ACTIVATIONS, "activation"),
    (_PASSING, "pass"), (nn.Flatten, "reshape"),
)  # fmt: skip


class LeafTracer(fx.Tracer):
    """Stops at every module of torch.nn, and at nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


def shapes_of(graph: fx.GraphModule, example: Tensor) -> dict[str, TensorShape]:
    """Return the shape of every tensor in the graph, by node name."""
    shapes: dict[str, TensorShape] = {}

    class Note(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                shapes[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Note(graph).run(example)
    return shapes


def role_of(node: fx.Node, modules: dict[str, nn.Module]) -> Role:
    """Return what a node does to channels; `opaque` where it is not known."""
    if node.op in ("placeholder", "get_attr"):
        return "given"
    if is_sigmoid(node, modules) and _feeds_linear_layers(node, modules):
        return "activation"
    if _scales(node):
        return "activation"
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Hardtanh) and not module.min_val <= 0 <= module.max_val:
            return "opaque"
        return next((role for kinds, role in _MODULES if isinstance(module, kinds)), "opaque")
    if getattr(node.target, "__name__", "") == "stochastic_depth":  # torchvision's
        return "pass"
    table: dict[Any, Role] = _FUNCTIONS if node.op == "call_function" else _TENSOR_METHODS
    return table.get(node.target) or ("size" if _asks_size(node) else "opaque")


def _scales(node: fx.Node) -> bool:
    """Return True where a node multiplies a tensor by a number, or divides it by one: 0 stays 0."""
    divides = node.target in _DIVIDING
    if not (divides or node.target in _MULTIPLYING) or len(node.args) != 2 or node.kwargs:
        return False
    tensor, number = node.args
    if isinstance(number, fx.Node) and not divides:
        tensor, number = number, tensor
    is_finite = isinstance(number, int | float) and math.isfinite(number)
    return isinstance(tensor, fx.Node) and is_finite and not (divides and number == 0)


def called(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Return the name of a node for users: a module with its class."""
    if node.op != "call_module":
        return repr(node.name)
    return f"{str(node.target)!r} ({type(modules[str(node.target)]).__name__})"


def is_sigmoid(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return True where a node makes one half of a zero."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Sigmoid)
    return node.target in (torch.sigmoid, F.sigmoid, "sigmoid")


def _feeds_linear_layers(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return True where linear layers alone read a node, so that constants go into their biases."""
    for user in node.users:
        module = modules[str(user.target)] if user.op == "call_module" else None
        is_dropout = isinstance(module, nn.Dropout) or user.target is F.dropout
        if is_dropout and _feeds_linear_layers(user, modules):
            continue
        if not isinstance(module, nn.Linear):
            return False
    return bool(node.users)


def _asks_size(node: fx.Node) -> bool:
    """Return True where a node only computes with sizes: x.size(0), x.shape[0], len(x)."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    return node.target is getattr and str(node.args[1]) in ("shape", "device", "dtype", "ndim")


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


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call, given by its place or by its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def split_sizes(node: fx.Node, total: int) -> list[int]:
    """Return the number of channels of each part of torch.split or torch.chunk."""
    by_count = node.target in (torch.chunk, "chunk")
    wanted = argument(node, 1, "chunks" if by_count else "split_size_or_sections")
    if wanted is None:
        wanted = argument(node, 1, "split_size")
    if not isinstance(wanted, int):
        return list(wanted)
    size = -(-total // wanted) if by_count else wanted
    return [min(size, total - start) for start in range(0, total, size)]
