"""Normalisations with a scale and an offset for each channel."""

import copy

import torch
from torch import Tensor, nn

from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.folding import double
from bench.graph.following import Following, Signals
from bench.graph.layers import Norm
from bench.graph.operations.base import Operation
from bench.graph.rewriting import Piece, Pieces, Rewriting


class Normalisation(Operation):
    """A dead unit's scale and offset are zero; where only its layer is dead, it emits a constant."""

    modules = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        signal, name = self.only(given), str(self.node.target)
        if next(walk.modules[name].parameters(), None) is None:
            raise CannotFollow(f"{name!r} has no scale to silence a channel with")
        walk.norms.append(Norm(name, signal.channels, (f"{name}.weight", f"{name}.bias")))
        walk.gates[name] = signal.channels
        return Signal(signal.channels, self.node.name, signal.channels)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given, name = smaller.piece_into(self.node), str(self.node.target)
        module = smaller.modules[name]
        constant = torch.where(given.lives, 0.0, _emitted(module, given.constant))
        if given.node is None:
            return Piece(None, given.lives, constant)
        thin = _of_channels(module, given.lives)
        if name in smaller.shifts:
            thin.get_buffer("running_mean").sub_(smaller.shifts[name])
        made = smaller.call_module(name, thin, given.node)
        return Piece(smaller.keep(self.node, made), given.lives, constant)


def _emitted(module: nn.Module, constant: Tensor) -> Tensor:
    """Return what constant channels become, float64 (channels,)."""
    scale, offset = double(module.get_parameter("weight")), double(module.get_parameter("bias"))
    if module.running_mean is None:  # the statistics are those of the constant itself
        return offset
    mean, variance = (double(module.get_buffer(f"running_{k}")) for k in ("mean", "var"))
    made = (constant - mean) / (variance + float(module.eps)).sqrt() * scale + offset  # type: ignore[arg-type]
    return torch.where(scale == 0, offset, made)


def _of_channels(module: nn.Module, lives: Tensor) -> nn.Module:
    """Return a normalisation of some of its channels, boolean (channels,)."""
    thin = copy.deepcopy(module)
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(module, name, None)
        if value is not None:
            short = value.detach()[lives.to(value.device)].clone()
            if isinstance(value, nn.Parameter):
                short = nn.Parameter(short, value.requires_grad)
            setattr(thin, name, short)
    thin.num_features = int(lives.sum())  # type: ignore[assignment]
    return thin
