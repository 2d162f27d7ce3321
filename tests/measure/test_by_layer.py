"""The table of layers adds up to the numbers of the record."""

import pytest
import torch
from small_networks import Residual, lenet
from torch import nn

from bench.choices import Coupling
from bench.graph.count import count_effective
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.measure.by_layer import per_layer
from bench.measure.sizes import sizes


def adds_up(layout: Layout, masks: dict[str, torch.Tensor]) -> None:
    rows, expected = per_layer(layout, masks), count_effective(layout, masks)
    assert sum(row.params_left for row in rows) == expected.params_kept
    assert sum(row.params_dense for row in rows) == expected.params_dense
    assert sum(row.macs_left for row in rows) == expected.macs_kept
    assert sum(row.macs_dense for row in rows) == expected.macs_dense
    assert sizes(layout, masks).params_effective == expected.params_kept


@pytest.mark.parametrize("coupling", ["tied", "branch", "intersection", "internal"])
@pytest.mark.parametrize("build", [Residual, lenet])
def test_layers_add_up_under_unit_masks(build: type[nn.Module], coupling: Coupling) -> None:
    layout = layout_of(build(), torch.zeros(1, 1, 8, 8), coupling)
    draws = torch.Generator().manual_seed(3)
    masks = {s.name: torch.rand(s.size, generator=draws) < 0.6 for s in layout.sites}
    for mask in masks.values():
        mask[0] = True
    adds_up(layout, masks)
    adds_up(layout, {})
    assert all(row.density in (0.0, 1.0) for row in per_layer(layout, masks) if row.units)


def test_density_is_the_share_of_weights_between_living_units() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 3))
    layout = layout_of(network, torch.zeros(1, 1, 8, 8))
    mask = torch.ones(4, 64, dtype=torch.bool)
    mask[0] = False  # a unit that nothing enters
    mask[1, 16:] = False
    first, last = per_layer(layout, {"1.weight": mask})
    assert (first.units_kept, first.units) == (3, 4)
    assert first.density == pytest.approx((16 + 64 + 64) / (3 * 64))
    assert first.params_left == 16 + 64 + 64 + 3
    assert (last.density, last.params_left) == (1.0, 3 * 3 + 3)
    assert "outputs are the network's" in last.why_not
    adds_up(layout, {"1.weight": mask})
