"""Sizes of a network under masks, all from closed forms: parameters, rates, multiply-adds, live units."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.graph.count import count, count_effective, live_units, output_side_share
from bench.graph.layers import LiveUnits
from bench.graph.structure import Layout
from bench.graph.trace import layers_reading_input
from bench.store.records import LiveCount, SizeColumns, SupportColumns, UnitCount


def sizes(layout: Layout, masks: Mapping[str, Tensor]) -> SizeColumns:
    """Return parameters, rates and multiply-adds under masks, all from closed forms."""
    plain, effective = count(layout, masks), count_effective(layout, masks)
    units = {s.name: s.size for s in layout.sites if not s.is_input or s.name in masks}
    kept = {name: int(masks[name].sum()) if name in masks else n for name, n in units.items()}
    removed = sum(units.values()) - sum(kept.values())
    return SizeColumns(
        params_dense=plain.params_dense,
        params_masked=plain.params_masked,
        params_kept=plain.params_kept,
        params_effective=effective.params_kept,
        density=plain.weights_masked / plain.weights_dense,
        pruning_rate=1 - effective.params_kept / plain.params_dense,
        pruning_rate_prunable=1 - effective.weights_kept / plain.weights_dense,
        compression=plain.params_dense / effective.params_kept,
        units_removed=removed,
        units_kept_share=1 - removed / max(1, sum(units.values())),
        kept_output_side=output_side_share(layout, masks),
        macs_dense=plain.macs_dense,
        macs_effective=effective.macs_kept,
        speedup_theoretical=plain.macs_dense / max(1, effective.macs_kept),
        units={name: UnitCount(kept=kept[name], of=n) for name, n in units.items()},
        live=live(layout, masks),
    )


def live(layout: Layout, masks: Mapping[str, Tensor]) -> dict[str, LiveCount]:
    """Return how many units of each layer are left once dead ones are propagated; inputs first.

    A unit lives when kept weights enter it and leave it. The network's inputs are pixels where its
    first layer is linear, and channels where it is a convolution. `place` is a layer's in order: JSON
    sorts names.
    """
    found = live_units(layout, masks)
    inputs = _inputs_read(layout, found)
    counts = {} if inputs is None else {"input": inputs}
    counts |= {layer.name: found.out[layer.name] for layer in layout.layers}
    return {
        name: LiveCount(live=int(bits.sum()), of=len(bits), place=place)
        for place, (name, bits) in enumerate(counts.items())
    }


def support(layout: Layout, masks: Mapping[str, Tensor], relevant: Tensor) -> SupportColumns:
    """Hold the inputs that a network still reads against those that matter, boolean (inputs,)."""
    read = _inputs_read(layout, live_units(layout, masks))
    if read is None or len(read) != len(relevant):
        return SupportColumns()
    return SupportColumns(
        support_true=int(relevant.sum()),
        support_read=int(read.sum()),
        support_missed=int((relevant & ~read).sum()),
        support_exact=bool(torch.equal(relevant, read)),
    )


def _inputs_read(layout: Layout, found: LiveUnits) -> Tensor | None:
    """Return the network's inputs that its first layers read; None where something else reads them."""
    names = layers_reading_input(layout)
    widths = {len(found.inputs[name]) for name in names}
    if len(widths) != 1:
        return None
    return torch.stack([found.inputs[name] for name in names]).any(0)
