"""Operations that take channels out of a tensor."""

import operator
from typing import Any

import torch
from torch import fx

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.following import Following, Signals
from bench.graph.nodes import argument
from bench.graph.operations.base import Operation
from bench.graph.operations.plain import Number
from bench.graph.rewriting import Piece, Pieces, Rewriting


class Item(Operation):
    """A part of a split, a range of channels, or an element of a shape."""

    functions = (operator.getitem,)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        value, index = self._arguments()
        signal = walk.signals.get(value)
        if isinstance(signal, tuple):
            self.expect(isinstance(index, int) and -len(signal) <= index < len(signal))
            taken: Signal = signal[index]
            return taken
        if not isinstance(index, tuple) or len(index) < 2 or index[0] != slice(None):
            raise CannotFollow(f"{self.node.name!r} takes out something else than channels")
        channels, of_channels = given[0].channels, index[1]
        if of_channels != slice(None):
            if not isinstance(of_channels, slice):
                raise CannotFollow(f"{self.node.name!r} takes out single channels")
            ends = (of_channels.start, of_channels.stop, of_channels.step)
            self.expect(all(end is None or isinstance(end, int) for end in ends))
            start, stop, step = of_channels.indices(flows.width(channels))
            if step != 1:
                raise CannotFollow(f"{self.node.name!r} takes every {step}th channel")
            walk.groups.note(given[0])
            channels = flows.cut(channels, start, stop)
        return Signal(channels, self.node.name, channels)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        value, index = self._arguments()
        given = smaller.pieces.get(value)
        if isinstance(given, tuple):
            part: Piece = given[index]
            smaller.keep(self.node, part.node)
            return part
        if given is None:  # an element of a shape
            return Number(self.node).rewrite(smaller)
        start, stop, _ = index[1].indices(len(given.lives))
        lives, constant = given.lives[start:stop], given.constant[start:stop]
        if not bool(lives.any()):
            return Piece(None, lives, constant)
        first = int(given.lives[:start].sum())
        channels = slice(first, first + int(lives.sum()))
        made = smaller.call(operator.getitem, given.node, (index[0], channels, *index[2:]))
        return Piece(smaller.keep(self.node, made), lives, constant)

    def _arguments(self) -> tuple[fx.Node, Any]:
        value, index = self.node.args
        assert isinstance(value, fx.Node)
        return value, index


class Split(Operation):
    """Channels in several ranges, one after the other."""

    functions = (torch.chunk, torch.split)
    methods = ("chunk", "split")

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        if argument(self.node, 2, "dim", 0) != 1:
            raise CannotFollow(f"{self.node.name!r} does not split channels")
        signal = self.only(given)
        self.expect(self._is_split_by_numbers())
        walk.groups.note(signal)
        parts, start = [], 0
        for size in self._sizes(flows.width(signal.channels)):
            parts.append(Signal(flows.cut(signal.channels, start, start + size), "", ()))
            start += size
        return tuple(parts)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        given = smaller.piece_into(self.node)
        parts, start, first = [], 0, 0
        for size in self._sizes(len(given.lives)):
            ends = slice(start, start + size)
            lives, constant = given.lives[ends], given.constant[ends]
            count, made = int(lives.sum()), None
            if count:
                made = smaller.call(torch.narrow, given.node, 1, first, count)
            parts.append(Piece(made, lives, constant))
            start, first = start + size, first + count
        return tuple(parts)

    def _is_split_by_numbers(self) -> bool:
        wanted = self._wanted()
        listed = wanted if isinstance(wanted, tuple | list) else [wanted]
        return all(isinstance(size, int) and size >= 0 for size in listed)

    def _sizes(self, total: int) -> list[int]:
        """Return the number of channels of each part."""
        wanted = self._wanted()
        if not isinstance(wanted, int):
            return list(wanted)
        size = -(-total // wanted) if self._is_by_count() else wanted
        return [min(size, total - start) for start in range(0, total, size)]

    def _is_by_count(self) -> bool:
        return self.node.target in (torch.chunk, "chunk")

    def _wanted(self) -> Any:
        """Return the number of parts of a chunk; the sizes of a split, or the size of each part."""
        name = "chunks" if self._is_by_count() else "split_size_or_sections"
        wanted = argument(self.node, 1, name)
        return argument(self.node, 1, "split_size") if wanted is None else wanted
