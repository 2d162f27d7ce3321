"""Networks whose forward computes with numbers: tensors times and over a number, and sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from removal_checks import both, drawn, error, lively, masked_copy, silenced_copy
from torch import Tensor, nn

from bench.graph.cut import compact
from bench.graph.rewriting import CannotCut
from bench.graph.trace import layout_of

EXACT = 1e-12
Step = Callable[[Tensor], Tensor]


def doubled_in_place(x: Tensor) -> Tensor:
    x *= 2
    return x


def halved_in_place(x: Tensor) -> Tensor:
    x /= 2
    return x


SCALINGS: dict[str, Step] = {
    "x * 2": lambda x: x * 2, "2 * x": lambda x: 2 * x, "x / 3": lambda x: x / 3, "-x": lambda x: -x,
    "mul": lambda x: torch.mul(x, 0.5), "div": lambda x: x.div(1.5), "mul_": lambda x: x.mul_(-2),
    "x *= 2": doubled_in_place, "x /= 2": halved_in_place,
}  # fmt: skip
NOT_ZERO_AT_ZERO: dict[str, Step] = {
    "x + 1": lambda x: x + 1, "1 / x": lambda x: 1 / x, "x * nan": lambda x: x * float("nan"),
}  # fmt: skip


class Scaled(nn.Module):
    """A number between two convolutions, after a normalisation that emits constants."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.fc = nn.Conv2d(6, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(torch.relu(self.step(self.norm(self.first(x)))))
        made: Tensor = self.fc(torch.relu(self.second(x)).mean((2, 3)))
        return made


class Sized(nn.Module):
    """Flattens with a product of sizes, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(6 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        made: Tensor = self.fc(x.view(-1, x.size(1) * x.size(2) * x.size(3)) * 0.5)
        return made


class SizedByAnother(nn.Module):
    """One branch is flattened with the size of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(1, 4, 3)
        self.fc1, self.fc2 = nn.Linear(6 * 36, 3), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.relu(self.first(x)), torch.relu(self.second(x))
        n = first.size(0)
        made: Tensor = self.fc1(first.view(n, -1)) + self.fc2(second.view(n, -1))
        return made


class TimesItsBatch(SizedByAnother):
    """Multiplies by the size of a branch that nothing else reads."""

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.fc2(torch.relu(self.second(x)).flatten(1)) * self.first(x).size(0)
        return made


class Averaged(nn.Module):
    """Divides by a number of channels, or of something else, and views a map as it is."""

    def __init__(self, count: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.count = count
        self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 5, 3)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        y = torch.relu(self.second(x.view(x.size(0), x.size(1), 6, 6))) / self.count(x)
        made: Tensor = self.fc(y.sum((2, 3)))
        return made


def pictures() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("written", SCALINGS)
def test_units_before_a_factor_are_removed_exactly(written: str) -> None:
    torch.manual_seed(0)
    model = lively(Scaled(SCALINGS[written]))
    layout = layout_of(model, pictures()[:1])
    assert layout.layer("first").is_removable_output
    for seed in range(10):
        masks = drawn(layout, seed, inputs=False)
        for masked in (f(model, layout, masks) for f in (masked_copy, silenced_copy)):
            smaller = compact(masked, layout, masks)
            assert error(smaller, masked, pictures()) <= EXACT
            kept = int(layout.units(masks)["first"].sum())
            assert smaller.get_submodule("first").weight.shape[0] == kept


@pytest.mark.parametrize("written", NOT_ZERO_AT_ZERO)
def test_what_does_not_keep_zero_refuses_the_units_before_it(written: str) -> None:
    layout = layout_of(lively(Scaled(NOT_ZERO_AT_ZERO[written])), pictures()[:1])
    assert not layout.layer("first").is_removable_output
    assert layout.layer("second").is_removable_output


def test_sizes_that_are_multiplied_follow_the_smaller_network() -> None:
    torch.manual_seed(0)
    model = lively(Sized())
    layout = layout_of(model, pictures()[:1])
    assert [site.name for site in layout.sites if not site.is_input] == ["first"]
    for seed in range(10):
        masks = drawn(layout, seed)
        assert both(masked_copy(model, layout, masks), layout, masks, pictures()) <= EXACT
    gone = {"first": torch.zeros(6, dtype=torch.bool)}
    assert both(masked_copy(model, layout, gone), layout, gone, pictures()) <= EXACT


def test_a_branch_may_be_flattened_with_the_size_of_one_that_is_gone() -> None:
    torch.manual_seed(0)
    model = lively(SizedByAnother())
    layout = layout_of(model, pictures()[:1])
    for kept in (1, 0):
        masks = {"first": torch.arange(6) < kept}
        assert both(masked_copy(model, layout, masks), layout, masks, pictures()) <= EXACT


def test_a_number_from_a_branch_that_is_gone_is_refused_by_name() -> None:
    torch.manual_seed(0)
    model = lively(TimesItsBatch())
    layout = layout_of(model, pictures()[:1])
    masks = {"fc2.weight": torch.ones(3, 4 * 36, dtype=torch.bool)}
    masks["first.weight"] = torch.zeros(6, 1, 3, 3, dtype=torch.bool)
    masked = masked_copy(model, layout, masks)
    with pytest.raises(CannotCut, match="'size' is needed"):
        compact(masked, layout, masks)


COUNTS_CHANNELS: dict[str, Callable[[Tensor], Any]] = {
    "size": lambda x: x.size(1), "from behind": lambda x: x.size(-3), "shape": lambda x: x.shape[1],
    "whole size": lambda x: x.size()[1], "product": lambda x: 2 * x.shape[1] * x.shape[2],
    "quotient": lambda x: x.size(1) // 2, "numbers": lambda x: x.numel(),
}  # fmt: skip
COUNTS_SOMETHING_ELSE: dict[str, Callable[[Tensor], Any]] = {
    "batch": lambda x: x.size(0), "height": lambda x: x.shape[2], "width": lambda x: x.size(-1),
    "area": lambda x: x.size(2) * x.size()[3], "rank": lambda x: x.dim(),
}  # fmt: skip


@pytest.mark.parametrize("written", COUNTS_CHANNELS)
def test_units_that_are_counted_in_arithmetic_are_refused(written: str) -> None:
    torch.manual_seed(0)
    model = lively(Averaged(COUNTS_CHANNELS[written]))
    layout = layout_of(model, pictures()[:1])
    assert "how many channels" in layout.refused["first"]
    for seed in range(5):
        masks = drawn(layout, seed)
        assert both(masked_copy(model, layout, masks), layout, masks, pictures()) <= EXACT


@pytest.mark.parametrize("written", COUNTS_SOMETHING_ELSE)
def test_other_sizes_in_arithmetic_refuse_nothing(written: str) -> None:
    torch.manual_seed(0)
    model = lively(Averaged(COUNTS_SOMETHING_ELSE[written]))
    layout = layout_of(model, pictures()[:1])
    assert layout.layer("first").is_removable_output
    for seed in range(5):
        masks = drawn(layout, seed)
        assert both(masked_copy(model, layout, masks), layout, masks, pictures()) <= EXACT
