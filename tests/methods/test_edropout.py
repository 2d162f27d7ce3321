"""EDropout: its energy, its evolution, and what training under a population leaves alone."""

import dataclasses
import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import MakeTrial, randomise_norms, small_conv
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Callback, Fixture, Recipe, Trial
from bench.data.batches import Part
from bench.datasets.embedded import Mnist5k
from bench.graph.trace import layout_of
from bench.methods import _population as evolve
from bench.methods import edropout
from bench.methods._population import Operator
from bench.methods.edropout import EDropout, Evolution
from bench.models.lenet import lenet_300_100
from bench.training.network import about
from bench.training.trial import RunningTrial

# Where each unit of `small_conv` stands in a state, and what belongs to it, spelled out by hand.
PLACES = {"conv1": range(0, 6), "conv2": range(6, 14), "input:fc1": range(14, 46)}
OWN = {
    "conv1": ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"),
    "conv2": ("conv2.weight", "conv2.bias", "bn2.weight", "bn2.bias"),
}


def normed_conv() -> nn.Module:
    """`small_conv` with BatchNorms that are nothing like new ones."""
    model = small_conv()
    randomise_norms(model)
    return model


def conv_with_dropout() -> nn.Module:
    """The same with a Dropout, which must not make energies noisy."""
    model = normed_conv()
    layers = OrderedDict(model.named_children())
    layers["pool2"] = nn.Sequential(layers["pool2"], nn.Dropout(0.5))
    return nn.Sequential(layers)


def wide_mlp() -> nn.Module:
    """Hidden layers of 128 and 96 units: 288 units with the inputs."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 128), relu1=nn.ReLU(),
            fc2=nn.Linear(128, 96), relu2=nn.ReLU(), fc3=nn.Linear(96, 4),
        )
    )  # fmt: skip


def bits(text: str) -> Tensor:
    return torch.tensor([c == "1" for c in text])


def silenced(
    build: Callable[[], nn.Module], tensors: dict[str, Tensor], state: Tensor
) -> nn.Module:
    """A copy of `small_conv` with all that belongs to the units a state drops set to zero."""
    model = build()
    model.load_state_dict(tensors)
    for site, places in PLACES.items():
        for unit, place in enumerate(places):
            if state[place]:
                continue
            if site == "input:fc1":
                model.get_parameter("fc1.weight").data[:, unit] = 0.0
                continue
            for name in OWN[site]:
                model.get_parameter(name).data[unit] = 0.0
    return model


def state_of(trial: Trial) -> Tensor:
    return torch.cat([trial.masks[site] for site in PLACES])


def energy_by_hand(logits: list[list[float]], labels: list[int]) -> float:
    margins = []
    for row, label in zip(logits, labels, strict=True):
        rivals = [value for i, value in enumerate(row) if i != label]
        margins.append(row[label] - max(rivals))
    return -sum(margins) / len(margins)


def energy_of(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Energy of a whole network: statistics of the batch, no Dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        return energy_by_hand(model(x).double().tolist(), y.tolist())


def a_batch(trial: Trial, size: int = 32, start: int = 0) -> tuple[Tensor, Tensor]:
    part = trial._inputs.train.in_memory_format(trial.layout.has_convolutions)
    return part.batch(torch.arange(start, start + size))


def evolution_for(trial: Trial, size: int = 8, rescore: bool = False) -> Evolution:
    """An evolution of `small_conv` that has not begun."""
    assert tuple(s.name for s in trial.layout.sites) == tuple(PLACES)
    g = torch.Generator().manual_seed(3)
    states = torch.rand(size, 46, generator=g) < 0.5
    for places in PLACES.values():
        states[:, places[0]] = True
    return Evolution(
        sites=tuple(PLACES), sizes=(6, 8, 32), mutation=0.9, crossover=0.5, operator="diff",
        rescore=rescore, freeze_epoch=100, converged=0.0, generator=g, states=states,
        energies=torch.full((size,), torch.inf),
    )  # fmt: skip


@dataclasses.dataclass
class Watched(Evolution):
    """Logs what happens in a training, in order."""

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        super().batch(trial, x, y)
        trial._events.append(dict(best=float(self.energies.min()), mean=float(self.energies.mean()),
                  states=self.states.clone()))  # fmt: skip

    def epoch(self, trial: Trial, done: int) -> None:
        super().epoch(trial, done)
        trial._events.append(dict(end_of_epoch=done, state=state_of_sites(trial, self.sites), weights={
            n: p.detach().clone() for n, p in trial.model.named_parameters()
        }))  # fmt: skip


def state_of_sites(trial: Trial, sites: tuple[str, ...]) -> Tensor:
    return torch.cat([trial.masks[site] for site in sites])


def logged(trial: Trial, what: str) -> list[Any]:
    return [event[what] for event in trial._events if what in event]


def prune(method: EDropout, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Evolution:
    """Prune, and return the evolution as it was left."""
    seen: list[Callback] = []
    train = trial.train

    def recording(**arguments: object) -> None:
        seen.append(arguments["callback"])
        train(**arguments)

    monkeypatch.setattr(trial, "train", recording)
    method.prune(trial)
    (evolution,) = seen
    assert isinstance(evolution, Evolution)
    return evolution


# -- 1: energy -------------------------------------------------------------------------------


def test_energy_of_the_hand_case() -> None:
    logits = torch.tensor([[2.0, 1, 0, -1], [0, 3, 1, 2], [1, 1, 1, 5]])
    labels = torch.tensor([0, 3, 2])  # margins 1, -1 and -4
    assert float(evolve.energy(logits, labels)) == pytest.approx(4 / 3, abs=1e-6)
    shifted = logits + torch.tensor([[10.0], [-7], [0.5]])
    assert float(evolve.energy(shifted, labels)) == pytest.approx(4 / 3, abs=1e-5)
    assert float(evolve.energy(3 * logits, labels)) == pytest.approx(4, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 10])
def test_energy_equals_a_loop_over_images(classes: int) -> None:
    g = torch.Generator().manual_seed(classes)
    for size in (1, 7, 128):
        # Large logits too: the label must be left out, not just pushed down by a constant.
        logits = 1e5 * torch.randn(size, classes, generator=g, dtype=torch.float64)
        labels = torch.randint(classes, (size,), generator=g)
        expected = energy_by_hand(logits.tolist(), labels.tolist())
        assert float(evolve.energy(logits, labels)) == pytest.approx(expected, rel=1e-12)
    tied = torch.zeros(1, classes)
    assert float(evolve.energy(tied, torch.tensor([0]))) == 0


# -- 2: operators ----------------------------------------------------------------------------


def test_operators_on_the_hand_case() -> None:
    a, b, c = bits("1010"), bits("1100"), bits("1001")
    low, high = torch.full((4,), 0.01), torch.full((4,), 0.99)
    assert torch.equal(evolve.mutate(a, b, c, low, "diff", 0.9), bits("1111"))
    assert torch.equal(evolve.mutate(a, b, c, high, "code", 0.9), bits("0000"))
    # Nothing mutates: the two draws mean the opposite in the two operators.
    assert torch.equal(evolve.mutate(a, b, c, high, "diff", 0.9), a)
    assert torch.equal(evolve.mutate(a, b, c, low, "code", 0.9), a)
    own, mutant = bits("0110"), bits("1111")
    assert torch.equal(evolve.cross(own, mutant, low, 0.5), mutant)
    assert torch.equal(evolve.cross(own, mutant, high, 0.5), own)


@pytest.mark.parametrize("operator", ["diff", "code"])
def test_operators_follow_their_truth_table(operator: Operator) -> None:
    for a, b, c, mutates in itertools.product([False, True], repeat=4):
        if operator == "diff":
            u = 0.2 if mutates else 0.8
            expected = (not a) if mutates and b != c else a
        else:
            u = 0.8 if mutates else 0.2
            expected = ((not a) if b == c else False) if mutates else a
        one = [torch.tensor([bit]) for bit in (a, b, c)]
        found = evolve.mutate(*one, torch.tensor([u]), operator, 0.5)
        assert bool(found) == expected, (a, b, c, mutates)


def test_parents_are_three_different_others() -> None:
    g = torch.Generator().manual_seed(0)
    draws = 3000
    seen = torch.zeros(5, 3, 5)
    for _ in range(draws):
        parents = evolve.parents_of(5, g)
        for child, row in enumerate(parents.tolist()):
            assert len({child, *row}) == 4
            for slot, parent in enumerate(row):
                seen[child, slot, parent] += 1
    others = ~torch.eye(5, dtype=torch.bool)[:, None].expand(5, 3, 5)
    assert float((seen[others] / draws - 0.25).abs().max()) < 5 * math.sqrt(0.1875 / draws)


def test_four_states_are_enough_for_a_child() -> None:
    g = torch.Generator().manual_seed(0)
    assert {frozenset(row) for row in evolve.parents_of(4, g).tolist()} == {
        frozenset({0, 1, 2, 3}) - {child} for child in range(4)
    }
    on = Fixture(classes=10, task="classification", has_sites=True, recipe=Recipe())
    assert "three other parents" in EDropout(population=3).impossible(on)
    assert not EDropout(population=4).impossible(on)
    assert "no labels" in EDropout().impossible(dataclasses.replace(on, task="regression"))


def test_a_converged_population_is_at_rest_under_diff_only() -> None:
    g = torch.Generator().manual_seed(0)
    states = (torch.rand(1, 4000, generator=g) < 0.5).expand(8, 4000)
    assert torch.equal(evolve.offspring(states, "diff", 0.9, 0.5, g), states)
    flipped = evolve.offspring(states, "code", 0.9, 0.9, g) != states
    assert float(flipped.float().mean()) == pytest.approx(0.1 * 0.9, abs=0.01)


# -- 3: the first population -----------------------------------------------------------------


@pytest.mark.parametrize("p", [0.2, 0.4, 0.5, 0.6, 0.8])
def test_the_first_population_has_a_share_p_of_ones(p: float) -> None:
    g = torch.Generator().manual_seed(0)
    states = evolve.first_population(8, 6208, p, g)
    assert states.shape == (8, 6208)
    assert states.dtype == torch.bool
    sigma = math.sqrt(p * (1 - p) / (8 * 6208))
    assert abs(float(states.float().mean()) - p) < 4 * sigma
    # Bits are independent: two states differ in 2p(1-p) of them.
    differ = 2 * p * (1 - p)
    assert evolve.mean_hamming(states) == pytest.approx(differ, abs=0.01)


def test_a_layer_never_starts_empty() -> None:
    g = torch.Generator().manual_seed(0)
    states = evolve.first_population(2000, 6, 0.3, g)
    sizes = [2, 1, 3]
    mended = evolve.repair(states, sizes, g)
    counts = [0, 0]
    for before, after in zip(states.tolist(), mended.tolist(), strict=True):
        for start, stop in ((0, 2), (2, 3), (3, 6)):
            if any(before[start:stop]):
                assert after[start:stop] == before[start:stop]
            else:
                assert sum(after[start:stop]) == 1
                if start == 0:
                    counts[after.index(True)] += 1
    # Which unit is switched on is a fair lot.
    assert sum(counts) > 800
    assert abs(counts[0] - counts[1]) < 4 * math.sqrt(sum(counts))


@pytest.mark.parametrize("operator", ["diff", "code"])
def test_no_state_leaves_a_layer_empty_during_the_evolution(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, operator: Operator
) -> None:
    monkeypatch.setattr(edropout, "Evolution", Watched)
    trial = make_trial(normed_conv, epochs=4)
    EDropout(p=0.05, operator=operator, freeze=1.0, converged=0.0).prune(trial)
    populations = logged(trial, "states")
    assert len(populations) == 24
    narrow = 0
    for states in populations:
        for places in PLACES.values():
            counts = states[:, places[0] : places[-1] + 1].sum(1)
            assert int(counts.min()) > 0
            narrow += int((counts == 1).sum())
    assert narrow > 100  # the last unit of a layer was at stake


# -- 4: drift --------------------------------------------------------------------------------


def drift(operator: Operator, crossover: float) -> dict[int, tuple[float, float]]:
    """Kept share and Hamming distance by generation when each child wins by the toss of a coin."""
    g = torch.Generator().manual_seed(0)
    states = evolve.first_population(8, 4000, 0.5, g)
    found = {}
    for generation in range(1, 301):
        children = evolve.offspring(states, operator, 0.9, crossover, g)
        lots = torch.rand(2, 8, generator=g)
        states, _ = evolve.select(states, lots[0], children, lots[1])
        pairs = itertools.combinations(states, 2)
        if generation in (20, 100, 300):
            distance = [float((one != other).float().mean()) for one, other in pairs]
            found[generation] = (float(states.float().mean()), sum(distance) / len(distance))
            assert evolve.mean_hamming(states) == pytest.approx(found[generation][1], abs=1e-6)
    return found


def test_neutral_drift() -> None:
    diff, code = drift("diff", 0.5), drift("code", 0.9)
    for kept, _ in diff.values():
        assert kept == pytest.approx(0.5, abs=0.02)
    for kept, _ in code.values():
        assert 0.35 < kept < 0.45
    # The paper's operator comes to rest, the released code's never does.
    assert 0.3 < diff[20][1] < 0.48
    assert diff[100][1] < 0.25
    assert diff[300][1] < 0.06
    assert all(distance > 0.2 for _, distance in code.values())


# -- 5: selection ----------------------------------------------------------------------------


def test_selection_keeps_replaces_and_keeps() -> None:
    states, children = bits("111000").view(3, 2), bits("000111").view(3, 2)
    parents, offspring = torch.tensor([1.0, 2, 2]), torch.tensor([1.0, 1, 3])
    kept, energies = evolve.select(states, parents, children, offspring)
    assert torch.equal(kept, torch.stack([states[0], children[1], states[2]]))
    assert energies.tolist() == [1, 1, 2]


def test_a_slot_changes_only_for_a_lower_energy_and_parents_stay_stale(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(normed_conv)
    evolution = evolution_for(trial)
    tensors = trial.snapshot().tensors
    x, y = a_batch(trial)
    first = evolution.states.clone()
    born = [energy_of(silenced(normed_conv, tensors, s), x, y) for s in first]
    replaced = 0
    for step in range(6):
        before, energies = evolution.states.clone(), evolution.energies.clone()
        if step == 0:  # on the first batch the parents are scored too
            energies = torch.tensor(born)
        x, y = a_batch(trial, start=16 * step)
        evolution.batch(trial, x, y)
        for slot in range(8):
            if torch.equal(evolution.states[slot], before[slot]):
                # Not scored again on this batch, on which its energy is another one.
                expected = pytest.approx(born[slot], abs=1e-4) if step == 0 else energies[slot]
                assert float(evolution.energies[slot]) == expected
                continue
            replaced += 1
            now = energy_of(silenced(normed_conv, tensors, evolution.states[slot]), x, y)
            assert float(evolution.energies[slot]) == pytest.approx(now, abs=1e-4)
            assert now < energies[slot]
    assert evolution.generations == 6
    assert 0 < replaced < 6 * 8


def test_rescored_parents_have_this_batchs_energy(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv)
    evolution = evolution_for(trial, rescore=True)
    tensors = trial.snapshot().tensors
    for step in range(3):
        x, y = a_batch(trial, start=32 * step)
        evolution.batch(trial, x, y)
        for state, energy in zip(evolution.states, evolution.energies, strict=True):
            now = energy_of(silenced(normed_conv, tensors, state), x, y)
            assert float(energy) == pytest.approx(now, abs=1e-4)


@pytest.mark.parametrize("rescore", [False, True])
def test_the_best_energy_never_rises_over_500_steps(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, rescore: bool
) -> None:
    monkeypatch.setattr(edropout, "Evolution", Watched)
    trial = make_trial(epochs=21, batch_size=8)
    EDropout(rescore=rescore, freeze=1.0, converged=0.0).prune(trial)
    best, mean = logged(trial, "best"), logged(trial, "mean")
    assert len(best) == 21 * 24
    rises = sum(later > sooner for sooner, later in itertools.pairwise(best))
    if rescore:
        assert rises > 100  # easy and hard batches take turns
    else:
        assert rises == 0
        assert sum(later > sooner for sooner, later in itertools.pairwise(mean)) == 0
        assert best[-1] < best[0]


# -- 7: a gradient step ----------------------------------------------------------------------


@dataclasses.dataclass
class Step(Callback):
    """Logs the gradients of a step."""

    def gradients(self, trial: Trial) -> None:
        trial._events.append(
            dict(gradients={n: p.grad.clone() for n, p in trial.model.named_parameters()})
        )


def dropped_entries(trial: Trial, state: Tensor) -> dict[str, Tensor]:
    """Which entries touch a dropped unit of `small_conv`: its own, and what other layers read of it."""
    gone = {n: torch.zeros(p.shape, dtype=torch.bool) for n, p in trial.model.named_parameters()}
    for unit, place in enumerate(PLACES["conv1"]):
        if not state[place]:
            for name in OWN["conv1"]:
                gone[name][unit] = True
            gone["conv2.weight"][:, unit] = True
    for unit, place in enumerate(PLACES["conv2"]):
        if not state[place]:
            for name in OWN["conv2"]:
                gone[name][unit] = True
            gone["fc1.weight"][:, 4 * unit : 4 * unit + 4] = True  # its 2x2 map, flattened
    for unit, place in enumerate(PLACES["input:fc1"]):
        if not state[place]:
            gone["fc1.weight"][:, unit] = True
    return gone


def test_one_step_moves_kept_entries_as_in_the_zeroed_network_and_no_others(
    make_trial: MakeTrial,
) -> None:
    # One batch of all images: one step, and their order does not matter.
    trial = make_trial(normed_conv, epochs=1, batch_size=192, weight_decay=0.0)
    state = torch.rand(46, generator=torch.Generator().manual_seed(1)) < 0.6
    for site, places in PLACES.items():
        trial.masks[site] = state[places[0] : places[-1] + 1]
    before = trial.snapshot().tensors
    x, y = a_batch(trial, size=192)
    network = silenced(normed_conv, before, state).train()
    F.cross_entropy(network(x), y).backward()

    trial.train(mode="gate", callback=Step())
    (gradients,) = logged(trial, "gradients")
    moved = 0
    for name, gone in dropped_entries(trial, state).items():
        assert gone.any() or name == "fc1.bias"
        after, reference = trial.model.get_parameter(name).detach(), network.get_parameter(name)
        assert torch.equal(after[gone], before[name][gone]), name
        assert not gradients[name][gone].any(), name
        kept = ~gone
        torch.testing.assert_close(
            gradients[name][kept], reference.grad[kept], rtol=1e-4, atol=1e-6
        )
        # Nesterov's first step: lr (1 + momentum) times the gradient.
        expected = before[name][kept] - 0.05 * 1.9 * reference.grad[kept]
        torch.testing.assert_close(after[kept], expected, rtol=1e-4, atol=1e-6)
        moved += int((after[kept] != before[name][kept]).sum())
    assert moved > 200


def test_a_unit_that_returns_has_the_weights_it_left_with(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv, epochs=1)
    for site, places in PLACES.items():
        mask = torch.ones(len(places), dtype=torch.bool)
        mask[1] = False
        trial.masks[site] = mask
    before = trial.snapshot().tensors
    trial.train(mode="gate")
    trial.masks.load({})
    weight = trial.model.get_parameter("conv1.weight").detach()
    assert torch.equal(weight[1], before["conv1.weight"][1])
    assert not torch.equal(weight[0], before["conv1.weight"][0])
    trial.train(mode="gate")
    assert not torch.equal(weight[1], before["conv1.weight"][1])


# -- 8: evaluation leaves no trace -----------------------------------------------------------


def test_scoring_a_population_leaves_the_network_as_it_was(make_trial: MakeTrial) -> None:
    trial = make_trial(conv_with_dropout)
    evolution = evolution_for(trial)
    trial.model.train()
    trial.model.bn1.eval()  # flags that are not all the same
    before = trial.snapshot().tensors
    flags = {name: module.training for name, module in trial.model.named_modules()}
    gates = {name: len(m._forward_hooks) for name, m in trial.model.named_modules()}
    for step in range(3):
        evolution.batch(trial, *a_batch(trial, start=32 * step))
    after = trial.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name: m.training for name, m in trial.model.named_modules()} == flags
    assert {name: len(m._forward_hooks) for name, m in trial.model.named_modules()} == gates
    assert all(p.grad is None for p in trial.model.parameters())
    trial.model.train()
    trial.model(a_batch(trial)[0])  # and the running statistics still learn
    assert not torch.equal(trial.model.bn1.running_mean, before["bn1.running_mean"])


def test_running_statistics_learn_from_training_passes_only(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    momentum = 0.1
    trial = make_trial(normed_conv, epochs=1, batch_size=192)
    x, _ = a_batch(trial, size=192)
    before = trial.snapshot().tensors
    # The statistics of the first layer do not depend on masks: one step makes one update.
    expected = (1 - momentum) * before["bn1.running_mean"] + momentum * (
        F.conv2d(x, before["conv1.weight"], before["conv1.bias"], padding=1).mean((0, 2, 3))
    )

    @dataclasses.dataclass
    class AfterStep(Watched):
        def step(self, trial: Trial, lr: float) -> None:
            seen.append(int(trial.model.bn1.num_batches_tracked))
            torch.testing.assert_close(trial.model.bn1.running_mean, expected)

    monkeypatch.setattr(edropout, "Evolution", AfterStep)
    EDropout().prune(trial)
    assert seen == [1]


def forward_by_hand(tensors: dict[str, Tensor], state: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Statistics of `small_conv` over one batch under a state: means and unbiased variances."""
    found = {}
    for layer, site in (("1", "conv1"), ("2", "conv2")):
        x = F.conv2d(x, tensors[f"conv{layer}.weight"], tensors[f"conv{layer}.bias"], padding=1)
        found[f"bn{layer}.running_mean"] = x.mean((0, 2, 3))
        found[f"bn{layer}.running_var"] = x.var((0, 2, 3))
        x = F.batch_norm(x, None, None, tensors[f"bn{layer}.weight"], tensors[f"bn{layer}.bias"],
                         training=True)  # fmt: skip
        places = PLACES[site]
        x = F.max_pool2d(x.relu(), 2) * state[places[0] : places[-1] + 1].view(-1, 1, 1)
    return found


def test_full_and_pruned_networks_have_their_own_outputs_and_statistics(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(normed_conv, epochs=8, batch_size=192)
    EDropout().prune(trial)
    state, final, full = state_of(trial), trial.snapshot().tensors, trial._kept["full"]
    assert 0 < int(state[:6].sum()) < 6
    assert full.masks == {}
    x, _ = a_batch(trial, size=192)
    for name, value in forward_by_hand(final, state, x).items():
        torch.testing.assert_close(final[name], value, rtol=1e-4, atol=1e-5)
    for name, value in forward_by_hand(final, torch.ones(46), x).items():
        torch.testing.assert_close(full.tensors[name], value, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        full.tensors["bn2.running_mean"], final["bn2.running_mean"], rtol=0.01
    )
    for name, parameter in trial.model.named_parameters():
        assert torch.equal(full.tensors[name], parameter), name
    whole = normed_conv()
    whole.load_state_dict(full.tensors)
    pruned = silenced(normed_conv, final, state)
    with torch.no_grad():
        difference = whole.eval()(x) - pruned.eval()(x)
    assert float(difference.abs().max()) > 0.1


def test_evaluating_under_the_final_state_changes_nothing(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv, epochs=2)
    EDropout().prune(trial)
    for training in (True, False):
        trial.model.train(training)
        before = trial.snapshot().tensors
        found = trial.validate()
        after = trial.model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert all(module.training == training for module in trial.model.modules())
        assert found.n == 64
    # What was evaluated is the pruned network, though its dropped weights are all still there.
    gone = dropped_entries(trial, state_of(trial))
    assert after["conv1.weight"][gone["conv1.weight"]].all()
    part = trial._inputs.validation.in_memory_format(True)
    x, y = part.batch(torch.arange(64))
    with torch.no_grad():
        logits = silenced(normed_conv, before, state_of(trial)).eval()(x)
    assert found.loss == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-4)
    assert found.top1 == 100 * int((logits.argmax(1) == y).sum()) / 64


# -- 9: the freeze ---------------------------------------------------------------------------


def test_after_the_freeze_masks_stand_still_and_weights_do_not(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edropout, "Evolution", Watched)
    events: list[Any] = []

    def watched() -> nn.Module:
        model = normed_conv()
        model.register_forward_pre_hook(
            lambda module, args: events.append(dict(forward=len(args[0])))
        )
        return model

    trial = make_trial(watched, epochs=6, schedule="constant", lr=0.01)
    trial._events = events
    events.clear()  # what the trial itself looked at
    EDropout(freeze=0.5, converged=0.0).prune(trial)
    passes, images = [0], [0]
    ends = []
    for event in trial._events:
        if "forward" in event:
            passes[-1] += 1
            images[-1] += event["forward"]
        if "end_of_epoch" in event:
            ends.append(event)
            passes.append(0)
            images.append(0)
    # 6 batches of 32: 8 children and one training pass each; the first batch scores the parents
    # too; from the fourth epoch on there are training passes alone.
    assert passes[:6] == [6 * 9 + 8, 6 * 9, 6 * 9, 6, 6, 6]
    assert images[:6] == [32 * n for n in passes[:6]]
    # The rest are the statistics of the final and of the full network: one pass over the data each.
    assert images[6:] == [2 * 192]
    # The pass for the statistics of the whole state is no part of the final network's cost.
    assert trial._ledger.cost.images_forward == sum(images) - len(trial._inputs.train)
    (ended,) = [event for event in trial._events if event.get("event") == "evolution ended"]
    assert ended["rule"] == "epoch 3"
    assert ended["generations"] == 18

    frozen = ends[2]
    assert not torch.equal(ends[1]["state"], frozen["state"])
    gone = dropped_entries(trial, frozen["state"])
    distances = []
    for later in ends[3:]:
        assert torch.equal(later["state"], frozen["state"])
        squares = 0.0
        for name, weight in later["weights"].items():
            was = frozen["weights"][name]
            assert torch.equal(weight[gone[name]], was[gone[name]]), name
            squares += float((weight - was)[~gone[name]].square().sum())
        distances.append(math.sqrt(squares))
    assert 0 < distances[0] < distances[1] < distances[2]
    assert torch.equal(state_of(trial), frozen["state"])


def test_a_population_that_agrees_ends_the_evolution_early(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(normed_conv, epochs=4)
    evolution = prune(EDropout(converged=1.0), trial, monkeypatch)
    assert evolution.rule == "population converged at epoch 1"
    assert evolution.generations == 6
    unmet = make_trial(normed_conv, epochs=4)
    assert prune(EDropout(converged=0.0), unmet, monkeypatch).rule == "epoch 2"


def test_the_mask_in_force_is_the_state_of_lowest_energy(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv)
    evolution = evolution_for(trial, rescore=True)  # then the best one is often another
    chosen = set()
    for step in range(5):
        evolution.batch(trial, *a_batch(trial, start=32 * step))
        energies = evolution.energies.tolist()
        best = min(range(8), key=lambda i: energies[i])
        assert torch.equal(state_of(trial), evolution.states[best])
        chosen.add(tuple(state_of(trial).tolist()))
    assert len(chosen) > 1


# -- 11: what is kept ------------------------------------------------------------------------


def kept_share(trial: Trial) -> float:
    masks = [trial.masks[site.name] for site in trial.layout.sites]
    return sum(int(m.sum()) for m in masks) / sum(len(m) for m in masks)


def test_about_half_of_the_units_of_a_wide_network_stay(make_trial: MakeTrial) -> None:
    shares = []
    for seed in range(3):
        trial = make_trial(wide_mlp, seed=seed, epochs=8)
        EDropout().prune(trial)
        shares.append(kept_share(trial))
        assert 0.45 <= shares[-1] <= 0.60
    assert len(set(shares)) > 1


def test_the_share_kept_grows_with_p(make_trial: MakeTrial) -> None:
    shares = []
    for p in (0.2, 0.5, 0.8):
        trial = make_trial(wide_mlp, epochs=4)
        EDropout(p=p).prune(trial)
        shares.append(kept_share(trial))
    # Differences between states flip bits both ways, so that all shares come nearer to a half.
    assert 0.2 < shares[0] < shares[1] - 0.1
    assert shares[1] + 0.1 < shares[2] < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_about_half_of_the_units_of_lenet_300_100_stay(
    make_trial: MakeTrial, tmp_path: Path, seed: int
) -> None:
    dataset, cpu = Mnist5k(), torch.device("cpu")
    split = dataset.load(tmp_path)
    torch.manual_seed(seed)
    model = lenet_300_100(10, (1, 28, 28))
    setting = dataclasses.replace(
        make_trial(seed=seed)._inputs,
        recipe=about(lenet_300_100).recipe,
        train=Part.of(split.train, dataset, None, cpu),
        validation=Part.of(split.validation, dataset, None, cpu),
        environment={"network": "lenet_300_100", "seed": seed},
    )
    trial = RunningTrial(model, layout_of(model, torch.zeros(1, 1, 28, 28)), setting)
    EDropout().prune(trial)
    assert {s.name: s.size for s in trial.layout.sites} == {
        "input:fc1": 784, "fc1": 300, "fc2": 100,
    }  # fmt: skip
    assert 0.45 <= kept_share(trial) <= 0.60
    assert trial.validate().top1 > 80  # and the half that stays has learned


# -- 12: determinism -------------------------------------------------------------------------


def fresh(make_trial: MakeTrial, run: int, seed: int = 0) -> Trial:
    """A trial that finds nothing in the store that an earlier run left there."""
    trial = make_trial(normed_conv, seed=seed, epochs=3)
    environment = trial._inputs.environment | {"run": run}
    trial._inputs = dataclasses.replace(trial._inputs, environment=environment)
    return trial


@pytest.mark.parametrize("operator", ["diff", "code"])
def test_the_same_seed_gives_the_same_states_and_energies(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, operator: Operator
) -> None:
    method = EDropout(operator=operator)
    runs = []
    for run, seed in enumerate((0, 0, 1)):
        trial = fresh(make_trial, run, seed)
        torch.manual_seed(run)  # nothing may come from the global generators
        random.seed(run)
        evolution = prune(method, trial, monkeypatch)
        assert trial._ledger.work.phases_reused == 0
        runs.append((evolution, trial))
    (one, first), (two, second), (other, _) = runs
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.energies, two.energies)
    assert (one.rule, one.generations) == (two.rule, two.generations) == ("epoch 2", 12)
    assert torch.equal(one.generator.get_state(), two.generator.get_state())
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(state_of(first), state_of(second))
    assert not torch.equal(one.states, other.states)


def test_a_run_found_in_the_store_ends_as_the_computed_one(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = fresh(make_trial, 0), fresh(make_trial, 0)
    one = prune(EDropout(), first, monkeypatch)
    two = prune(EDropout(), again, monkeypatch)
    assert again._ledger.work.phases_computed == 0
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.energies, two.energies)
    assert (one.rule, one.generations) == (two.rule, two.generations)
    assert torch.equal(state_of(first), state_of(again))
    ours, theirs = first._kept["full"].tensors, again._kept["full"].tensors
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert first._events == again._events


@pytest.mark.parametrize("build", [normed_conv, conv_with_dropout])
def test_energies_under_gates_are_those_of_zeroed_copies(
    make_trial: MakeTrial, build: Callable[[], nn.Module]
) -> None:
    trial = make_trial(build)
    evolution = evolution_for(trial)
    tensors = trial.snapshot().tensors
    x, y = a_batch(trial)
    evolution.batch(trial, x, y)
    copies = [silenced(build, tensors, state) for state in evolution.states]
    expected = [energy_of(copy, x, y) for copy in copies]
    torch.testing.assert_close(evolution.energies, torch.tensor(expected), rtol=0, atol=1e-4)
    assert len(set(expected)) == 8
    # Running statistics would give other energies.
    with torch.no_grad():
        logits = [copy.eval()(x).tolist() for copy in copies]
    wrong = torch.tensor([energy_by_hand(rows, y.tolist()) for rows in logits])
    assert float((wrong - evolution.energies).abs().max()) > 0.1
