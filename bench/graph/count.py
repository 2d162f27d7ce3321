"""Count the parameters and multiply-adds that masks leave: closed forms, no forward pass.

Three readings of one pair of masks, because papers differ: masked (what the masks say), kept (what
is left once dropped units are cut out of the network with all that touches them) and effective
(after units without inputs or outputs are propagated away as well).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.graph.channels import alive, note_use
from bench.graph.layers import Layer, LiveUnits, Norm
from bench.graph.structure import Layout


@dataclass(frozen=True)
class ParameterCount:
    """Sizes of a network under masks.

    Attributes:
        params_dense: elements of all parameters.
        params_masked: weights the masks keep plus every parameter without a mask.
        params_kept: after cutting out dropped units; equals params_masked for weight masks.
        weights_dense, weights_masked, weights_kept: the same over convolution and linear weights only.
        macs_dense, macs_kept: multiply-adds of those weights for one image.
    """

    params_dense: int
    params_masked: int
    params_kept: int
    weights_dense: int
    weights_masked: int
    weights_kept: int
    macs_dense: int
    macs_kept: int


def count(layout: Layout, masks: Mapping[str, Tensor]) -> ParameterCount:
    """Count under masks; a mask that is missing is all ones."""
    return _Network(layout, masks).account()


def count_effective(layout: Layout, masks: Mapping[str, Tensor]) -> ParameterCount:
    """Count after propagating dead units to a fixed point.

    A unit is dead when the masks drop it or when no kept weight enters it or leaves it. A network
    without sites has no units that could be dead.
    """
    return _propagate_dead_units(layout, masks).account()


def live_units(layout: Layout, masks: Mapping[str, Tensor]) -> LiveUnits:
    """Return which outputs and inputs of each layer live, on the CPU."""
    network = _propagate_dead_units(layout, masks)
    return LiveUnits(network.out, network.inputs)


def _propagate_dead_units(layout: Layout, masks: Mapping[str, Tensor]) -> "_Network":
    """Propagate dead units until no other one is found."""
    network = _Network(layout, masks)
    while network.drop_dead_units():
        pass
    return network


def output_side_share(layout: Layout, masks: Mapping[str, Tensor]) -> float:
    """Return EDropout's R: the share of parameters kept when only one side of a layer is counted.

    Filters count with all their inputs, linear layers by their input columns; what the next layer
    loses with a dropped filter is not counted (the released code's rule).
    """
    kept = dense = 0
    units = layout.units(masks)
    for layer in layout.layers:
        rows = layer.weight_shape[0]
        size = math.prod(layer.weight_shape)
        dense += size + rows * int(layer.has_bias)
        if layer.is_convolution:
            alive_rows = int(units[layer.name].sum()) if layer.name in units else rows
            kept += alive_rows * (size // rows + int(layer.has_bias))
        else:
            alive = layout.input_columns(layer, masks)
            alive_columns = layer.n_inputs if alive is None else int(alive.sum())
            kept += rows * alive_columns + rows * int(layer.has_bias)
    return kept / dense


def reconnected(layout: Layout, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks with an input switched on wherever two of them cut the network together.

    A layer's inputs are cut by its own input mask and by the units of the layers before. Each keeps
    something of its own, but a flattened map may lose every input to one or the other: then the
    first input of the first living unit stays.
    """
    mended = dict(masks)
    for layer in layout.layers:
        own = f"input:{layer.name}"
        fed = alive(layer.inputs, layout.units(masks)) if own in masks else None
        if fed is not None and bool(fed.any()) and not bool((fed & masks[own]).any()):
            mended[own] = masks[own].clone()
            mended[own][int(fed.nonzero()[0])] = True
    return mended


class _Network:
    """Masks seen layer by layer: which outputs and inputs live, which weights remain."""

    def __init__(self, layout: Layout, masks: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.masks = masks
        units = layout.units(masks)
        self.out: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        for layer in layout.layers:
            self.out[layer.name] = _bits(units.get(layer.name), layer.weight_shape[0])
            own = masks.get(f"input:{layer.name}")
            self.inputs[layer.name] = _bits(own, layer.n_inputs)
        self.masked_out = {name: bits.clone() for name, bits in self.out.items()}
        for stream in layout.streams:  # a term keeps its place while any other term lives
            lives = alive(stream, self.masked_out)
            if lives is not None:
                note_use(stream, lives, self.out)

    @cached_property
    def _weight_masks(self) -> dict[str, Tensor]:
        names = [layer.name for layer in self.layout.layers]
        return {n: self.masks[f"{n}.weight"].cpu() for n in names if f"{n}.weight" in self.masks}

    def columns(self, layer: Layer) -> Tensor:
        """Return the living inputs of a layer: by its own input mask and the units that feed it."""
        fed = alive(layer.inputs, self.out)
        own = self.inputs[layer.name]
        return own if fed is None else own & fed

    def weights_left(self, layer: Layer, columns: Tensor, rows: Tensor) -> int:
        """Count the weights that masks keep between the given outputs and inputs."""
        mask = self._weight_masks.get(layer.name)
        if mask is None and layer.groups == 1:
            return int(rows.sum()) * int(columns.sum()) * math.prod(layer.weight_shape[2:])
        pairs = rows[:, None] & layer.seen_by_outputs(columns)
        if mask is None:
            return int(pairs.sum()) * math.prod(layer.weight_shape[2:])
        return int(mask[pairs].sum())

    def account(self) -> ParameterCount:
        layout = self.layout
        dense = sum(math.prod(shape) for shape in layout.parameters.values())
        weights = {layer.name: math.prod(layer.weight_shape) for layer in layout.layers}
        left = {
            la.name: self.weights_left(la, self.columns(la), self.out[la.name])
            for la in layout.layers
        }
        # What the masks alone zero: a unit's own row or column, not what other layers read of it.
        masked = {
            la.name: self.weights_left(la, self.inputs[la.name], self.masked_out[la.name])
            for la in layout.layers
        }
        weights_dense, weights_kept = sum(weights.values()), sum(left.values())
        zeroed = self._offsets_gone(self.masked_out) + weights_dense - sum(masked.values())
        gone = self._offsets_gone(self.out) + weights_dense - weights_kept
        return ParameterCount(
            params_dense=dense,
            params_masked=dense - zeroed,
            params_kept=dense - gone,
            weights_dense=weights_dense,
            weights_masked=sum(masked.values()),
            weights_kept=weights_kept,
            macs_dense=sum(layer.positions * weights[layer.name] for layer in layout.layers),
            macs_kept=sum(layer.positions * left[layer.name] for layer in layout.layers),
        )

    def _offsets_gone(self, out: dict[str, Tensor]) -> int:
        """Count the biases of dead outputs and the affine parameters of dead channels."""
        biases = sum(int((~out[la.name]).sum()) for la in self.layout.layers if la.has_bias)
        return biases + sum(_dead_channels(n, out) * len(n.parameters) for n in self.layout.norms)

    def drop_dead_units(self) -> bool:
        """Mark units without incoming or outgoing weights as dead; True if any was found."""
        if not self.layout.sites:
            return False
        found = False
        needed = {la.name: torch.zeros_like(self.out[la.name]) for la in self.layout.layers}
        for layer in self.layout.layers:
            live = self._live_weights(layer)
            if layer.is_removable_output:
                found |= _clear_where(self.out[layer.name], ~live.any(dim=1))
            used = _columns_used(layer, live)
            found |= _clear_where(self.inputs[layer.name], ~used)
            note_use(layer.inputs, used, needed)
        for layer in self.layout.layers:
            if layer.is_removable_output:
                found |= _clear_where(self.out[layer.name], ~needed[layer.name])
        return found

    def _live_weights(self, layer: Layer) -> Tensor:
        """Return the (output, input of its group) pairs with a weight between live ends."""
        live = self.out[layer.name][:, None] & layer.seen_by_outputs(self.columns(layer))
        mask = self._weight_masks.get(layer.name)
        if mask is not None:
            live = live & (mask.flatten(2).any(dim=2) if mask.dim() > 2 else mask)
        return live


def _dead_channels(norm: Norm, out: dict[str, Tensor]) -> int:
    lives = alive(norm.channels, out)
    return 0 if lives is None else int((~lives).sum())


def _bits(mask: Tensor | None, size: int) -> Tensor:
    return torch.ones(size, dtype=torch.bool) if mask is None else mask.cpu().clone()


def _columns_used(layer: Layer, live: Tensor) -> Tensor:
    """Return the inputs (inputs,) that some live weight reads."""
    return live.view(layer.groups, -1, layer.weight_shape[1]).any(dim=1).flatten()


def _clear_where(bits: Tensor, dead: Tensor) -> bool:
    if not bool((bits & dead).any()):
        return False
    bits &= ~dead
    return True
