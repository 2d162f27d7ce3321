"""Writing a traced network anew with fewer channels: the pieces it is made of, and small steps."""

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.graph.count import Live
from bench.graph.operations import split_sizes
from bench.graph.structure import Layout


class CannotCompact(BenchError):
    """A dropped unit whose removal would change what the network computes."""

    exit_code = 1


@dataclass(frozen=True)
class Piece:
    """A tensor of the network as it stands in the smaller one.

    Attributes:
        node: in the new graph; None where no channel of it is left.
        lives: which of its channels are carried, boolean (channels,).
        constant: what each dead channel is everywhere, float64 (channels,); 0 where it lives, NaN
            where it is not the same everywhere, which is no harm if nothing reads it.
    """

    node: fx.Node | None
    lives: Tensor
    constant: Tensor

    @property
    def has_constants(self) -> bool:
        return bool(self.constant.any())


class Rewriter:
    """An old graph, a new one, and what became of each node."""

    def __init__(self, model: nn.Module, layout: Layout, live: Live) -> None:
        assert layout.graph is not None
        self.layout, self.live, self.old = layout, live, layout.graph
        self.modules = dict(model.named_modules())
        self.layers = {layer.name: layer for layer in layout.layers}
        self.new = fx.Graph()
        self.parts: dict[str, Any] = {}
        self.reference = next(model.parameters())
        self.shifts: dict[str, Tensor] = {}  # folded into a normalisation's running mean
        self.pieces: dict[fx.Node, Any] = {}
        self.copies: dict[fx.Node, fx.Node] = {}

    # -- what stays as it is -----------------------------------------------------------------

    def _given(self, node: fx.Node) -> Piece | None:
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            value = getattr(self.modules[owner], name)
            self.parts[str(node.target)] = copy.deepcopy(value)
        return self._whole(node, self._copy(node))

    def _opaque(self, node: fx.Node) -> Any:
        """An operation that channels are not followed through: it must get all of them."""
        for source in node.all_input_nodes:
            piece = self.pieces.get(source)
            if isinstance(piece, Piece) and not bool(piece.lives.all()):
                raise CannotCompact(f"{node.name!r} needs all channels of {source.name!r}")
        if node.op == "call_module":
            self.parts.setdefault(str(node.target), copy.deepcopy(self.modules[str(node.target)]))
        return self._whole(node, self._copy(node))

    def _size(self, node: fx.Node) -> None:
        if all(source in self.copies for source in node.all_input_nodes):
            self._copy(node)

    def _output(self, node: fx.Node) -> None:
        self._opaque(node)

    def _copy(self, node: fx.Node) -> fx.Node:
        self.copies[node] = self.new.node_copy(node, self._copied)
        return self.copies[node]

    def _copied(self, node: fx.Node) -> fx.Node:
        """What stands in the new graph for something that is needed as it was."""
        if node not in self.copies:
            raise CannotCompact(
                f"{node.name!r} is needed, but nothing of what it is computed of is left"
            )
        return self.copies[node]

    def _whole(self, node: fx.Node, made: fx.Node) -> Piece | None:
        channels = self.layout.channels.get(node.name)
        if channels is None:
            return None
        count = sum(segment.width for segment in channels)
        return Piece(made, torch.ones(count, dtype=torch.bool), torch.zeros(count).double())

    # -- parts of tensors ---------------------------------------------------------------------

    def _item(self, node: fx.Node) -> Any:
        arguments: Any = node.args
        value, index = self.pieces.get(arguments[0]), arguments[1]
        if isinstance(value, tuple):
            self._keep(node, value[index].node)
            return value[index]
        if value is None:  # an element of a shape
            return self._size(node)
        start, stop, _ = index[1].indices(len(value.lives))
        lives, constant = value.lives[start:stop], value.constant[start:stop]
        if not bool(lives.any()):
            return Piece(None, lives, constant)
        first = int(value.lives[:start].sum())
        channels = slice(first, first + int(lives.sum()))
        made = self._call(operator.getitem, value.node, (index[0], channels, *index[2:]))
        return Piece(self._keep(node, made), lives, constant)

    def _split(self, node: fx.Node) -> tuple[Piece, ...]:
        given = self._argument(node)
        parts, start, first = [], 0, 0
        for size in split_sizes(node, len(given.lives)):
            lives, constant = (
                given.lives[start : start + size],
                given.constant[start : start + size],
            )
            count = int(lives.sum())
            made = None
            if count:
                made = self._call(torch.narrow, given.node, 1, first, count)
            parts.append(Piece(made, lives, constant))
            start, first = start + size, first + count
        return tuple(parts)

    # -- small steps -------------------------------------------------------------------------

    def _argument(self, node: fx.Node) -> Piece:
        piece: Piece = self.pieces[node.all_input_nodes[0]]
        return piece

    def _call(self, function: Any, *arguments: Any) -> fx.Node:
        return self.new.call_function(function, arguments)

    def _keep(self, old: fx.Node, made: fx.Node | None) -> fx.Node | None:
        """Let later copies of nodes find what the old node became."""
        if made is not None:
            self.copies[old] = made
        return made

    def _again(self, node: fx.Node, given: Piece) -> fx.Node | None:
        """The same operation on what is left of its input."""
        if given.node is None:
            return None
        if node.op == "call_module":
            self.parts.setdefault(str(node.target), copy.deepcopy(self.modules[str(node.target)]))
        source = node.all_input_nodes[0]
        made = self.new.node_copy(node, lambda n: given.node if n is source else self._copied(n))
        return self._keep(node, made)

    def _applied(self, node: fx.Node, constant: Tensor) -> Tensor:
        """What an activation makes of constants."""
        x = constant.view(1, -1).clone()
        if node.op == "call_module":
            module = copy.deepcopy(self.modules[str(node.target)]).double().cpu()
            if hasattr(module, "inplace"):
                module.inplace = False
            return module(x).flatten()  # type: ignore[no-any-return]
        # The tensor may stand anywhere: x * 2, 2 * x, relu(input=x).
        arguments: Any = fx.node.map_arg(node.args, lambda _: x)
        options: Any = fx.node.map_arg(node.kwargs, lambda _: x)
        if node.op == "call_method":
            return getattr(x, str(node.target))(*arguments[1:], **options).flatten()  # type: ignore[no-any-return]
        return node.target(*arguments, **options).flatten()  # type: ignore[operator, no-any-return]

    def _gathered(self, given: Piece, reads: Tensor) -> fx.Node:
        """What a layer reads of a tensor; a gather only where it leaves some channel out."""
        assert given.node is not None
        if torch.equal(reads, given.lives):
            return given.node
        places = reads[given.lives].nonzero().flatten()
        return self._call(torch.index_select, given.node, 1, self._buffer(places))

    def _scattered(self, piece: Piece, lives: Tensor, rank: int) -> fx.Node:
        """A tensor with zeros in the channels that it lacks."""
        assert piece.node is not None
        if torch.equal(piece.lives, lives):
            return piece.node
        padded = self._call(F.pad, piece.node, (0,) * 2 * (rank - 2) + (0, 1))
        own = piece.lives[lives]
        zero_channel = int(own.sum())
        places = torch.where(own, own.cumsum(0) - 1, zero_channel)
        return self._call(torch.index_select, padded, 1, self._buffer(places))

    def _buffer(self, value: Tensor) -> fx.Node:
        name = f"_constant_{len(self.parts)}"
        self.parts[name] = value.to(self.reference.device)
        return self.new.get_attr(name)
