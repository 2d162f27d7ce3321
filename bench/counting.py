"""How many parameters and multiply-adds masks leave: closed forms, no forward pass.

Three readings of one pair of masks, because papers differ: masked (what the masks say), kept (what
is left once dropped units are cut out of the network with all that touches them) and effective
(after units without inputs or outputs are propagated away as well).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.layout import Layer, Layout


@dataclass(frozen=True)
class Account:
    """Sizes of a network under masks.

    Attributes:
        params_dense: elements of all parameters.
        params_masked: weights the masks keep plus every parameter without a mask.
        params_kept: after cutting out dropped units; equals params_masked for weight masks.
        weights_dense, weights_kept: the same over convolution and linear weights only.
        macs_dense, macs_kept: multiply-adds of those weights for one image.
    """

    params_dense: int
    params_masked: int
    params_kept: int
    weights_dense: int
    weights_kept: int
    macs_dense: int
    macs_kept: int


def count(layout: Layout, masks: Mapping[str, Tensor]) -> Account:
    """Count under masks; a mask that is missing is all ones."""
    return _Network(layout, masks).account()


def count_effective(layout: Layout, masks: Mapping[str, Tensor]) -> Account:
    """Count after propagating dead units to a fixed point.

    A unit is dead when the masks drop it or when no kept weight enters it or leaves it. A network
    without sites has no units that could be dead.
    """
    network = _Network(layout, masks)
    while network.bury_dead_units():
        pass
    return network.account()


def output_side_share(layout: Layout, masks: Mapping[str, Tensor]) -> float:
    """EDropout's R: the share of parameters kept when only one side of a layer is counted.

    Filters count with all their inputs, linear layers by their input columns; what the next layer
    loses with a dropped filter is not counted (the released code's rule).
    """
    kept = dense = 0
    for layer in layout.layers:
        rows, columns = layer.weight_shape[0], layer.weight_shape[1]
        size = _numel(layer.weight_shape)
        own = masks.get(layer.name)
        alive_rows = rows if own is None else int(own.sum())
        dense += size + rows * int(layer.has_bias)
        if len(layer.weight_shape) == 4:
            kept += alive_rows * (size // rows + int(layer.has_bias))
        else:
            alive = input_columns(layer, masks)
            alive_columns = columns if alive is None else int(alive.sum())
            kept += rows * alive_columns + rows * int(layer.has_bias)
    return kept / dense


def input_columns(layer: Layer, masks: Mapping[str, Tensor]) -> Tensor | None:
    """Which inputs of a layer live under unit masks, (inputs,); None when nothing says otherwise."""
    own = masks.get(f"input:{layer.name}")
    units = None if layer.source is None else masks.get(layer.source)
    if units is None:
        return own
    spread = units.repeat_interleave(layer.columns_per_unit)
    return spread if own is None else spread & own


def reconnected(layout: Layout, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks with an input switched on wherever two of them cut the network together.

    A layer's inputs are cut by its own input mask and by the units of the layer before. Each keeps
    something of its own, but a flattened map may lose every input to one or the other: then the
    first input of the first living unit stays.
    """
    mended = dict(masks)
    for layer in layout.layers:
        own, alive = f"input:{layer.name}", input_columns(layer, masks)
        if own not in masks or alive is None or layer.source is None or bool(alive.any()):
            continue
        unit = int(masks[layer.source].nonzero()[0])
        mended[own] = masks[own].clone()
        mended[own][unit * layer.columns_per_unit] = True
    return mended


class _Network:
    """Masks seen layer by layer: which outputs and inputs live, which weights remain."""

    def __init__(self, layout: Layout, masks: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.masks = masks
        self.out: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        for layer in layout.layers:
            self.out[layer.name] = self._bits(layer.name, layer.weight_shape[0])
            self.inputs[layer.name] = self._bits(f"input:{layer.name}", layer.weight_shape[1])

    def _bits(self, name: str, size: int) -> Tensor:
        mask = self.masks.get(name)
        return torch.ones(size, dtype=torch.bool) if mask is None else mask.cpu().clone()

    @cached_property
    def _weight_masks(self) -> dict[str, Tensor]:
        names = [layer.name for layer in self.layout.layers]
        return {n: self.masks[f"{n}.weight"].cpu() for n in names if f"{n}.weight" in self.masks}

    def columns(self, layer: Layer) -> Tensor:
        """Which inputs of a layer live: its own input mask and its source's units."""
        alive = self.inputs[layer.name]
        if layer.source is not None:
            alive = alive & self.out[layer.source].repeat_interleave(layer.columns_per_unit)
        return alive

    def weights_left(self, layer: Layer, columns: Tensor) -> int:
        """How many weights of a layer remain between its living outputs and the given inputs."""
        mask = self._weight_masks.get(layer.name)
        rows = self.out[layer.name]
        if mask is None:
            return int(rows.sum()) * int(columns.sum()) * _numel(layer.weight_shape[2:])
        return int(mask[rows][:, columns].sum())

    def account(self) -> Account:
        layout = self.layout
        dense = sum(_numel(shape) for shape in layout.parameters.values())
        weights = {layer.name: _numel(layer.weight_shape) for layer in layout.layers}
        left = {la.name: self.weights_left(la, self.columns(la)) for la in layout.layers}
        # What the masks alone zero: a unit's own row or column, not what other layers read of it.
        masked = {la.name: self.weights_left(la, self.inputs[la.name]) for la in layout.layers}
        dead_rows = {la.name: int((~self.out[la.name]).sum()) for la in layout.layers}
        per_row = {la.name: int(la.has_bias) + self._norm_parameters(la) for la in layout.layers}
        rows_gone = sum(dead_rows[name] * per_row[name] for name in dead_rows)
        weights_dense, weights_kept = sum(weights.values()), sum(left.values())
        return Account(
            params_dense=dense,
            params_masked=dense - rows_gone - (weights_dense - sum(masked.values())),
            params_kept=dense - rows_gone - (weights_dense - weights_kept),
            weights_dense=weights_dense,
            weights_kept=weights_kept,
            macs_dense=sum(layer.positions * weights[layer.name] for layer in layout.layers),
            macs_kept=sum(layer.positions * left[layer.name] for layer in layout.layers),
        )

    def _norm_parameters(self, layer: Layer) -> int:
        """Elements of the BatchNorm affine that one unit owns: 2, or 0 without an affine."""
        if layer.norm is None:
            return 0
        affine = (f"{layer.norm}.weight", f"{layer.norm}.bias")
        return sum(name in self.layout.parameters for name in affine)

    def bury_dead_units(self) -> bool:
        """Mark units without incoming or outgoing weights as dead; True if any was found."""
        if not self.layout.sites:
            return False
        found = False
        for layer in self.layout.layers:
            live = self._live_weights(layer)
            if layer.is_prunable_output:
                found |= _clear_where(self.out[layer.name], ~live.any(dim=1))
            used = live.any(dim=0)
            found |= _clear_where(self.inputs[layer.name], ~used)
            if layer.source is not None:
                per_unit = used.view(-1, layer.columns_per_unit).any(dim=1)
                found |= _clear_where(self.out[layer.source], ~per_unit)
        return found

    def _live_weights(self, layer: Layer) -> Tensor:
        """Which (output, input) pairs still have a weight between live ends: (rows, columns)."""
        live = self.out[layer.name][:, None] & self.columns(layer)[None, :]
        mask = self._weight_masks.get(layer.name)
        if mask is not None:
            live = live & (mask.flatten(2).any(dim=2) if mask.dim() > 2 else mask)
        return live


def _clear_where(bits: Tensor, dead: Tensor) -> bool:
    if not bool((bits & dead).any()):
        return False
    bits &= ~dead
    return True


def _numel(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
