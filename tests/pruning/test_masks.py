"""The algebra of masks: what is dropped, how much, and where dropping has to stop."""

import math
from collections import OrderedDict
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import MakeTrial, small_conv, small_mlp
from torch import Tensor, nn
from torch.nn.utils import prune

from bench.errors import TrialFailed
from bench.graph.trace import layout_of
from bench.pruning.masks import Masks, Scope
from bench.seeds import generator

INF = float("inf")
thorough = settings(max_examples=40, deadline=None)
scopes = st.sampled_from(["layer", "global"])
widths = st.lists(st.integers(2, 24), min_size=1, max_size=3)
seeds = st.integers(0, 10_000)


def perceptron(*hidden: int) -> nn.Module:
    sizes = [64, *hidden, 4]
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers += [(f"fc{i}", nn.Linear(inputs, outputs)), (f"relu{i}", nn.ReLU())]
    return nn.Sequential(OrderedDict(layers[:-1]))


def masks_of(model: nn.Module, seed: int = 0) -> Masks:
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    return Masks(layout, torch.device("cpu"), lambda purpose: generator(seed, purpose))


def random_scores(masks: Masks, names: list[str], seed: int) -> dict[str, Tensor]:
    """Scores without ties, so that the order is unique."""
    g = torch.Generator().manual_seed(seed)
    return {
        n: torch.randperm(masks[n].numel(), generator=g).view(masks[n].shape).float() for n in names
    }


def hidden_sites(masks: Masks) -> list[str]:
    return [site.name for site in masks.layout.sites if not site.is_input]


def weights_of(masks: Masks) -> list[str]:
    return list(masks.layout.weights)


def restored(masks: Masks) -> list[float]:
    """The compressions that bringing back any single dropped unit would give."""
    before = {name: mask.clone() for name, mask in masks.touched.items()}
    found = []
    for name, mask in before.items():
        for index in (~mask).nonzero().flatten().tolist():
            back = mask.clone()
            back[index] = True
            masks[name] = back
            found.append(masks.compression)
            masks[name] = mask
    return found


# -- dropping to a compression ---------------------------------------------------------------


@thorough
@given(widths, st.floats(1.05, 6.0), scopes, seeds)
def test_dropping_weights_reaches_the_compression_within_one_weight(
    hidden: list[int], goal: float, scope: Scope, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    dense = masks.account.params_dense
    biases = sum(hidden) + 4
    layers = len(hidden) + 1
    dropped = masks.drop_to(random_scores(masks, weights_of(masks), seed), goal, scope)
    assert dropped == sum(int((~masks[n]).sum()) for n in weights_of(masks))
    assert masks.params_kept == dense - dropped
    fewest = biases + layers  # no bias may go, and one weight of each layer stays
    assert masks.params_kept == max(math.floor(dense / goal + 1e-9), fewest)
    assert masks.at_floor == (masks.compression < goal)


@thorough
@given(widths, st.floats(1.05, 6.0), scopes, seeds)
def test_dropping_units_reaches_the_compression_within_one_unit(
    hidden: list[int], goal: float, scope: Scope, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    dropped = masks.drop_to(random_scores(masks, names, seed), goal, scope)
    assert dropped == sum(int((~masks[n]).sum()) for n in names)
    if masks.compression >= goal:
        assert min(restored(masks)) < goal
        assert not masks.at_floor
    else:
        assert all(int(masks[n].sum()) == 1 for n in names)
        assert masks.at_floor


@thorough
@given(st.lists(st.integers(10, 24), min_size=2, max_size=3), st.floats(1.2, 4.0), seeds)
def test_scope_layer_takes_the_same_share_of_what_may_go_from_every_layer(
    hidden: list[int], goal: float, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    masks.drop_to(random_scores(masks, names, seed), goal, "layer")
    gone = [int((~masks[n]).sum()) for n in names]
    for size, here in zip(hidden, gone, strict=True):
        for other_size, there in zip(hidden, gone, strict=True):
            assert here / (size - 1) <= (there + 1) / (other_size - 1) + 1e-9


@thorough
@given(widths, st.floats(1.1, 3.0), scopes, seeds)
def test_what_goes_scores_lower_than_what_stays(
    hidden: list[int], goal: float, scope: Scope, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    score = random_scores(masks, names, seed)
    masks.drop_to(score, goal, scope)
    for name in names:
        gone, stays = score[name][~masks[name]], score[name][masks[name]]
        assert len(gone) == 0 or gone.max() < stays.min()


def test_a_compression_that_is_reached_already_drops_nothing_more() -> None:
    for names_of in (hidden_sites, weights_of):
        masks = masks_of(small_mlp())
        score = random_scores(masks, names_of(masks), 1)
        masks.drop_to(score, 2.0)
        before = masks.params_kept
        assert masks.drop_to(score, 2.0) == 0
        assert masks.params_kept == before
        assert not masks.at_floor


# -- against torch.nn.utils.prune ------------------------------------------------------------


@thorough
@given(widths, st.floats(1.05, 8.0), seeds)
def test_magnitude_per_layer_equals_torch_l1_unstructured(
    hidden: list[int], goal: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = perceptron(*hidden)
    masks = masks_of(model)
    masks.drop_to({n: model.get_parameter(n).detach().abs() for n in weights_of(masks)}, goal)
    for name in weights_of(masks):
        layer = model.get_submodule(name.removesuffix(".weight"))
        prune.l1_unstructured(layer, "weight", amount=int((~masks[name]).sum()))
        assert torch.equal(layer.weight_mask.bool(), masks[name])


@thorough
@given(widths, st.floats(1.05, 2.0), seeds)
def test_magnitude_over_all_layers_equals_torch_global_unstructured(
    hidden: list[int], goal: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = perceptron(*hidden)
    masks = masks_of(model)
    score = {n: model.get_parameter(n).detach().abs() for n in weights_of(masks)}
    dropped = masks.drop_to(score, goal, "global")
    layers = {n: model.get_submodule(n.removesuffix(".weight")) for n in weights_of(masks)}
    pairs = [(layer, "weight") for layer in layers.values()]
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=dropped)
    assert all(bool(layer.weight_mask.any()) for layer in layers.values())
    for name, layer in layers.items():
        assert torch.equal(layer.weight_mask.bool(), masks[name])


def test_magnitude_equals_torch_on_convolutions_in_channels_last() -> None:
    torch.manual_seed(2)
    model = small_conv()
    reference = deepcopy(model)  # torch's own pruning cannot read channels_last
    model.to(memory_format=torch.channels_last)
    masks = masks_of(model)
    masks.drop_to({n: model.get_parameter(n).detach().abs() for n in weights_of(masks)}, 2.5)
    for name in weights_of(masks):
        layer = reference.get_submodule(name.removesuffix(".weight"))
        prune.l1_unstructured(layer, "weight", amount=int((~masks[name]).sum()))
        assert torch.equal(layer.weight_mask.bool(), masks[name])


# -- dropping a share ------------------------------------------------------------------------


@thorough
@given(widths, st.floats(0.01, 0.6), seeds)
def test_drop_lowest_takes_the_floor_of_the_share_from_each_layer(
    hidden: list[int], share: float, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    left = dict(zip(names, hidden, strict=True))
    for _ in range(3):
        masks.drop_lowest(random_scores(masks, names, seed), share)
        left = {n: max(1, k - max(1, math.floor(share * k + 1e-9))) for n, k in left.items()}
        assert {n: int(masks[n].sum()) for n in names} == left


def test_a_share_of_29_percent_of_100_units_is_29_units() -> None:
    masks = masks_of(perceptron(100))
    assert masks.drop_lowest(random_scores(masks, ["fc1"], 0), 0.29) == 29


def test_drop_lowest_over_all_layers_ranks_them_together() -> None:
    masks = masks_of(perceptron(10, 20))
    low, high = torch.arange(20.0), torch.arange(100.0, 110.0)
    assert masks.drop_lowest({"fc1": high, "fc2": low}, 0.5, "global") == 15
    assert masks["fc1"].all()
    assert masks["fc2"].tolist() == [False] * 15 + [True] * 5


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_drop_lowest_is_trimmed_to_the_target(make_trial: MakeTrial, scope: Scope) -> None:
    trial = make_trial(lambda: perceptron(30, 30), target=1.5)
    names = hidden_sites(trial.masks)
    trial.masks.drop_lowest(random_scores(trial.masks, names, 3), 0.9, scope)
    assert trial.at_target
    assert trial.masks.compression >= 1.5
    assert min(restored(trial.masks)) < 1.5


# A unit of this network is 64 + 1 + 4 of its 6,904 parameters: 50, 51, 55 and 56 dropped units
# give compressions of 1.9988, 2.0395, 2.2207 and 2.2711.
@pytest.mark.parametrize(
    ("target", "dropped"),
    [(2.0, 51), (2.22, 55), (2.23, 50), (6904 / 3454, 50), (1.5, 34), (8.0, 50)],
)
def test_drop_lowest_is_stretched_by_at_most_a_tenth_to_reach_the_target(
    make_trial: MakeTrial, target: float, dropped: int
) -> None:
    trial = make_trial(lambda: perceptron(100), target=target)
    score = random_scores(trial.masks, ["fc1"], 4)
    assert trial.masks.drop_lowest(score, 0.5) == dropped
    assert int((~trial.masks["fc1"]).sum()) == dropped
    assert trial.at_target == (dropped != 50 or target < 1.9989)


# -- thresholds and counts -------------------------------------------------------------------


@thorough
@given(widths, st.integers(-1, 25), seeds)
def test_drop_below_drops_what_is_below_and_keeps_each_layers_best(
    hidden: list[int], threshold: int, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    score = random_scores(masks, names, seed)
    dropped = masks.drop_below(score, threshold)
    for name in names:
        expected = score[name] >= threshold
        expected[score[name].argmax()] = True
        assert torch.equal(masks[name], expected)
    assert dropped == sum(int((~masks[n]).sum()) for n in names)


@thorough
@given(widths, st.data(), seeds)
def test_keep_counts_keeps_exactly_the_highest(
    hidden: list[int], data: st.DataObject, seed: int
) -> None:
    masks = masks_of(perceptron(*hidden))
    names = hidden_sites(masks)
    counts = {n: data.draw(st.integers(1, k)) for n, k in zip(names, hidden, strict=True)}
    score = random_scores(masks, names, seed)
    masks.keep_counts(counts, score)
    for name, k in counts.items():
        best = sorted(score[name].tolist(), reverse=True)[:k]
        assert sorted(score[name][masks[name]].tolist(), reverse=True) == best


def test_keep_counts_speaks_of_the_named_masks_alone_and_never_brings_anything_back() -> None:
    masks = masks_of(small_mlp())
    score = random_scores(masks, ["fc1", "fc2"], 0)
    masks.keep_counts({"fc1": 5}, score)
    assert masks["fc2"].all()
    first = masks["fc1"]
    masks.keep_counts({"fc1": 9}, score)
    assert torch.equal(masks["fc1"], first)


# -- floors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("names_of", [hidden_sites, weights_of])
def test_no_layer_is_ever_emptied_and_the_best_of_each_survives(
    scope: Scope, names_of: object
) -> None:
    masks = masks_of(small_conv())
    names = names_of(masks)  # type: ignore[operator]
    score = random_scores(masks, names, 6)
    assert masks.drop_to(score, 1e9, scope) > 0
    assert masks.at_floor
    for name in names:
        assert int(masks[name].sum()) == 1
        assert masks[name].flatten()[score[name].argmax()]
    assert masks.drop_to(score, 1e9, scope) == 0
    assert masks.drop_lowest(score, 0.5, scope) == 0
    assert masks.at_floor


def test_a_layer_at_its_floor_leaves_the_rest_of_the_drop_to_the_others() -> None:
    masks = masks_of(small_mlp())
    score = random_scores(masks, weights_of(masks), 7)
    score["fc2.weight"] -= 1e6
    score["fc3.weight"] -= 1e6
    dense = masks.account.params_dense
    dropped = masks.drop_to(score, 2.0, "global")
    assert masks.params_kept == dense // 2
    assert dropped == dense - dense // 2
    assert not masks.at_floor
    for name in ("fc2.weight", "fc3.weight"):
        assert masks[name].flatten().nonzero().flatten().tolist() == [int(score[name].argmax())]


def test_min_keep_keeps_its_share_of_each_width_rounded_up() -> None:
    masks = masks_of(perceptron(10, 21))
    score = random_scores(masks, ["fc1", "fc2"], 8)
    while masks.drop_lowest(score, 0.5, "global", min_keep=0.2):
        pass
    assert masks.counts() == {"fc1": 2, "fc2": 5}
    assert masks.at_floor


def test_masks_that_are_put_back_are_no_longer_at_the_floor() -> None:
    masks = masks_of(small_mlp())
    masks.drop_to(random_scores(masks, ["fc1", "fc2"], 9), 1e9)
    assert masks.at_floor
    masks.load({})
    assert masks.compression == 1
    assert not masks.at_floor


# -- ties ------------------------------------------------------------------------------------


def test_ties_are_broken_by_the_seed_and_not_by_position() -> None:
    def drawn(seed: int) -> Tensor:
        masks = masks_of(perceptron(40), seed)
        masks.drop_lowest({"fc1": torch.zeros(40)}, 0.5)
        return masks["fc1"]

    assert torch.equal(drawn(1), drawn(1))
    assert len({tuple(drawn(seed).tolist()) for seed in range(10)}) == 10


def test_ties_over_all_layers_are_shared_out_in_proportion_to_width() -> None:
    lost = torch.zeros(2)
    for seed in range(40):
        masks = masks_of(perceptron(20, 40), seed)
        masks.drop_lowest({"fc1": torch.zeros(20), "fc2": torch.zeros(40)}, 0.5, "global")
        lost += torch.tensor([(~masks["fc1"]).sum(), (~masks["fc2"]).sum()])
    # Hypergeometric: 10 of 30 a seed, standard deviation 1.8; of the mean over 40 seeds 0.29.
    assert abs(float(lost[0]) / 40 - 10) < 1.2
    assert float(lost.sum()) == 40 * 30


# -- a mapping of values ---------------------------------------------------------------------


@thorough
@given(st.lists(st.tuples(st.sampled_from(["fc1", "fc2"]), seeds), min_size=1, max_size=6))
def test_masks_only_ever_shrink_and_parameters_with_them(steps: list[tuple[str, int]]) -> None:
    masks = masks_of(small_mlp())
    for name, seed in steps:
        before, kept = dict(masks), masks.params_kept
        dropped = masks.drop_lowest(random_scores(masks, [name], seed), 0.3)
        assert all(not bool((masks[n] & ~before[n]).any()) for n in masks)
        assert int((before[name] & ~masks[name]).sum()) == dropped
        per_unit = {"fc1": 65, "fc2": 5}[name]  # its own weights and bias, before what reads it
        assert masks.params_kept <= kept - per_unit * dropped


def test_a_mask_is_a_copy_of_the_tensor_it_came_from() -> None:
    masks = masks_of(small_mlp())
    mine = torch.ones(16, dtype=torch.bool)
    mine[3] = False
    masks["fc1"] = mine
    mine[4] = False
    assert masks["fc1"].sum() == 15


def test_load_fills_what_is_not_named_with_ones() -> None:
    masks = masks_of(small_mlp())
    masks.drop_to(random_scores(masks, ["fc1", "fc2"], 0), 2.0)
    only = torch.arange(12) % 2 == 0
    masks.load({"fc2": only})
    assert masks["fc1"].all()
    assert torch.equal(masks["fc2"], only)
    assert set(masks.touched) == {"fc2"}


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (torch.ones(5, dtype=torch.bool), "shape"),
        (torch.ones(16), "boolean"),
        (torch.ones(16, dtype=torch.uint8), "boolean"),
        (torch.zeros(16, dtype=torch.bool), "nothing"),
    ],
)
def test_a_mask_of_the_wrong_kind_is_refused_by_name(mask: Tensor, word: str) -> None:
    masks = masks_of(small_mlp())
    with pytest.raises(TrialFailed, match="fc1") as refused:
        masks["fc1"] = mask
    assert word in str(refused.value)
    assert masks["fc1"].all()


@pytest.mark.parametrize(
    "score",
    [
        {"fc9": torch.zeros(16)},
        {"fc1": torch.zeros(15)},
        {"fc1": torch.full((16,), float("nan"))},
        {"fc1": torch.tensor([0.0] * 15 + [INF])},
        {"fc1.weight": torch.zeros(64, 16)},
    ],
    ids=["unknown name", "wrong length", "not a number", "infinite", "transposed"],
)
def test_a_score_that_does_not_fit_is_refused_by_name(score: dict[str, Tensor]) -> None:
    masks = masks_of(small_mlp())
    for drop in (
        lambda: masks.drop_to(score, 2.0),
        lambda: masks.drop_lowest(score, 0.5),
        lambda: masks.drop_below(score, 0.5),
        lambda: masks.keep_counts(dict.fromkeys(score, 1), score),
    ):
        with pytest.raises(TrialFailed, match=next(iter(score))):
            drop()
    assert not masks.touched


def test_dropping_to_the_target_of_a_trial_without_one_is_refused(make_trial: MakeTrial) -> None:
    trial = make_trial()
    with pytest.raises(TrialFailed, match="no target"):
        trial.masks.drop_to({"fc1": torch.arange(16.0)})
