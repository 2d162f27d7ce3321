"""Parts of a split tensor that go through an operation that channels are not followed through."""

import torch
from removal_checks import masked_copy
from torch import Tensor, nn

from bench.graph.cut import compact
from bench.graph.trace import layout_of


class Parted(nn.Module):
    """Half of a convolution's channels are made one larger, which is not followed, and both halves joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.first(x)).chunk(2, 1)
        x = torch.cat([a + 1, b], 1)
        x = torch.relu(self.second(x)).mean((2, 3))
        made: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return made


def test_units_behind_a_part_that_is_not_followed_are_removed_exactly() -> None:
    torch.manual_seed(0)
    model, x = Parted().double().eval(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    masks = {"fc1": torch.tensor([True, False, True, False, True])}
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    with torch.no_grad():
        assert float((smaller(x) - masked(x)).abs().max()) <= 1e-12
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
