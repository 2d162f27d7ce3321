"""Operations over positions: each channel stays by itself, and one that is zero stays zero."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.folding import nan_if_padding_breaks
from bench.graph.following import Following, Signals
from bench.graph.nodes import argument
from bench.graph.operations.base import Operation
from bench.graph.rewriting import Piece, Pieces, Rewriting


class OverPositions(Operation):
    """A change of positions alone, after which units are read where they were before."""

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        return self.only(given)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given = smaller.piece_into(self.node)
        constant = given.constant
        if self.mixes_in_zeros(smaller):
            constant = nan_if_padding_breaks(constant)
        return Piece(smaller.copy_onto_reduced_input(self.node), given.lives, constant)

    def mixes_in_zeros(self, smaller: Rewriting) -> bool:
        """Return True where values are mixed with zeros from outside the image."""
        return False


class PerChannel(OverPositions):
    """An image of the same channels comes out."""


class Unchanged(PerChannel):
    """Nothing, in evaluation mode: identity, dropout, a copy in another memory format."""

    modules = (nn.Identity, nn.Dropout, nn.Dropout2d)
    functions = (F.dropout, F.dropout2d, "torchvision.ops.stochastic_depth.stochastic_depth")
    methods = ("contiguous",)


class MaxPool(PerChannel):
    """The maximum over a window; zeros outside the image are not in it."""

    modules = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
    functions = (F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d)


class AdaptiveAveragePool(PerChannel):
    """The mean over windows that cover the image."""

    modules = (nn.AdaptiveAvgPool2d,)
    functions = (F.adaptive_avg_pool2d,)


class AveragePool(PerChannel):
    """The mean over a window, which may count zeros outside the image."""

    modules = (nn.AvgPool2d,)
    functions = (F.avg_pool2d,)

    def mixes_in_zeros(self, smaller: Rewriting) -> bool:
        if self.node.op == "call_module":
            module = smaller.modules[str(self.node.target)]
            assert isinstance(module, nn.AvgPool2d)
            padding: object = module.padding
            counts = module.count_include_pad
        else:
            padding = argument(self.node, 3, "padding", 0)
            counts = bool(argument(self.node, 5, "count_include_pad", True))
        return padding not in (0, (0, 0)) and counts


class Resize(PerChannel):
    """An image made larger or smaller by its neighbours' values."""

    modules = (nn.Upsample,)
    functions = (F.interpolate,)


class ZeroPadding(PerChannel):
    """Zeros around the image, as a module."""

    modules = (nn.ZeroPad2d,)

    def mixes_in_zeros(self, smaller: Rewriting) -> bool:
        return True


class PositionMean(OverPositions):
    """The mean over all positions."""

    functions = (torch.mean,)
    methods = ("mean",)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        dims: Any = argument(self.node, 1, "dim")
        is_listed = isinstance(dims, tuple | list)
        self.expect(not is_listed or all(isinstance(d, int) for d in dims))
        if not is_listed or not {d % 4 for d in dims} <= {2, 3}:
            raise CannotFollow(f"{self.node.name!r} is not a mean over positions")
        return super().follow(given, walk)


class Pad(Operation):
    """Zeros around the image, and before and after its channels."""

    functions = (F.pad,)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        signal = self.only(given)
        pads: Any = self.node.args[1] if len(self.node.args) > 1 else None
        is_listed = isinstance(pads, tuple | list) and len(pads) % 2 == 0
        self.expect(is_listed and all(isinstance(p, int) for p in pads))
        if self.node.kwargs.get("value") or len(self.node.args) > 3 or len(pads) > 6:
            raise CannotFollow(f"{self.node.name!r} pads with something else than zeros")
        before, after = self._around_channels()
        padded = (*flows.zeros(before), *signal.channels, *flows.zeros(after))
        return Signal(padded, self.node.name, padded)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given = smaller.piece_into(self.node)
        around_image = self._pads()[:4]
        made, inner = given.node, given.constant
        if any(around_image):
            made = None if made is None else smaller.call(F.pad, made, around_image)
            inner = nan_if_padding_breaks(inner)
        before, after = self._around_channels()
        none = [torch.zeros(n, dtype=torch.bool) for n in (before, after)]
        zero = [torch.zeros(n).double() for n in (before, after)]
        lives = torch.cat([none[0], given.lives, none[1]])
        constant = torch.cat([zero[0], inner, zero[1]])
        return Piece(smaller.keep(self.node, made), lives, constant)

    def _pads(self) -> tuple[int, ...]:
        pads: Any = self.node.args[1]
        return tuple(pads)

    def _around_channels(self) -> tuple[int, int]:
        pads = self._pads()
        return (pads[4], pads[5]) if len(pads) == 6 else (0, 0)
