"""Magnitude: the reference's hand cases, torch's own pruning, Han's rules, rounds and retraining."""

import copy
import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from magnitude_trials import (
    after_each_step,
    at_once,
    drawn,
    entered,
    few,
    masks_of,
    one_layer,
    theirs,
    with_dropout,
)
from small_networks import MakeTrial, randomise_norms, small_conv
from torch import Tensor, nn
from torch.nn.utils import prune

from bench.methods._dropout import adjusted_dropout
from bench.methods.magnitude import Magnitude
from bench.models.lenet import lenet_300_100

# -- hand cases ------------------------------------------------------------------------------


def test_the_standard_deviation_is_the_populations(make_trial: MakeTrial) -> None:
    trial = one_layer(make_trial, -2, -1, 0, 1, 2)
    Magnitude(**at_once, quality=0.7).prune(trial)
    assert trial.masks["fc.weight"].tolist() == [[True, True, False, True, True]]


@pytest.mark.parametrize("seed", range(4))
def test_exactly_one_of_two_equal_weights_goes(make_trial: MakeTrial, seed: int) -> None:
    kept = []
    for method in (Magnitude(**at_once, step=None), Magnitude(**at_once, densities="0.75")):
        trial = one_layer(make_trial, 1, 1, 2, 3)
        target = None if method.densities else 4 / 3
        trial._inputs = dataclasses.replace(trial._inputs, target=target, seed=seed)
        method.prune(trial)
        kept.append(trial.masks["fc.weight"].flatten())
    by_share = masks_of(one_layer(make_trial, 1, 1, 2, 3).model, 4)
    assert by_share.drop_lowest({"fc.weight": torch.tensor([[1.0, 1, 2, 3]])}, 0.25) == 1
    for mask in (*kept, by_share["fc.weight"].flatten()):
        assert int(mask[:2].sum()) == 1
        assert bool(mask[2:].all())


def test_the_deviation_is_the_survivors(make_trial: MakeTrial) -> None:
    trial = one_layer(make_trial, -2, 0, 0, 0, 1.5)
    trial.masks["fc.weight"] = trial.model.get_parameter("fc.weight").detach() != 0
    Magnitude(**at_once, quality=1.0).prune(trial)  # 1.75; with the zeros it would be 1.11
    assert trial.masks["fc.weight"].tolist() == [[True, False, False, False, False]]


def test_a_weight_at_the_threshold_stays(make_trial: MakeTrial) -> None:
    trial = one_layer(make_trial, -2, 0, 0, 0, 2)
    trial.masks["fc.weight"] = trial.model.get_parameter("fc.weight").detach() != 0
    Magnitude(**at_once, quality=1.0).prune(trial)
    assert trial.masks.counts() == {"fc.weight": 2}
    equal = one_layer(make_trial, 0.25, -0.25, 0.25)
    Magnitude(**at_once, threshold=0.25).prune(equal)
    assert equal.masks.counts() == {}


def test_densities_of_lottery_tickets() -> None:
    masks = masks_of(lenet_300_100(10, (1, 28, 28)), 1, 28, 28)
    g = torch.Generator().manual_seed(0)
    score = {n: torch.rand(s, generator=g) for n, s in masks.layout.weights.items()}
    *hidden, last = score
    total = sum(s.numel() for s in score.values())
    published = {1: 80.04, 2: 64.06, 3: 51.28, 5: 32.87, 7: 21.07, 9: 13.52, 11: 8.68, 13: 5.57,
                 15: 3.58, 19: 1.49, 23: 0.62}  # fmt: skip
    for done in range(1, max(published) + 1):
        masks.drop_lowest({n: score[n] for n in hidden}, 0.2)
        masks.drop_lowest({last: score[last]}, 0.1)
        if done in published:
            left = sum(masks.counts().values())
            assert 100 * left / total == pytest.approx(published[done], abs=0.02), done


@pytest.mark.parametrize(
    ("density", "p"), [(0.08, 0.141), (0.09, 0.150), (0.11, 0.166), (0.04, 0.100)]
)
def test_dropout_goes_down_with_the_root_of_connections(
    make_trial: MakeTrial, density: float, p: float
) -> None:
    trial = make_trial(with_dropout)
    trial.masks["fc1.weight"] = (torch.arange(6400) < 6400 * density).view(100, 64)
    with pytest.raises(KeyboardInterrupt), adjusted_dropout(trial, True):
        assert trial.model.drop1.p == pytest.approx(p, abs=5e-4)
        assert trial.model.drop2.p == 0.4  # its layer has lost nothing
        raise KeyboardInterrupt
    assert (trial.model.drop1.p, trial.model.drop2.p) == (0.5, 0.4)


@pytest.mark.parametrize(
    "method",
    [Magnitude(), Magnitude(scope="global", retrain="rewind"), Magnitude(densities="0.5+0.4+0.3", rounds=3),
     Magnitude(quality=0.6, rounds=3), Magnitude(quality=0.6, rounds=2, freeze="alternate")],
    ids=str,
)  # fmt: skip
def test_masks_only_shrink(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, method: Magnitude
) -> None:
    trial = make_trial(small_conv, target=6.0 if method.rate_here() == "target" else None, epochs=1)
    seen = entered(trial, monkeypatch, lambda: dict(trial.masks))
    method.prune(trial)
    steps = [masks for before, after, _ in seen for masks in (before, after)]
    assert len(seen) >= 4
    for earlier, later in pairwise([*steps, dict(trial.masks)]):
        assert all(not bool((later[n] & ~earlier[n]).any()) for n in earlier)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adadelta"])
@pytest.mark.parametrize(
    "method", [Magnitude(scope="global"), Magnitude(quality=0.7, rounds=2)], ids=str
)
def test_dropped_weights_and_their_optimiser_state_are_zero_after_every_step(
    make_trial: MakeTrial, method: Magnitude, optimizer: str
) -> None:
    target = 4.0 if method.rate_here() == "target" else None
    recipe = dict(optimizer=optimizer, epochs=1, lr=0.01, weight_decay=0.1)
    looked = []

    def look(used: torch.optim.Optimizer) -> None:
        for name in trial.layout.weights:
            weight, gone = trial.model.get_parameter(name), ~trial.masks[name]
            state = [
                v for v in used.state[weight].values() if getattr(v, "shape", ()) == weight.shape
            ]
            assert len(state) == (1 if optimizer == "sgd" else 2)
            for tensor in (weight.detach(), *state):
                assert not bool(tensor[gone].any())
                looked.append(int(gone.sum()))

    with after_each_step(look):  # before the trial begins: later hooks are refused
        trial = make_trial(small_conv, target, **recipe)
        method.prune(trial)
    assert len(looked) >= 18 * 3 * 2
    assert max(looked) > 100


# -- against torch's own pruning -------------------------------------------------------------------


@few
@given(seed=st.integers(0, 1000), target=st.floats(1.05, 6.0))
def test_a_target_per_layer_drops_what_torch_drops(
    make_trial: MakeTrial, seed: int, target: float
) -> None:
    trial = drawn(make_trial, seed)
    trial._inputs = dataclasses.replace(trial._inputs, target=target)
    Magnitude(**at_once, step=None).prune(trial)
    gone = {n: int((~trial.masks[n]).sum()) for n in trial.layout.weights}
    dense = sum(p.numel() for p in trial.model.parameters())
    assert sum(gone.values()) == dense - int(dense / target + 1e-9)
    share = sum(gone.values()) / sum(trial.masks[n].numel() for n in gone)
    for name, k in gone.items():
        assert k == pytest.approx(share * trial.masks[name].numel(), abs=2)
        assert torch.equal(trial.masks[name], theirs(trial, name, prune.l1_unstructured, amount=k))


@few
@given(seed=st.integers(0, 1000), target=st.floats(1.05, 4.0))
def test_a_target_over_all_layers_drops_what_torch_drops(
    make_trial: MakeTrial, seed: int, target: float
) -> None:
    trial = drawn(make_trial, seed)
    trial._inputs = dataclasses.replace(trial._inputs, target=target)
    Magnitude(**at_once, step=None, scope="global").prune(trial)
    model = copy.deepcopy(trial.model)
    layers = [(m, "weight") for m in model if isinstance(m, nn.Linear)]
    gone = sum(int((~trial.masks[n]).sum()) for n in trial.layout.weights)
    prune.global_unstructured(layers, prune.L1Unstructured, amount=gone)
    for name in trial.layout.weights:
        expected = model.get_submodule(name.removesuffix(".weight")).get_buffer("weight_mask")
        assert torch.equal(trial.masks[name], expected.bool())


@few
@given(seed=st.integers(0, 1000), shares=st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3))
def test_densities_keep_what_torch_keeps(
    make_trial: MakeTrial, seed: int, shares: list[float]
) -> None:
    trial = drawn(make_trial, seed)
    Magnitude(**at_once, densities="+".join(map(repr, shares))).prune(trial)
    for (name, shape), share in zip(trial.layout.weights.items(), shares, strict=True):
        size = shape[0] * shape[1]
        k = size - max(1, round(share * size))
        expected = theirs(trial, name, prune.l1_unstructured, amount=k)
        assert torch.equal(trial.masks[name], expected)


@few
@given(seed=st.integers(0, 1000), threshold=st.floats(0.0, 0.3))
def test_a_threshold_drops_what_lies_below_it(
    make_trial: MakeTrial, seed: int, threshold: float
) -> None:
    trial = drawn(make_trial, seed, small_conv)
    randomise_norms(trial.model, seed)
    Magnitude(**at_once, threshold=threshold).prune(trial)
    for name in trial.layout.weights:
        keep = trial.model.get_parameter(name).detach().abs() >= threshold
        if not bool(keep.any()):  # a layer keeps its largest
            size = trial.model.get_parameter(name).detach().abs()
            keep = size == size.max()
        assert torch.equal(
            trial.masks[name], theirs(trial, name, prune.custom_from_mask, mask=keep)
        )


@few
@given(seed=st.integers(0, 1000), quality=st.floats(0.05, 4.0))
def test_the_quality_rule_is_numpys_standard_deviation_layer_by_layer(
    make_trial: MakeTrial, seed: int, quality: float
) -> None:
    trial = drawn(make_trial, seed)
    Magnitude(**at_once, quality=quality).prune(trial)
    for name in trial.layout.weights:
        weights = np.abs(trial.model.get_parameter(name).detach().double().numpy())
        signed = trial.model.get_parameter(name).detach().double().numpy()
        limit = quality * np.std(signed)
        mask = trial.masks[name].numpy()
        clear = np.abs(weights - limit) > 1e-5 * limit  # float32 may round at the threshold
        if weights.max() < limit:
            assert mask.sum() == 1
            assert mask[weights == weights.max()].all()
        else:
            assert np.array_equal(mask[clear], (weights >= limit)[clear])


class DropsTwice(nn.Module):
    """One Dropout module behind two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.fc1(x.flatten(1))))
        made: Tensor = self.fc3(self.drop(torch.relu(self.fc2(x))))
        return made


def test_a_dropout_of_two_layers_sees_the_connections_of_both(make_trial: MakeTrial) -> None:
    trial = make_trial(DropsTwice)
    trial.masks["fc1.weight"] = (torch.arange(1024) % 25 == 0).view(16, 64)
    with adjusted_dropout(trial, True):
        assert trial.model.drop.p < 0.5


def tied() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(),
                          nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))  # fmt: skip
    model[5].weight = model[3].weight
    return model


@pytest.mark.parametrize("rule", [{"quality": 0.8}, {"densities": "0.5+0.5+0.5"}])
def test_a_weight_that_two_layers_share_is_pruned_once(
    make_trial: MakeTrial, rule: dict[str, Any]
) -> None:
    trial = make_trial(tied)
    Magnitude(**at_once, **rule).prune(trial)
    assert trial.masks.counts().keys() == {"1.weight", "3.weight", "7.weight"}
