"""Convolutions and linear layers: the operations whose outputs are units."""

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.graph import channels as flows
from bench.graph.coupled_groups import Signal
from bench.graph.folding import (
    Constant,
    dead_input_contribution,
    double,
    is_uniform,
    layer_with_weights,
    nan_if_padding_breaks,
    total,
)
from bench.graph.following import Following, Signals
from bench.graph.layers import Layer
from bench.graph.operations.base import Operation, handler_of
from bench.graph.operations.normalisation import Normalisation
from bench.graph.rewriting import CannotCut, Piece, Pieces, Rewriting


class LayerCall(Operation):
    """A layer mixes all channels that it reads: dead inputs and dead outputs are cut out of its weight."""

    # -- following ---------------------------------------------------------------------------

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        signal, layer = self.only(given), walk.layers.get(str(self.node.target))
        self.expect(layer is not None and self.node.name in walk.shapes)
        assert layer is not None
        rank = len(walk.shapes[self.node.name])
        wanted = 4 if layer.is_convolution else 2
        if flows.width(signal.channels) != layer.n_inputs or rank != wanted:
            walk.refused[layer.name] = "it does not read channels"
            walk.refuse(signal.channels, f"{layer.name!r} does not read channels")
        else:
            walk.inputs[layer.name] = signal.channels
        walk.groups.note(signal)
        outputs = flows.of_layer(layer.name, layer.weight_shape[0])
        if layer.groups > 1:
            _couple_groups(layer, signal, outputs, walk)
        if not _has_norm_next(self.node, walk):
            walk.gates[layer.name] = outputs
        return Signal(outputs, self.node.name, outputs)

    # -- rewriting ---------------------------------------------------------------------------

    def rewrite(self, smaller: Rewriting) -> Pieces:
        name = str(self.node.target)
        layer, module = smaller.layers[name], smaller.modules[name]
        assert isinstance(module, nn.Conv2d | nn.Linear)
        is_grouped = layer.groups > 1 and layer.weight_shape[1] > 1
        if is_grouped or not layer.reads_channels:
            return smaller.copy_whole(self.node)
        given, rows = smaller.piece_into(self.node), smaller.live.out[name]
        brought = dead_input_contribution(layer, module, given.constant)
        constant = total(brought) if is_uniform(module) else nan_if_padding_breaks(brought)
        if module.bias is not None:
            constant = constant + double(module.bias)
        dead = torch.where(rows, 0.0, constant)
        if not bool(rows.any()):
            return Piece(None, rows, dead)
        reads = given.lives & smaller.live.inputs[name]
        if given.node is None or not bool(reads.any()):
            made = self._constant_layer(module, rows, brought, smaller)
        elif layer.groups > 1:
            made = self._depthwise(module, given, rows, brought, smaller)
        else:
            source = smaller.gathered(given, reads)
            made = self._mixing(module, source, rows, reads, brought, smaller)
        return Piece(smaller.keep(self.node, made), rows, dead)

    def _mixing(
        self, module: nn.Conv2d | nn.Linear, source: fx.Node, rows: Tensor, reads: Tensor,
        brought: Tensor, smaller: Rewriting,
    ) -> fx.Node:  # fmt: skip
        """Make a layer of the rows and columns that are left, with the constants of dead inputs folded in."""
        weight, name = module.weight.detach(), str(self.node.target)
        kernel = weight[rows][:, reads]
        offset = None if module.bias is None else module.bias.detach()[rows]
        self._refuse_varying(rows, brought)
        folded, norm = total(brought)[rows].to(weight), _norm_after(self.node, smaller)
        is_left = bool(folded.any())
        if is_left and not is_uniform(module):
            # A channel of ones carries the constants, so that they end where the padding begins.
            source = smaller.call(F.pad, source, (0, 0, 0, 0, 0, 1), "constant", 1.0)
            kernel = torch.cat([kernel, brought[rows].to(weight).unsqueeze(1)], 1)
            is_left = False
        elif is_left and offset is not None:
            offset, is_left = offset + folded, False
        elif is_left and norm:
            smaller.shifts[norm], is_left = folded, False
        made = smaller.call_module(name, layer_with_weights(module, kernel, offset), source)
        if is_left:  # a constant, where the layer had no parameter to take it up
            shape = (1, -1, *[1] * (weight.dim() - 2))
            made = smaller.call(torch.add, made, smaller.buffer(folded.view(shape)))
        return made

    def _depthwise(
        self, module: nn.Conv2d | nn.Linear, given: Piece, rows: Tensor, brought: Tensor,
        smaller: Rewriting,
    ) -> fx.Node:  # fmt: skip
        name = str(self.node.target)
        if bool((total(brought)[rows] != 0).any()):
            raise CannotCut(f"{name!r}: a depthwise filter reads a dead channel")
        fed = given.lives & rows
        # A filter whose input is dead, but whose output must stay, reads zeros.
        left = Piece(smaller.gathered(given, fed), fed, given.constant)
        source = smaller.scattered(left, rows, 4)
        offset = None if module.bias is None else module.bias.detach()[rows]
        groups = int(rows.sum())
        thin = layer_with_weights(module, module.weight.detach()[rows], offset, groups)
        return smaller.call_module(name, thin, source)

    def _constant_layer(
        self, module: nn.Conv2d | nn.Linear, rows: Tensor, brought: Tensor, smaller: Rewriting
    ) -> fx.Node:
        """Make the constant that is left of a layer whose inputs are all dead."""
        if not isinstance(module, nn.Linear):
            raise CannotCut(f"nothing of the network's input reaches {self.node.target!r}")
        self._refuse_varying(rows, brought)
        offset = total(brought)[rows].to(module.weight)
        if module.bias is not None:
            offset = offset + module.bias.detach()[rows]
        images = next(iter(smaller.new.nodes))
        return smaller.call_module(str(self.node.target), Constant(offset), images)

    def _refuse_varying(self, rows: Tensor, brought: Tensor) -> None:
        if bool(brought[rows].isnan().any()):
            raise CannotCut(
                f"{self.node.target!r} reads a dead channel that is not the same everywhere"
            )


class Convolution(LayerCall):
    """A convolution over an image: all channels into each filter, or each channel for itself."""

    modules = (nn.Conv2d,)


class Linear(LayerCall):
    """A linear layer on a row per image."""

    modules = (nn.Linear,)


def _couple_groups(layer: Layer, signal: Signal, outputs: flows.Flow, walk: Following) -> None:
    """Tie a depthwise layer's outputs to its inputs; refuse other groups, which must stay equal."""
    if layer.weight_shape[0] == layer.groups:
        # Whatever the coupling: apart, two masks could leave a chain without any path.
        walk.groups.tie(signal.channels, outputs)
    else:
        walk.refuse(signal.channels, f"{layer.name!r} is a grouped convolution")
        walk.refused[layer.name] = f"it has {layer.groups} groups, which must stay equal"


def _has_norm_next(node: fx.Node, walk: Following) -> bool:
    """Return True where a normalisation alone reads this output: then it is enough to gate that one."""
    user = _only_user(node)
    if user is None or user.op != "call_module" or walk.calls[str(user.target)] != 1:
        return False
    return issubclass(handler_of(user, walk.modules) or Operation, Normalisation)


def _norm_after(node: fx.Node, smaller: Rewriting) -> str:
    """Return the normalisation that alone reads a node, if there is one with a running mean."""
    user = _only_user(node)
    name = "" if user is None else str(user.target)
    if name not in smaller.norms or smaller.modules[name].running_mean is None:
        return ""
    return name


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
