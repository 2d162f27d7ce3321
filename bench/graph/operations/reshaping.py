"""Operations that lay the same values out anew."""

import torch
from torch import nn

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.following import Following, Signals
from bench.graph.operations.base import Operation
from bench.graph.rewriting import Piece, Pieces, Rewriting


class Reshape(Operation):
    """Maps flattened into one row per image, so that each channel becomes several in a row."""

    modules = (nn.Flatten,)
    functions = (torch.flatten, torch.reshape, torch.squeeze)
    methods = ("flatten", "view", "reshape", "squeeze")
    resizes = True

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        signal = self.only(given)
        before, after = walk.shapes[walk.tensor_into(self.node).name], walk.shapes[self.node.name]
        if after == before:
            return signal
        if len(after) != 2 or after[0] != 1 or before[0] != 1:  # the example is one image
            raise CannotFollow(f"{self.node.name!r} does not flatten an image into one row")
        flat = flows.repeated(signal.channels, after[1] // flows.width(signal.channels))
        return Signal(flat, signal.node, signal.seen)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given = smaller.piece_into(self.node)
        if self.node.meta["shape"] == smaller.source(self.node).meta["shape"]:
            smaller.keep(self.node, given.node)
            return given
        channels = smaller.channels[self.node.name]
        times = sum(s.width for s in channels) // len(given.lives)
        made = None if given.node is None else smaller.call(torch.flatten, given.node, 1)
        lives = given.lives.repeat_interleave(times)
        constant = given.constant.repeat_interleave(times)
        return Piece(smaller.keep(self.node, made), lives, constant)
