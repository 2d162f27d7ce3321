"""Cut dropped units out of a network: a smaller network that computes the same function.

The traced graph is written anew. Each tensor in it carries only the channels that live; what a dead
channel still emits (a normalisation's offset, a bias) is a constant, which is folded into the layers
that read it. Additions of tensors that lost different channels are scattered, inputs that a layer
does not read are left out by a gather, branches without any channel disappear.
"""

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.graph.count import LiveUnits, live_units
from bench.graph.eval_mode import evaluating
from bench.graph.folding import (
    Constant,
    counts_padding,
    dead_input_contribution,
    double,
    is_uniform,
    layer_with_weights,
    nan_if_padding_breaks,
    normalised,
    total,
)
from bench.graph.operations import argument, is_sigmoid, split_sizes, writes_into
from bench.graph.structure import Layout


class CannotCut(BenchError):
    """A dropped unit whose removal would change what the network computes."""

    exit_code = 1


def compact(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> nn.Module:
    """Return the network without its dead units, in eval mode's form; the original is left alone.

    Weights under masks must be zeroed before (`hard_mask.apply_hard`). Units may be dead in their
    convolution only, with a normalisation that goes on emitting: what it emits is kept.

    Raises:
        CannotCut: the network was not traced, or a dead channel is not the same everywhere.
    """
    if layout.graph is None:
        raise CannotCut(f"no units to remove: {layout.why_no_sites}")
    live = live_units(layout, masks)
    with torch.no_grad(), evaluating(model):
        smaller = _Remover(model, layout, live).run()
    flags = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = flags.get(name, model.training)
    return smaller


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

    def __init__(self, model: nn.Module, layout: Layout, live: LiveUnits) -> None:
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
        """Copy an operation that channels are not followed through; it must get all of them."""
        for source in node.all_input_nodes:
            piece = self.pieces.get(source)
            if isinstance(piece, Piece) and not bool(piece.lives.all()):
                raise CannotCut(f"{node.name!r} needs all channels of {source.name!r}")
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
        """Return the new graph's node for an old one that is needed as it was."""
        if node not in self.copies:
            raise CannotCut(
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

    def _copy_onto_reduced_input(self, node: fx.Node, given: Piece) -> fx.Node | None:
        """Copy an operation onto the channels that are left of its input."""
        if given.node is None:
            return None
        if node.op == "call_module":
            self.parts.setdefault(str(node.target), copy.deepcopy(self.modules[str(node.target)]))
        source = node.all_input_nodes[0]
        made = self.new.node_copy(node, lambda n: given.node if n is source else self._copied(n))
        return self._keep(node, made)

    def _applied(self, node: fx.Node, constant: Tensor) -> Tensor:
        """Return an activation's values of constants."""
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
        """Gather the channels that a layer reads, where it leaves some out."""
        assert given.node is not None
        if torch.equal(reads, given.lives):
            return given.node
        places = reads[given.lives].nonzero().flatten()
        return self._call(torch.index_select, given.node, 1, self._buffer(places))

    def _scattered(self, piece: Piece, lives: Tensor, rank: int) -> fx.Node:
        """Put zeros into the channels that a tensor lacks."""
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


class _Remover(Rewriter):
    """Visits the nodes of the old graph in order and builds the new one."""

    def run(self) -> nn.Module:
        for node in self.old.graph.nodes:
            role = "output" if node.op == "output" else self.layout.roles[node.name]
            self.pieces[node] = getattr(self, f"_{role}")(node)
            for source in node.all_input_nodes:
                if writes_into(node, source):  # whoever reads the source later reads this
                    self.pieces[source] = self.pieces[node]
                    if node in self.copies:
                        self.copies[source] = self.copies[node]
        self.new.lint()
        smaller = fx.GraphModule(self.parts, self.new)
        smaller.graph.eliminate_dead_code()
        smaller.delete_all_unused_submodules()
        used = {str(n.target) for n in smaller.graph.nodes if n.op == "get_attr"}
        for name in [n for n, _ in smaller.named_buffers(recurse=False) if n not in used]:
            delattr(smaller, name)
        smaller.recompile()
        for module in smaller.modules():  # copies carry the hooks of what they were copied from
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        return smaller

    # -- layers ------------------------------------------------------------------------------

    def _layer(self, node: fx.Node) -> Piece:
        layer, module = self.layers[str(node.target)], self.modules[str(node.target)]
        assert isinstance(module, nn.Conv2d | nn.Linear)
        given = self._argument(node)
        if layer.groups > 1 and layer.weight_shape[1] > 1:
            return self._opaque(node)  # type: ignore[no-any-return]
        rows = self.live.out[layer.name]
        brought = dead_input_contribution(layer, module, given.constant)
        constant = total(brought) if is_uniform(module) else nan_if_padding_breaks(brought)
        if module.bias is not None:
            constant = constant + double(module.bias)
        dead = torch.where(rows, 0.0, constant)
        if not bool(rows.any()):
            return Piece(None, rows, dead)
        reads = given.lives & self.live.inputs[layer.name]
        if given.node is None or not bool(reads.any()):
            made = self._constant_layer(node, module, rows, brought)
        elif layer.groups > 1:
            made = self._depthwise(node, module, given, rows, brought)
        else:
            made = self._mixing(node, module, self._gathered(given, reads), rows, reads, brought)
        return Piece(self._keep(node, made), rows, dead)

    def _mixing(
        self, node: fx.Node, module: nn.Conv2d | nn.Linear, source: fx.Node, rows: Tensor,
        reads: Tensor, brought: Tensor,
    ) -> fx.Node:  # fmt: skip
        """Make a layer of the rows and columns that are left, with the constants of dead inputs folded in."""
        weight, name = module.weight.detach(), str(node.target)
        kernel = weight[rows][:, reads]
        offset = None if module.bias is None else module.bias.detach()[rows]
        if bool(brought[rows].isnan().any()):
            raise CannotCut(f"{name!r} reads a dead channel that is not the same everywhere")
        folded: Tensor | None = total(brought)[rows].to(weight)
        if folded is None or not bool(folded.any()):
            folded = None
        elif not is_uniform(module):
            # A channel of ones carries the constants, so that they end where the padding begins.
            source = self._call(F.pad, source, (0, 0, 0, 0, 0, 1), "constant", 1.0)
            kernel = torch.cat([kernel, brought[rows].to(weight).unsqueeze(1)], 1)
            folded = None
        elif offset is not None:
            offset, folded = offset + folded, None
        elif norm := self._norm_after(node):
            self.shifts[norm], folded = folded, None
        self.parts[name] = layer_with_weights(module, kernel, offset)
        made = self.new.call_module(name, (source,))
        if folded is not None:  # a constant, where the layer had no parameter to take it up
            shape = (1, -1, *[1] * (weight.dim() - 2))
            made = self._call(torch.add, made, self._buffer(folded.view(shape)))
        return made

    def _depthwise(
        self,
        node: fx.Node,
        module: nn.Conv2d | nn.Linear,
        given: Piece,
        rows: Tensor,
        brought: Tensor,
    ) -> fx.Node:
        if bool((total(brought)[rows] != 0).any()):
            raise CannotCut(f"{node.target!r}: a depthwise filter reads a dead channel")
        fed = given.lives & rows
        # A filter whose input is dead, but whose output must stay, reads zeros.
        source = self._scattered(Piece(self._gathered(given, fed), fed, given.constant), rows, 4)
        offset = None if module.bias is None else module.bias.detach()[rows]
        thin = layer_with_weights(
            module, module.weight.detach()[rows], offset, groups=int(rows.sum())
        )
        self.parts[str(node.target)] = thin
        return self.new.call_module(str(node.target), (source,))

    def _constant_layer(
        self, node: fx.Node, module: nn.Module, rows: Tensor, brought: Tensor
    ) -> fx.Node:
        """Make the constant that is left of a layer whose inputs are all dead."""
        if not isinstance(module, nn.Linear):
            raise CannotCut(f"nothing of the network's input reaches {node.target!r}")
        if bool(brought[rows].isnan().any()):
            raise CannotCut(f"{node.target!r} reads a dead channel that is not the same everywhere")
        offset = total(brought)[rows].to(module.weight)
        if module.bias is not None:
            offset = offset + module.bias.detach()[rows]
        self.parts[str(node.target)] = Constant(offset)
        return self.new.call_module(str(node.target), (next(iter(self.new.nodes)),))

    def _norm_after(self, node: fx.Node) -> str:
        """Return the normalisation that alone reads a node, if there is one with a running mean."""
        user = next(iter(node.users))
        if len(node.users) == 1 and self.layout.roles.get(user.name) == "norm":
            name = str(user.target)
            return name if getattr(self.modules[name], "running_mean", None) is not None else ""
        return ""

    def _norm(self, node: fx.Node) -> Piece:
        given, module = self._argument(node), self.modules[str(node.target)]
        thin = copy.deepcopy(module)
        constant = normalised(module, given.lives, given.constant)
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, name, None)
            if value is not None:
                short = value.detach()[given.lives.to(value.device)].clone()
                if isinstance(value, nn.Parameter):
                    short = nn.Parameter(short, value.requires_grad)
                setattr(thin, name, short)
        if str(node.target) in self.shifts:
            thin.running_mean -= self.shifts[str(node.target)]
        thin.num_features = int(given.lives.sum())
        if given.node is None:
            return Piece(None, given.lives, constant)
        self.parts[str(node.target)] = thin
        made = self.new.call_module(str(node.target), (given.node,))
        return Piece(self._keep(node, made), given.lives, constant)

    # -- operations --------------------------------------------------------------------------

    def _activation(self, node: fx.Node) -> Piece:
        given = self._argument(node)
        constant = given.constant
        if given.has_constants or is_sigmoid(node, self.modules):
            constant = torch.where(given.lives, 0.0, self._applied(node, given.constant))
        return Piece(self._copy_onto_reduced_input(node, given), given.lives, constant)

    def _pass(self, node: fx.Node) -> Piece:
        given = self._argument(node)
        constant = given.constant
        if counts_padding(node, self.modules):
            constant = nan_if_padding_breaks(constant)
        return Piece(self._copy_onto_reduced_input(node, given), given.lives, constant)

    def _mean(self, node: fx.Node) -> Piece:
        return self._pass(node)

    def _reshape(self, node: fx.Node) -> Piece:
        given = self._argument(node)
        if node.meta["shape"] == node.all_input_nodes[0].meta["shape"]:  # a view of the same
            self._keep(node, given.node)
            return given
        channels = self.layout.channels[node.name]
        times = sum(s.width for s in channels) // len(given.lives)
        made = None if given.node is None else self._call(torch.flatten, given.node, 1)
        lives = given.lives.repeat_interleave(times)
        return Piece(self._keep(node, made), lives, given.constant.repeat_interleave(times))

    def _add(self, node: fx.Node) -> Piece:
        first, second = (self.pieces[a] for a in node.args[:2])  # type: ignore[index]
        lives = first.lives | second.lives
        constant = first.constant + second.constant
        rank = len(node.meta["shape"])
        pieces = [piece for piece in (first, second) if piece.node is not None]
        terms = [self._scattered(piece, lives, rank) for piece in pieces]
        if not terms:
            return Piece(None, lives, constant)
        made = terms[0] if len(terms) == 1 else self._call(torch.add, *terms)
        if bool(constant[lives].isnan().any()):
            raise CannotCut(f"{node.name!r} adds a dead channel that is not the same everywhere")
        if bool(constant[lives].any()):
            emitted = constant[lives].view(1, -1, *[1] * (rank - 2)).to(self.reference.dtype)
            made = self._call(torch.add, made, self._buffer(emitted))
        return Piece(self._keep(node, made), lives, torch.where(lives, 0.0, constant))

    def _mul(self, node: fx.Node) -> Piece:
        """Multiply by the channels of the whole factor that the other still has."""
        first, second = (self.pieces[a] for a in node.args[:2])  # type: ignore[index]
        if not bool(second.lives.all()):
            first, second = second, first
        lives = first.lives
        constant = nan_if_padding_breaks(
            first.constant
        )  # the other factor is known only at run time
        if first.node is None:
            return Piece(None, lives, constant)
        made = self._call(torch.mul, first.node, self._gathered(second, lives))
        return Piece(self._keep(node, made), lives, constant)

    def _cat(self, node: fx.Node) -> Piece:
        listed = argument(node, 0, "tensors")
        joins = isinstance(listed, fx.Node)
        pieces = list(self.pieces[listed]) if joins else [self.pieces[part] for part in listed]
        lives = torch.cat([p.lives for p in pieces])
        constant = torch.cat([p.constant for p in pieces])
        left = [p.node for p in pieces if p.node is not None]
        made = self._call(torch.cat, left, 1) if len(left) > 1 else next(iter(left), None)
        return Piece(self._keep(node, made), lives, constant)

    def _pad(self, node: fx.Node) -> Piece:
        given = self._argument(node)
        pads: Any = node.args[1]
        before, after = (pads[4], pads[5]) if len(pads) == 6 else (0, 0)
        made = given.node
        if any(pads[:4]):
            made = None if made is None else self._call(F.pad, made, tuple(pads[:4]))
        none = [torch.zeros(n, dtype=torch.bool) for n in (before, after)]
        zero = [torch.zeros(n).double() for n in (before, after)]
        lives = torch.cat([none[0], given.lives, none[1]])
        inner = nan_if_padding_breaks(given.constant) if any(pads[:4]) else given.constant
        constant = torch.cat([zero[0], inner, zero[1]])
        return Piece(self._keep(node, made), lives, constant)
