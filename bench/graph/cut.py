"""Cut dropped units out of a network: a smaller network that computes the same function.

The traced graph is written anew, operation by operation. Each tensor in it carries only the channels
that live; what a dead channel still emits (a normalisation's offset, a bias) is a constant, which is
folded into the layers that read it. Additions of tensors that lost different channels are scattered,
inputs that a layer does not read are left out by a gather, branches without any channel disappear.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from bench.graph.count import live_units
from bench.graph.eval_mode import evaluating
from bench.graph.nodes import writes_into
from bench.graph.operations.plain import Unknown
from bench.graph.rewriting import CannotCut, Rewriting
from bench.graph.structure import Layout


def compact(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> nn.Module:
    """Return the network without its dead units, in eval mode's form; the original is left alone.

    Weights under masks must be zeroed before (`hard_mask.apply_hard`). Units may be dead in their
    convolution only, with a normalisation that goes on emitting: what it emits is kept.

    Raises:
        CannotCut: the network was not traced, or a dead channel is not the same everywhere.
    """
    if layout.graph is None:
        raise CannotCut(f"no units to remove: {layout.why_no_sites}")
    with torch.no_grad(), evaluating(model):
        smaller = _network(_rewritten(model, layout, layout.graph.graph, masks))
    flags = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = flags.get(name, model.training)
    return smaller


def _rewritten(
    model: nn.Module, layout: Layout, old: fx.Graph, masks: Mapping[str, Tensor]
) -> Rewriting:
    """Visit the nodes of the old graph in order and write the new one."""
    layers = {layer.name: layer for layer in layout.layers}
    norms = frozenset(norm.name for norm in layout.norms)
    rewriting = Rewriting(model, layers, norms, layout.channels, live_units(layout, masks))
    for node in old.nodes:
        operation = Unknown(node) if node.op == "output" else layout.operations[node.name]
        rewriting.pieces[node] = operation.rewrite(rewriting)
        for source in node.all_input_nodes:
            if writes_into(node, source):  # whoever reads the source later reads this
                rewriting.pieces[source] = rewriting.pieces[node]
                if node in rewriting.copies:
                    rewriting.copies[source] = rewriting.copies[node]
    return rewriting


def _network(rewriting: Rewriting) -> fx.GraphModule:
    """Make a network of what was written, without the parts that nothing reads."""
    rewriting.new.lint()
    smaller = fx.GraphModule(rewriting.parts, rewriting.new)
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
