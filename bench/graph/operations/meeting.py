"""Operations in which several tensors meet, channel by channel."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.folding import nan_if_padding_breaks
from bench.graph.following import Following, Signals
from bench.graph.nodes import argument
from bench.graph.operations.base import Operation
from bench.graph.operations.elementwise import Elementwise, is_scaled
from bench.graph.rewriting import CannotCut, Piece, Pieces, Rewriting


class Add(Operation):
    """A sum of two tensors: a channel is dead where it is dead in both."""

    functions = (operator.add, operator.iadd, torch.add)
    methods = ("add", "add_")

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        terms = walk.placed(self.node)
        if len(terms) != 2:
            raise CannotFollow(f"{self.node.name!r} adds a number")
        first, second = terms
        summed = flows.added(first.channels, second.channels)
        if walk.coupling == "internal":
            for term in terms:
                walk.refuse(term.channels, "it is added to others, and the coupling is internal")
        elif walk.coupling != "tied" or not walk.groups.tie(first.channels, second.channels):
            for term in terms:
                walk.groups.note(term)
        walk.sums.append(summed)
        return Signal(summed, self.node.name, summed)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        first, second = (smaller.piece(a) for a in self.node.args[:2])
        lives = first.lives | second.lives
        constant = first.constant + second.constant
        rank = len(self.node.meta["shape"])
        pieces = [piece for piece in (first, second) if piece.node is not None]
        terms = [smaller.scattered(piece, lives, rank) for piece in pieces]
        if not terms:
            return Piece(None, lives, constant)
        made = terms[0] if len(terms) == 1 else smaller.call(torch.add, *terms)
        if bool(constant[lives].isnan().any()):
            raise CannotCut(
                f"{self.node.name!r} adds a dead channel that is not the same everywhere"
            )
        if bool(constant[lives].any()):
            emitted = constant[lives].view(1, -1, *[1] * (rank - 2)).to(smaller.reference.dtype)
            made = smaller.call(torch.add, made, smaller.buffer(emitted))
        return Piece(smaller.keep(self.node, made), lives, torch.where(lives, 0.0, constant))


class Multiply(Elementwise):
    """A product with a number, or with a factor that is never dropped, such as squeeze-and-excitation's."""

    functions = (operator.mul, operator.imul, torch.mul)
    methods = ("mul", "mul_")

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        if self._is_by_a_number():
            return super().follow(given, walk)
        factors = walk.placed(self.node)
        self.expect(len(factors) == 2)
        first, second = factors
        if flows.layers_of(first.channels):
            first, second = second, first
        if flows.layers_of(first.channels) or len(first.channels) != 1:
            raise CannotFollow(f"{self.node.name!r} multiplies channels that could each be dropped")
        if flows.width(first.channels) != flows.width(second.channels):
            raise CannotFollow(f"{self.node.name!r} multiplies tensors of different channels")
        return Signal(second.channels, self.node.name, second.channels)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        """Multiply by the channels of the whole factor that the other still has."""
        if self._is_by_a_number():
            return super().rewrite(smaller)
        first, second = (smaller.piece(a) for a in self.node.args[:2])
        if not bool(second.lives.all()):
            first, second = second, first
        # The other factor is known only at run time.
        constant = nan_if_padding_breaks(first.constant)
        if first.node is None:
            return Piece(None, first.lives, constant)
        made = smaller.call(torch.mul, first.node, smaller.gathered(second, first.lives))
        return Piece(smaller.keep(self.node, made), first.lives, constant)

    def _is_by_a_number(self) -> bool:
        return is_scaled(self.node, either_first=True)


class Concatenate(Operation):
    """Tensors one after the other along their channels."""

    functions = (torch.cat, torch.concat)

    def follow(self, given: list[Signal], walk: Following) -> Signals:
        dim = argument(self.node, 1, "dim", 0)
        if dim not in (1, 1 - len(walk.shapes[self.node.name])):
            raise CannotFollow(f"{self.node.name!r} does not join channels")
        parts = self._joined(walk.signals)
        signals = [part for part in parts if isinstance(part, Signal)]
        self.expect(0 < len(signals) == len(parts))
        for signal in signals:
            walk.groups.note(signal)
        joined = sum((signal.channels for signal in signals), ())
        return Signal(joined, self.node.name, joined)

    def rewrite(self, smaller: Rewriting) -> Pieces:
        pieces = [piece for piece in self._joined(smaller.pieces) if isinstance(piece, Piece)]
        lives = torch.cat([p.lives for p in pieces])
        constant = torch.cat([p.constant for p in pieces])
        left = [p.node for p in pieces if p.node is not None]
        made = smaller.call(torch.cat, left, 1) if len(left) > 1 else next(iter(left), None)
        return Piece(smaller.keep(self.node, made), lives, constant)

    def _joined(self, known: Mapping[fx.Node, Any]) -> Sequence[object]:
        """Return what is known of each tensor that is joined: listed, or the parts of a split."""
        listed = argument(self.node, 0, "tensors")
        if isinstance(listed, fx.Node):
            parts = known.get(listed)
            return parts if isinstance(parts, tuple) else ()
        if not isinstance(listed, tuple | list):
            return ()
        return [known.get(part) if isinstance(part, fx.Node) else None for part in listed]
