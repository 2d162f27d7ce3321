"""Dead units under weight masks: counted as alive on both sides, removed exactly, sigmoids included."""

from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from removal_checks import elements, error, lively, masked_copy, multiply_adds
from torch import Tensor, nn
from torch.nn import functional as F

from bench.graph.count import count_effective, live_units
from bench.graph.cut import compact
from bench.graph.rewriting import CannotCut
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.measure.sizes import live, sizes
from bench.models.dropneuron import dropneuron_autoencoder

EXACT = 1e-12
steady = settings(deadline=None, derandomize=True, database=None, max_examples=40)
SIZES = (6, 5, 4, 3)
ACTS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "none": nn.Identity,
}  # fmt: skip


def chain(acts: list[str], bias: bool = True, seed: int = 0) -> nn.Sequential:
    """Flattened 1x2x3 pictures, two hidden layers, three outputs; biases far from 0."""
    torch.manual_seed(seed)
    modules: list[nn.Module] = [nn.Flatten()]
    for i, act in enumerate([*acts, "none"]):
        modules += [nn.Linear(SIZES[i], SIZES[i + 1], bias=bias), ACTS[act]()]
    model = nn.Sequential(*modules[:-1])
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return lively(model)  # type: ignore[return-value]


def pictures(n: int = 5) -> Tensor:
    return torch.randn(n, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def drawn_masks(layout: Layout, seed: int, keep: list[float]) -> dict[str, Tensor]:
    """Weights kept at random, whole rows and columns gone now and then; one is left at least."""
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for (name, shape), share in zip(layout.weights.items(), keep, strict=True):
        mask = torch.rand(shape, generator=g) < share
        mask[torch.rand(shape[0], generator=g) < 0.25] = False
        mask[:, torch.rand(shape[1], generator=g) < 0.25] = False
        if not bool(mask.any()):
            mask.view(-1)[int(torch.randint(mask.numel(), (), generator=g))] = True
        masks[name] = mask
    return masks


def closure(masks: Mapping[str, Tensor], layers: list[str]) -> tuple[list[set[int]], set[int]]:
    """Living outputs of each layer of a chain and living inputs: on a path from input to output.

    A unit lives when some kept path from an input reaches it and some kept path leads on to an output:
    a plain search, forwards and backwards. The last layer's outputs stay.
    """
    weights = [masks[f"{name}.weight"].tolist() for name in layers]
    reached: list[set[int]] = [set(range(len(weights[0][0])))]
    for rows in weights:
        reached.append({o for o, row in enumerate(rows) if any(row[i] for i in reached[-1])})
    needed: list[set[int]] = [set(range(len(weights[-1])))]
    for rows in reversed(weights):
        needed.insert(0, {i for i in range(len(rows[0])) if any(rows[o][i] for o in needed[0])})
    both = [a & b for a, b in zip(reached, needed, strict=True)]
    both[-1] = set(range(len(weights[-1])))
    return both[1:], both[0]


def check(model: nn.Module, masks: dict[str, Tensor], x: Tensor) -> None:
    layout = layout_of(model, x[:1])
    layers = [layer.name for layer in layout.layers]
    out, inputs = closure(masks, layers)
    found = live_units(layout, masks)
    for name, expected in zip(layers, out, strict=True):
        assert set(found.out[name].nonzero().flatten().tolist()) == expected, name
    first = set(found.inputs[layers[0]].nonzero().flatten().tolist())
    assert first == inputs
    # Closed form: kept weights between living units, biases of living units.
    kept = 0
    before = inputs
    for name, after in zip(layers, out, strict=True):
        mask = masks[f"{name}.weight"]
        kept += sum(bool(mask[o, i]) for o in after for i in before)
        kept += len(after) * int(layout.layer(name).has_bias)
        before = after
    assert count_effective(layout, masks).params_kept == kept
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= EXACT
    widths = [len(inputs), *map(len, out)]
    if all(layout.layer(name).has_bias for name in layers):  # else a folded constant needs one
        dense = sum(a * b + b for a, b in zip(widths, widths[1:], strict=False))
        assert elements(smaller) == dense
        assert multiply_adds(smaller, x) == dense - sum(widths[1:])
    told = live(layout, masks)
    assert [told[n].live for n in ("input", *layers)] == widths
    assert [told[n].of for n in ("input", *layers)] == [
        layout.layers[0].n_inputs, *(la.weight_shape[0] for la in layout.layers)
    ]  # fmt: skip


# -- 5 and 6 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["relu", "tanh", "sigmoid"])
def test_a_unit_lives_when_it_is_alive_on_both_sides(act: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), ACTS[act](), nn.Linear(3, 2))
    layout = layout_of(model, torch.zeros(1, 1, 2, 2))
    enter = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]).bool()
    leave = torch.tensor([[0, 1, 1], [0, 0, 1]]).bool()
    masks = {"1.weight": enter, "3.weight": leave}
    told = live(layout, masks)
    assert (told["1"].live, told["1"].of) == (1, 3)
    assert (told["input"].live, told["input"].of) == (3, 4)
    assert (told["3"].live, told["3"].of) == (2, 2)
    found = sizes(layout, masks)
    assert found.params_effective == 3 + 1 + 1 + 2  # 3 weights in, a bias, 1 weight out, 2 biases
    assert found.density == pytest.approx(7 / 18)


@steady
@given(
    st.lists(st.sampled_from(list(ACTS)), min_size=2, max_size=2), st.integers(0, 10**6),
    st.lists(st.sampled_from([0.0, 0.2, 0.6, 0.9]), min_size=3, max_size=3),
)  # fmt: skip
def test_the_compact_network_equals_the_masked_one(
    acts: list[str], seed: int, keep: list[float]
) -> None:
    model = chain(acts, seed=seed)
    layout = layout_of(model, pictures(1))
    check(model, drawn_masks(layout, seed, keep), pictures())


@pytest.mark.parametrize("act", list(ACTS))
def test_what_a_neuron_without_inputs_emits_is_kept(act: str) -> None:
    model = chain([act, act])
    layout = layout_of(model, pictures(1))
    masks = {n: torch.ones(shape, dtype=torch.bool) for n, shape in layout.weights.items()}
    masks["1.weight"][2] = False
    masks["3.weight"][0] = False
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, pictures()) <= EXACT
    assert elements(smaller) == 6 * 4 + 4 + 4 * 3 + 3 + 3 * 3 + 3
    bare = masked_copy(model, layout, masks)
    bare[1].bias.data[2] = -40.0  # ReLU and sigmoid emit nothing then: the bias does matter
    assert error(bare, masked, pictures()) > 1e-3


@pytest.mark.parametrize("acts", [["sigmoid", "sigmoid"], ["tanh", "sigmoid"], ["relu", "tanh"]])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_which_next_to_nothing_is_left(acts: list[str], bias: bool) -> None:
    model = chain(acts, bias)
    layout = layout_of(model, pictures(1))
    for first in range(5):
        for second in range(4):
            masks = {n: torch.zeros(s, dtype=torch.bool) for n, s in layout.weights.items()}
            masks["1.weight"][first, 1] = True
            masks["3.weight"][second, 2] = True  # a path only where first is 2 and second is 1
            masks["5.weight"][1, 1] = True
            masked = masked_copy(model, layout, masks)
            smaller = compact(masked, layout, masks)
            assert error(smaller, masked, pictures()) <= EXACT
            lives = first == 2 and second == 1
            assert live_units(layout, masks).out["1"].sum() == lives
            kept = (3 if lives else 0) + bias * (3 + 2 * lives)
            assert count_effective(layout, masks).params_kept == kept


# -- sigmoids in other places ----------------------------------------------------------------------


class Called(nn.Module):
    """Sigmoids as functions, dropout between, one after a convolution, one before the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 6, 6)
        self.c, self.d = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.b(torch.relu(self.a(x)).flatten(1)))
        x = F.dropout(self.c(x).sigmoid(), 0.5, self.training)
        return torch.sigmoid(self.d(x))


class OfMap(nn.Module):
    """A sigmoid on a flattened map: a dead filter emits one constant at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.sigmoid(self.a(x).flatten(1)))


class Summed(nn.Module):
    """Two layers added before a sigmoid, one of them read elsewhere as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)
        self.d = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        first, second = self.a(x), self.b(x)
        return self.c(torch.sigmoid(first + second)) + self.d(torch.relu(second))


class Gated(nn.Module):
    """A sigmoid that multiplies: nothing of it may go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.c(torch.sigmoid(self.a(x)) * torch.relu(self.b(x)))


@pytest.mark.parametrize("coupling", ["tied", "branch", "intersection", "internal"])
@pytest.mark.parametrize("build", [Called, OfMap, Summed, Gated])
def test_sigmoids_anywhere_are_exact(build: Callable[[], nn.Module], coupling: str) -> None:
    torch.manual_seed(0)
    model = lively(build())
    layout = layout_of(model, pictures(1), coupling)  # type: ignore[arg-type]
    for seed in range(40):
        masks = drawn_masks(layout, seed, [(0.1, 0.5, 0.9)[seed % 3]] * len(layout.layers))
        masked = masked_copy(model, layout, masks)
        try:
            smaller = compact(masked, layout, masks)
        except CannotCut:  # what a dead unit emits, times a gate, is no constant: never NaN
            assert build is Gated
            continue
        assert error(smaller, masked, pictures()) <= EXACT, seed


def test_units_in_front_of_a_sigmoid_are_removable_but_no_sites() -> None:
    model = lively(Called())
    layout = layout_of(model, pictures(1))
    assert [site.name for site in layout.sites if not site.is_input] == ["a"]
    assert {la.name: la.is_removable_output for la in layout.layers} == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip
    gated = layout_of(lively(Gated()), pictures(1))
    assert not gated.layer("a").is_removable_output


def test_the_autoencoder_is_removed_exactly_and_puts_out_every_pixel() -> None:
    torch.manual_seed(0)
    model = lively(dropneuron_autoencoder(784, (1, 28, 28)))
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    check(model, drawn_masks(layout, 0, [0.02, 0.05, 0.05, 0.02]), x)
    dead = {n: torch.zeros(s, dtype=torch.bool) for n, s in layout.weights.items()}
    for mask in dead.values():
        mask[0, 0] = True
    check(model, dead, x)
