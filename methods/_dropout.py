"""Other dropout than the network's own, for the length of a training."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.modules.dropout import _DropoutNd

from bench.api import Trial


@contextmanager
def without_own_dropout(trial: Trial, wanted: bool) -> Iterator[None]:
    """Switch off the network's own dropout; where it is not wanted, nothing is changed."""
    own = {m: m.p for m in trial.model.modules() if wanted and isinstance(m, _DropoutNd)}
    for module in own:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in own.items():
            module.p = p


def hidden_dropout(trial: Trial, module: str, x: Tensor, keep_prob: float) -> Tensor:
    """Drop out what a layer reads, while the network is trained."""
    return dropout(x, 1 - keep_prob, trial.model.get_submodule(module).training)


def reading_linear_units(trial: Trial) -> tuple[str, ...]:
    """Return the linear layers all of whose inputs are outputs of linear layers."""
    linear = {la.name for la in trial.layout.layers if not la.is_convolution}
    found = []
    for layer in trial.layout.layers:
        sources = {name for segment in layer.inputs for name, _ in segment.sources}
        if layer.name in linear and sources and sources <= linear:
            found.append(layer.name)
    return tuple(found)


@contextmanager
def adjusted_dropout(trial: Trial, wanted: bool) -> Iterator[None]:
    """Lower the network's own dropout to what its pruned layers still need.

    D_r = D_o sqrt(C_r / C_o), of the connections C left and there were in the layer that the dropped
    units come from (Han et al. 2015, eq. 2).
    """
    found = _dropouts_after_layers(trial) if wanted else {}
    own = {module: module.p for module in found}
    for module, layers in found.items():  # one module may stand behind several layers
        masks = torch.cat([trial.masks[f"{layer}.weight"].flatten() for layer in layers])
        module.p *= math.sqrt(float(masks.double().mean()))
    try:
        yield
    finally:
        for module, p in own.items():
            module.p = p


def _dropouts_after_layers(trial: Trial) -> dict[nn.Dropout, list[str]]:
    """Return each Dropout module with the layers whose outputs it drops."""
    layout = trial.layout
    found: dict[nn.Dropout, list[str]] = {}
    for node in layout.graph.graph.nodes if layout.graph is not None else ():
        module = trial.model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, nn.Dropout):
            continue
        source = node
        while source.all_input_nodes and not layout.calls_layer(source.name):
            source = source.all_input_nodes[0]
        if layout.calls_layer(source.name):
            found.setdefault(module, []).append(str(source.target))
    return found
