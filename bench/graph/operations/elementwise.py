"""Operations on each value alone that leave a zero at zero, and the sigmoid, which does not."""

import copy
import math
import operator
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.graph import channels as flows
from bench.graph.coupled_groups import Signal
from bench.graph.following import Following, Signals
from bench.graph.nodes import called
from bench.graph.operations.base import Operation, unknown
from bench.graph.rewriting import Piece, Pieces, Rewriting


class Elementwise(Operation):
    """A channel that is zero before is zero after; one that emits a constant emits another one."""

    keeps_zero: ClassVar[bool] = True

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        channels = self.only(given).channels
        return Signal(channels, self.node.name, channels)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given = smaller.piece_into(self.node)
        constant = given.constant
        if given.has_constants or not self.keeps_zero:
            constant = torch.where(given.lives, 0.0, _applied(self.node, constant, smaller))
        return Piece(smaller.copy_onto_reduced_input(self.node), given.lives, constant)


class Activation(Elementwise):
    """An activation with f(0) = 0, or a change of sign."""

    modules = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
               nn.Hardswish, nn.Softsign, nn.PReLU)  # fmt: skip
    functions = (F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.elu, F.hardswish, F.mish, torch.relu,
                 torch.tanh, torch.abs, operator.neg, torch.neg)  # fmt: skip
    methods = ("relu", "relu_", "tanh", "abs", "neg")


class Clip(Elementwise):
    """Hardtanh and ReLU6: an activation with f(0) = 0 where 0 lies in its range."""

    modules = (nn.Hardtanh,)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        module = walk.modules[str(self.node.target)]
        assert isinstance(module, nn.Hardtanh)
        if not module.min_val <= 0 <= module.max_val:
            raise unknown(self.node, walk.modules)
        return super().follow(given, walk)


class Sigmoid(Elementwise):
    """A dead channel becomes one half: a constant, which linear layers take into their biases."""

    modules = (nn.Sigmoid,)
    functions = (torch.sigmoid, F.sigmoid)
    methods = ("sigmoid",)
    keeps_zero = False

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        if not _feeds_linear_layers(self.node, walk.modules):
            raise unknown(self.node, walk.modules)
        why = f"{called(self.node, walk.modules)} does not keep a zero channel at zero"
        walk.emitting |= dict.fromkeys(flows.layers_of(self.only(given).channels), why)
        return super().follow(given, walk)


class Divide(Elementwise):
    """A division by a number; by a tensor, nothing is known of what comes out."""

    functions = (operator.truediv, operator.itruediv, torch.div)
    methods = ("div", "div_")

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        if not (is_scaled(self.node) and self.node.args[1] != 0):
            raise unknown(self.node, walk.modules)
        return super().follow(given, walk)


def is_scaled(node: fx.Node, either_first: bool = False) -> bool:
    """Return True where a tensor meets a finite number: x / 2, and with `either_first` 2 * x too."""
    if len(node.args) != 2 or node.kwargs:
        return False
    tensor, number = node.args
    if either_first and isinstance(number, fx.Node):
        tensor, number = number, tensor
    is_finite = isinstance(number, int | float) and math.isfinite(number)
    return isinstance(tensor, fx.Node) and is_finite


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


def _applied(node: fx.Node, constant: Tensor, smaller: Rewriting) -> Tensor:
    """Return an activation's values of constants (channels,), float64."""
    x = constant.view(1, -1).clone()
    made: Tensor
    if node.op == "call_module":
        module = copy.deepcopy(smaller.modules[str(node.target)]).double().cpu()
        if hasattr(module, "inplace"):
            module.inplace = False
        made = module(x)
        return made.flatten()
    # The tensor may stand anywhere: x * 2, 2 * x, relu(input=x).
    arguments: Any = fx.node.map_arg(node.args, lambda _: x)
    options: Any = fx.node.map_arg(node.kwargs, lambda _: x)
    if node.op == "call_method":
        made = getattr(x, str(node.target))(*arguments[1:], **options)
    else:
        assert callable(node.target)
        made = node.target(*arguments, **options)
    return made.flatten()
