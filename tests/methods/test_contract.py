"""What every shipped method keeps to, on a small network with and without convolutions."""

from collections.abc import Callable

import pytest
import torch
from small_networks import MakeTrial, small_conv, small_mlp
from torch import nn

from bench.plan.registry import Registry
from bench.training.trial import close

REGISTRY = Registry()
# Three epochs of the default penalty leave nothing small enough.
OPTIONS = {"dropneuron": {"threshold": 0.05}, "l1": {"threshold": 0.05}}
METHODS = [n for n in REGISTRY.entries("methods") if not REGISTRY.method(n).is_control]


@pytest.mark.parametrize("build", [small_mlp, small_conv])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_ends_at_its_target_and_repeats_itself_from_its_phases(
    make_trial: MakeTrial, name: str, build: Callable[[], nn.Module]
) -> None:
    method = REGISTRY.method(name)(**OPTIONS.get(name, {}))
    target = 2.0 if method.rate == "target" else None
    states = []
    for _ in range(2):
        trial = make_trial(build, target=target)
        method.prune(trial)
        close(trial)
        states.append({k: v.clone() for k, v in trial.model.state_dict().items()})
        counts = trial.masks.counts()
    if method.rate == "target":
        assert trial.masks.compression >= 2 * (1 - 1e-9)
    if method.rate == "none":
        assert not counts
    else:
        assert counts
        assert trial._rounds[-1] == counts
    assert trial._ledger.cost.epochs >= 3
    assert trial._ledger.work.trainings == 0  # the second time nothing is trained
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert all(torch.isfinite(v).all() for v in states[0].values())


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_decides_everything_and_the_global_generator_nothing(
    make_trial: MakeTrial, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    method = REGISTRY.method(name)(**OPTIONS.get(name, {}))
    target = 2.0 if method.rate == "target" else None
    weights = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        trial = make_trial(small_mlp, target=target, seed=seed)
        # Each run gets a store of its own: nothing may come from the other's phases.
        object.__setattr__(
            trial._inputs, "store", type(trial._inputs.store)(tmp_path_factory.mktemp("phases"))
        )
        trial._ledger.store = trial._inputs.store
        torch.manual_seed(noise)
        method.prune(trial)
        weights.append(trial.model.get_parameter("fc1.weight").detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", list(REGISTRY.entries("methods")))
def test_a_methods_file_opens_with_one_line_and_stays_short(name: str) -> None:
    entry = REGISTRY.find("methods", name)
    assert entry.summary.endswith(".")
    assert len(entry.path.read_text().splitlines()) <= 200
