"""Sizes of a network under masks, layer by layer: units, weights, parameters, multiply-adds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from bench.graph.count import count, count_effective, live_units
from bench.graph.layers import Layer
from bench.graph.structure import Layout


@dataclass(frozen=True)
class LayerSize:
    """One layer before and after units that are dead are cut out.

    Attributes:
        units_kept, units: outputs, before and after dead units are propagated.
        density: share of weights that the masks keep among those between living units; 0 where
            nothing of the layer is left.
        params_dense, params_left, macs_dense, macs_left: weights and bias; multiply-adds for one
            image.
        why_not: why the layer's outputs are no units; empty where they are.
    """

    name: str
    units_kept: int
    units: int
    density: float
    params_dense: int
    params_left: int
    macs_dense: int
    macs_left: int
    why_not: str = ""


def per_layer(layout: Layout, masks: Mapping[str, Tensor]) -> list[LayerSize]:
    """Return every layer's sizes; parameters outside the layers make a last row of their own.

    The rows add up to `params_dense`, `params_effective`, `macs_dense` and `macs_effective`.
    """
    live = live_units(layout, masks)
    rows = [
        _size(layout, la, live.out[la.name], live.inputs[la.name], masks) for la in layout.layers
    ]
    dense = count(layout, {}).params_dense - sum(row.params_dense for row in rows)
    left = count_effective(layout, masks).params_kept - sum(row.params_left for row in rows)
    if dense or left:
        density = left / dense if dense else 0.0
        rows.append(LayerSize("(normalisation and others)", 0, 0, density, dense, left, 0, 0))
    return rows


def _size(
    layout: Layout, layer: Layer, outputs: Tensor, inputs: Tensor, masks: Mapping[str, Tensor]
) -> LayerSize:
    units, kernel = layer.weight_shape[0], math.prod(layer.weight_shape[2:])
    kept = int(outputs.sum())
    pairs = outputs[:, None] & layer.seen_by_outputs(inputs)
    between = int(pairs.sum()) * kernel
    mask = masks.get(f"{layer.name}.weight")
    left = between if mask is None else int(mask.cpu()[pairs].sum())
    weights = units * layer.weight_shape[1] * kernel
    return LayerSize(
        layer.name, kept, units,
        density=left / between if between else 0.0,
        params_dense=weights + units * layer.has_bias,
        params_left=left + kept * layer.has_bias,
        macs_dense=weights * layer.positions,
        macs_left=left * layer.positions,
        why_not=layout.refused.get(layer.name, ""),
    )  # fmt: skip
