"""Cut dropped units out of a network: a smaller network that computes the same function.

The traced graph is written anew. Each tensor in it carries only the channels that live; what a dead
channel still emits (a normalisation's offset, a bias) is a constant, which is folded into the layers
that read it. Additions of tensors that lost different channels are scattered, inputs that a layer
does not read are left out by a gather, branches without any channel disappear.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.graph.count import live_units
from bench.graph.folding import (
    Constant,
    brought_by,
    counts_padding,
    double,
    is_uniform,
    like,
    normalised,
    same_everywhere,
    total,
)
from bench.graph.modes import evaluating
from bench.graph.operations import argument, is_sigmoid, writes_into
from bench.graph.rewriting import CannotCompact, Piece, Rewriter
from bench.graph.structure import Layout


def compact(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> nn.Module:
    """Return the network without its dead units, in eval mode's form; the original is left alone.

    Weights under masks must be zeroed before (`gates.apply_hard`). Units may be dead in their
    convolution only, with a normalisation that goes on emitting: what it emits is kept.

    Raises:
        CannotCompact: the network was not traced, or a dead channel is not the same everywhere.
    """
    if layout.graph is None:
        raise CannotCompact(f"no units to remove: {layout.why_no_sites}")
    live = live_units(layout, masks)
    with torch.no_grad(), evaluating(model):
        smaller = _Remover(model, layout, live).run()
    flags = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = flags.get(name, model.training)
    return smaller


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
        brought = brought_by(layer, module, given.constant)
        constant = total(brought) if is_uniform(module) else same_everywhere(brought)
        if module.bias is not None:
            constant = constant + double(module.bias)
        dead = torch.where(rows, 0.0, constant)
        if not bool(rows.any()):
            return Piece(None, rows, dead)
        reads = given.lives & self.live.inputs[layer.name]
        if given.node is None or not bool(reads.any()):
            made = self._nothing(node, module, rows, brought)
        elif layer.groups > 1:
            made = self._depthwise(node, module, given, rows, brought)
        else:
            made = self._mixing(node, module, self._gathered(given, reads), rows, reads, brought)
        return Piece(self._keep(node, made), rows, dead)

    def _mixing(
        self, node: fx.Node, module: nn.Conv2d | nn.Linear, source: fx.Node, rows: Tensor,
        reads: Tensor, brought: Tensor,
    ) -> fx.Node:  # fmt: skip
        """A layer of the rows and columns that are left, with what dead inputs bring folded in."""
        weight, name = module.weight.detach(), str(node.target)
        kernel = weight[rows][:, reads]
        offset = None if module.bias is None else module.bias.detach()[rows]
        if bool(brought[rows].isnan().any()):
            raise CannotCompact(f"{name!r} reads a dead channel that is not the same everywhere")
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
        self.parts[name] = like(module, kernel, offset)
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
            raise CannotCompact(f"{node.target!r}: a depthwise filter reads a dead channel")
        fed = given.lives & rows
        # A filter whose input is dead, but whose output must stay, reads zeros.
        source = self._scattered(Piece(self._gathered(given, fed), fed, given.constant), rows, 4)
        offset = None if module.bias is None else module.bias.detach()[rows]
        thin = like(module, module.weight.detach()[rows], offset, groups=int(rows.sum()))
        self.parts[str(node.target)] = thin
        return self.new.call_module(str(node.target), (source,))

    def _nothing(self, node: fx.Node, module: nn.Module, rows: Tensor, brought: Tensor) -> fx.Node:
        """A layer that nothing of the input reaches any more: it gives the same for every image."""
        if not isinstance(module, nn.Linear):
            raise CannotCompact(f"nothing of the network's input reaches {node.target!r}")
        if bool(brought[rows].isnan().any()):
            raise CannotCompact(
                f"{node.target!r} reads a dead channel that is not the same everywhere"
            )
        offset = total(brought)[rows].to(module.weight)
        if module.bias is not None:
            offset = offset + module.bias.detach()[rows]
        self.parts[str(node.target)] = Constant(offset)
        return self.new.call_module(str(node.target), (next(iter(self.new.nodes)),))

    def _norm_after(self, node: fx.Node) -> str:
        """The normalisation that alone reads a node, if there is one with a running mean."""
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
        return Piece(self._again(node, given), given.lives, constant)

    def _pass(self, node: fx.Node) -> Piece:
        given = self._argument(node)
        constant = given.constant
        if counts_padding(node, self.modules):
            constant = same_everywhere(constant)
        return Piece(self._again(node, given), given.lives, constant)

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
            raise CannotCompact(
                f"{node.name!r} adds a dead channel that is not the same everywhere"
            )
        if bool(constant[lives].any()):
            emitted = constant[lives].view(1, -1, *[1] * (rank - 2)).to(self.reference.dtype)
            made = self._call(torch.add, made, self._buffer(emitted))
        return Piece(self._keep(node, made), lives, torch.where(lives, 0.0, constant))

    def _mul(self, node: fx.Node) -> Piece:
        """One factor is whole; of it, the channels are taken that the other still has."""
        first, second = (self.pieces[a] for a in node.args[:2])  # type: ignore[index]
        if not bool(second.lives.all()):
            first, second = second, first
        lives = first.lives
        constant = same_everywhere(first.constant)  # the other factor is known only at run time
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
        inner = same_everywhere(given.constant) if any(pads[:4]) else given.constant
        constant = torch.cat([zero[0], inner, zero[1]])
        return Piece(self._keep(node, made), lives, constant)
