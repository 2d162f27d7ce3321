"""The state of a removal: the traced network as it was, the smaller one as far as it is written."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.graph.channels import Flow
from bench.graph.layers import Layer, LiveUnits


class CannotCut(BenchError):
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


Pieces = Piece | tuple[Piece, ...] | None


class Rewriting:
    """An old graph, a new one, and what became of each node.

    Attributes:
        channels: of each tensor in the old graph, by node name.
        norms: names of the normalisations that channels are followed through.
        live: outputs and inputs of each layer that stay.
        parts: modules and buffers of the new network by name.
        shifts: constants that are folded into a normalisation's running mean, by its name.
    """

    def __init__(
        self, model: nn.Module, layers: Mapping[str, Layer], norms: frozenset[str],
        channels: Mapping[str, Flow], live: LiveUnits,
    ) -> None:  # fmt: skip
        self.modules = dict(model.named_modules())
        self.layers, self.norms, self.channels, self.live = layers, norms, channels, live
        self.new = fx.Graph()
        self.parts: dict[str, Any] = {}
        self.reference = next(model.parameters())
        self.shifts: dict[str, Tensor] = {}
        self.pieces: dict[fx.Node, Pieces] = {}
        self.copies: dict[fx.Node, fx.Node] = {}

    # -- what is there -----------------------------------------------------------------------

    def source(self, node: fx.Node) -> fx.Node:
        """Return the first node that gives a tensor to a node."""
        return next(s for s in node.all_input_nodes if isinstance(self.pieces.get(s), Piece))

    def piece_into(self, node: fx.Node) -> Piece:
        """Return the first tensor that a node is given."""
        return self.piece(self.source(node))

    def piece(self, node: object) -> Piece:
        """Return what became of a tensor."""
        piece = self.pieces[node]  # type: ignore[index]
        assert isinstance(piece, Piece)
        return piece

    # -- what stays as it is -----------------------------------------------------------------

    def attribute(self, node: fx.Node) -> Pieces:
        """Copy a parameter or buffer that the forward reads."""
        owner, _, name = str(node.target).rpartition(".")
        self.parts[str(node.target)] = copy.deepcopy(getattr(self.modules[owner], name))
        return self.whole(node, self.copy(node))

    def copy_whole(self, node: fx.Node) -> Pieces:
        """Copy an operation that must get all channels of what it reads.

        Raises:
            CannotCut: some of them are gone.
        """
        for source in node.all_input_nodes:
            piece = self.pieces.get(source)
            if isinstance(piece, Piece) and not bool(piece.lives.all()):
                raise CannotCut(f"{node.name!r} needs all channels of {source.name!r}")
        self._take_module(node)
        return self.whole(node, self.copy(node))

    def copy(self, node: fx.Node) -> fx.Node:
        """Copy a node onto the copies of what it reads."""
        self.copies[node] = self.new.node_copy(node, self._copied)
        return self.copies[node]

    def whole(self, node: fx.Node, made: fx.Node) -> Piece | None:
        """Return the tensor that a new node puts out with all the old one's channels, if it is one."""
        channels = self.channels.get(node.name)
        if channels is None:
            return None
        count = sum(segment.width for segment in channels)
        return Piece(made, torch.ones(count, dtype=torch.bool), torch.zeros(count).double())

    def _copied(self, node: fx.Node) -> fx.Node:
        """Return the new graph's node for an old one that is needed as it was."""
        if node not in self.copies:
            raise CannotCut(
                f"{node.name!r} is needed, but nothing of what it is computed of is left"
            )
        return self.copies[node]

    def _take_module(self, node: fx.Node) -> None:
        if node.op == "call_module":
            self.parts.setdefault(str(node.target), copy.deepcopy(self.modules[str(node.target)]))

    # -- what is written anew ----------------------------------------------------------------

    def call(self, function: Callable[..., Any], *arguments: Any) -> fx.Node:
        return self.new.call_function(function, arguments)

    def call_module(self, name: str, module: nn.Module, source: fx.Node) -> fx.Node:
        """Call a module in the place of the old one of that name."""
        self.parts[name] = module
        return self.new.call_module(name, (source,))

    def keep(self, old: fx.Node, made: fx.Node | None) -> fx.Node | None:
        """Let later copies of nodes find what the old node became."""
        if made is not None:
            self.copies[old] = made
        return made

    def copy_onto_reduced_input(self, node: fx.Node) -> fx.Node | None:
        """Copy an operation onto the channels that are left of its input; None if none is left."""
        source = self.source(node)
        given = self.piece(source)
        if given.node is None:
            return None
        self._take_module(node)
        made = self.new.node_copy(node, lambda n: given.node if n is source else self._copied(n))
        return self.keep(node, made)

    def gathered(self, given: Piece, reads: Tensor) -> fx.Node:
        """Gather the channels that a layer reads, where it leaves some out."""
        assert given.node is not None
        if torch.equal(reads, given.lives):
            return given.node
        places = reads[given.lives].nonzero().flatten()
        return self.call(torch.index_select, given.node, 1, self.buffer(places))

    def scattered(self, piece: Piece, lives: Tensor, rank: int) -> fx.Node:
        """Put zeros into the channels that a tensor lacks."""
        assert piece.node is not None
        if torch.equal(piece.lives, lives):
            return piece.node
        padded = self.call(F.pad, piece.node, (0,) * 2 * (rank - 2) + (0, 1))
        own = piece.lives[lives]
        zero_channel = int(own.sum())
        places = torch.where(own, own.cumsum(0) - 1, zero_channel)
        return self.call(torch.index_select, padded, 1, self.buffer(places))

    def buffer(self, value: Tensor) -> fx.Node:
        """Give the new network a tensor that its forward reads."""
        name = f"_constant_{len(self.parts)}"
        self.parts[name] = value.to(self.reference.device)
        return self.new.get_attr(name)
