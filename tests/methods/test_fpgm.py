"""FPGM and L1-filter: hand cases, loops over pairs, frozen values of another implementation, tied groups."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import MakeTrial, small_conv, small_mlp
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Method
from bench.graph.count import count
from bench.graph.trace import layout_of
from bench.methods.fpgm import Fpgm, distance_sums
from bench.methods.l1_filter import L1Filter
from bench.pruning.masks import Masks
from bench.seeds import generator


def rows(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1)


def lowest(scores: Tensor, k: int) -> set[int]:
    return set(scores.argsort(stable=True)[:k].tolist())


def pairwise(filters: Tensor) -> np.ndarray[Any, Any]:
    """g by its definition: a loop over pairs."""
    f = filters.flatten(1).double().numpy()
    return np.array([sum(np.sqrt(((a - b) ** 2).sum()) for b in f) for a in f])


def trial_of(model: nn.Module, coupling: Any = "tied", side: int = 8) -> Any:
    layout = layout_of(model, torch.zeros(1, 1, side, side), coupling)
    masks = {site.name: torch.ones(site.size, dtype=torch.bool) for site in layout.sites}
    return SimpleNamespace(model=model, layout=layout, masks=masks)


def chain_of(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2))


# -- distances and shares ---------------------------------------------------------------------------------


def test_sums_of_distances_of_the_hand_case() -> None:
    g = distance_sums(rows(0, 1, 2, 3, 10))
    assert g.tolist() == [16, 13, 12, 13, 34]
    assert lowest(g, 1) == {2}
    assert lowest(g, 2) in ({2, 1}, {2, 3})  # a tie, which Masks breaks at random


def test_the_geometric_median_is_not_the_norm() -> None:
    filters = torch.tensor([[1.0, 0], [5, 5], [5, 6], [6, 5], [6, 6]])
    g = distance_sums(filters)
    assert g.tolist() == pytest.approx([28.496, 9.817, 10.625, 10.485, 11.224], abs=5e-4)
    assert lowest(g, 1) == {1}
    model = nn.Sequential(nn.Conv2d(1, 5, (1, 2), bias=False), nn.ReLU(), nn.Flatten(),
                          nn.Linear(5 * 56, 2))  # fmt: skip
    model[0].weight.data = filters.view(5, 1, 1, 2)
    trial = trial_of(model)
    assert lowest(Fpgm().score(trial)["0"], 1) == {1}
    assert lowest(L1Filter().score(trial)["0"], 1) == {0}


def test_signs_matter() -> None:
    g = distance_sums(rows(3, -3.5, 1, 2.2, 0.5))
    assert g.tolist() == pytest.approx([11.8, 20.7, 8.2, 9.4, 8.7], abs=1e-5)
    assert lowest(g, 1) == {2}


@pytest.mark.parametrize("seed", range(5))
def test_zero_filters_are_chosen_again(seed: int) -> None:
    filters = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(seed)).flatten(1)
    first = lowest(distance_sums(filters), 25)
    filters[list(first)] = 0
    assert lowest(distance_sums(filters), 25) == first


def test_zero_filters_stay_when_the_others_are_close_together_and_far_away() -> None:
    near = torch.tensor([[5.0, 5], [5, 5.1], [5.1, 5], [4.9, 5], [5, 4.9], [5.05, 5.05]])
    g = distance_sums(torch.cat([torch.zeros(4, 2), near]))
    assert g[:4].tolist() == pytest.approx([42.4] * 4, abs=0.3)
    assert float(g[4:].max()) < 30
    assert not lowest(g, 4) & {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("width", "share", "dropped"),
    [(16, 0.4, 6), (32, 0.4, 12), (64, 0.4, 25), (128, 0.4, 51), (256, 0.4, 102), (512, 0.4, 204),
     (10, 0.1, 1), (160, 0.1, 16), (5, 0.2, 1)],
)  # fmt: skip
def test_a_share_of_a_layer_is_its_floor(width: int, share: float, dropped: int) -> None:
    trial = trial_of(chain_of(width))
    masks = Masks(trial.layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
    assert masks.drop_lowest(Fpgm().score(trial), share) == dropped
    assert int((~masks["1"]).sum()) == dropped


def test_one_unit_is_always_kept() -> None:
    trial = trial_of(chain_of(5))
    masks = Masks(trial.layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
    masks.drop_lowest(Fpgm().score(trial), 0.999)
    masks.drop_to(Fpgm().score(trial), 1e9)
    assert int(masks["1"].sum()) == 1


# -- against others --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(7, 3, 3, 3), (1, 2, 1, 1), (2, 5, 3, 3), (33, 16, 1, 1), (24, 1, 5, 5), (20, 300)]
)
@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_a_loop_over_pairs(shape: tuple[int, ...], seed: int) -> None:
    filters = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    filters *= 10.0 ** (seed - 2)
    g = distance_sums(filters.flatten(1))
    assert g.dtype == torch.float64
    assert g.numpy() == pytest.approx(pairwise(filters), rel=1e-6)


# Computed once by the FPGM pruner of torch.ao (torch 2.15), an experiment that is to be deleted there, of
# filters sin(1), sin(4), sin(9), ...
OF_TORCH_AO = {
    (7, 3, 3, 3): [30.86135316, 32.52793809, 31.42762709, 28.56743934, 32.92510956, 30.61490931,
                   29.64676028],
    (2, 5, 3, 3): [6.65412806, 6.65412806],
    (6, 1, 5, 5): [25.72576318, 26.59987262, 25.20292382, 24.78465542, 26.38497162, 26.02204756],
    (5, 30): [21.76595351, 21.70240123, 22.09241234, 22.37650172, 22.50086611],
}  # fmt: skip


@pytest.mark.parametrize("shape", OF_TORCH_AO)
def test_distances_are_those_of_torch_ao(shape: tuple[int, ...]) -> None:
    filters = torch.sin(torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) ** 2).view(shape)
    for same in (filters, filters.float()):
        g = distance_sums(same.flatten(1))
        assert g.tolist() == pytest.approx(OF_TORCH_AO[shape], rel=1e-6)


def test_copies_of_a_filter_are_at_no_distance() -> None:
    one = torch.randn(1, 400, generator=torch.Generator().manual_seed(0)) * 100
    g = distance_sums(one.repeat(6, 1))
    assert float(g.max()) <= 6 * 1e-5 * float(one.norm())
    assert bool(torch.isfinite(g).all())


def test_distances_do_not_see_a_common_offset() -> None:
    filters = torch.randn(20, 90, generator=torch.Generator().manual_seed(1))
    apart = distance_sums(filters)
    assert distance_sums(filters + 50).numpy() == pytest.approx(apart.numpy(), rel=1e-4)


@pytest.mark.parametrize("build", [small_conv, small_mlp])
def test_every_layer_is_scored_by_its_own_weights_alone(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(3)
    model = build()
    trial = trial_of(model)
    geometric, l1 = Fpgm().score(trial), L1Filter().score(trial)
    hidden = {s.name for s in trial.layout.sites if not s.is_input}
    assert geometric.keys() == l1.keys() == hidden
    for name in hidden:
        weight = model.get_submodule(name).weight.detach()
        assert geometric[name].numpy() == pytest.approx(pairwise(weight), rel=1e-6)
        loop = [sum(abs(float(w)) for w in row.flatten()) for row in weight]
        assert l1[name].tolist() == pytest.approx(loop, rel=1e-5)
    for name, parameter in model.named_parameters():  # biases and normalisations do not count
        if not name.endswith("weight") or parameter.dim() == 1:
            parameter.data.normal_()
    again, l1_again = Fpgm().score(trial), L1Filter().score(trial)
    assert all(torch.equal(geometric[n], again[n]) for n in hidden)
    assert all(torch.equal(l1[n], l1_again[n]) for n in hidden)


class Stream(nn.Module):
    """Two layers of one stream, one inside, one with another size of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.a, self.b = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.b(F.relu(self.a(x))) + x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_tied_layers_are_scored_together_and_neither_outweighs_the_other() -> None:
    torch.manual_seed(0)
    model = Stream()
    model.b.weight.data *= 1000
    trial = trial_of(model)
    assert trial.layout.site("stem").modules == ("stem", "b")
    g = Fpgm().score(trial)
    stem, b = (pairwise(layer.weight.detach()) for layer in (model.stem, model.b))
    expected = stem / stem.mean() + b / b.mean()
    assert g["stem"].numpy() == pytest.approx(expected, rel=1e-6)
    assert g["a"].numpy() == pytest.approx(pairwise(model.a.weight.detach()), rel=1e-6)
    l1 = L1Filter().score(trial)["stem"]
    sums = [layer.weight.detach().abs().flatten(1).sum(1) for layer in (model.stem, model.b)]
    assert l1.tolist() == pytest.approx((sums[0] + sums[1]).tolist(), rel=1e-5)


def test_in_branches_each_layer_has_its_own_score() -> None:
    torch.manual_seed(0)
    model = Stream()
    trial = trial_of(model, "branch")
    g, l1 = Fpgm().score(trial), L1Filter().score(trial)
    assert g.keys() == l1.keys() == {"stem", "a", "b"}
    for name in g:
        weight = model.get_submodule(name).weight.detach()
        assert g[name].numpy() == pytest.approx(pairwise(weight), rel=1e-6)
        assert torch.equal(l1[name], weight.abs().flatten(1).sum(1))


def test_a_layer_of_equal_filters_in_a_stream_has_finite_scores() -> None:
    model = Stream()
    model.b.weight.data.zero_()
    g = Fpgm().score(trial_of(model))["stem"]
    assert bool(torch.isfinite(g).all())


def test_scores_leave_the_network_and_random_state_alone() -> None:
    trial = trial_of(small_conv())
    before = {k: v.clone() for k, v in trial.model.state_dict().items()}
    state = torch.get_rng_state()
    for method in (Fpgm(), L1Filter()):
        scores = method.score(trial)
        assert not any(s.requires_grad for s in scores.values())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in trial.model.state_dict().items())


# -- whole trials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [small_conv, small_mlp])
@pytest.mark.parametrize("method", [Fpgm(), L1Filter()])
def test_a_trial_drops_the_lowest_of_the_trained_network_in_one_shot(
    method: Method, build: Callable[[], nn.Module], make_trial: MakeTrial
) -> None:
    start = make_trial(build, 2.0)
    start.pretrained()
    scores = method.score(start)
    trial = make_trial(build, 2.0)
    method.prune(trial)
    assert trial.masks.compression >= 2.0
    account = count(trial.layout, trial.masks.touched)
    assert account.params_dense / account.params_kept == trial.masks.compression
    gone = {name: int((~trial.masks[name]).sum()) for name in scores}
    for name, score in scores.items():
        assert set((~trial.masks[name]).nonzero().flatten().tolist()) == lowest(score, gone[name])
    shares = [gone[name] / len(score) for name, score in scores.items()]
    smallest = min(len(score) for score in scores.values())
    assert max(shares) - min(shares) <= 1 / smallest + 1e-9  # the same share of every layer
    # One unit fewer would not have been enough.
    short = 0
    for name in scores:
        masks = {n: m.clone() for n, m in trial.masks.touched.items()}
        last = int((~masks[name]).nonzero().flatten()[scores[name][~masks[name]].argmax()])
        masks[name][last] = True
        one_less = count(trial.layout, masks)
        short += one_less.params_dense / one_less.params_kept < 2.0
    assert short >= 1
    for name in scores:
        assert not trial.model.get_parameter(f"{name}.weight")[~trial.masks[name]].any()
