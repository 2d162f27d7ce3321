"""DropNeuron: groups, their proximal maps and gradients, dropout on hidden units, options."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import Blobs, MakeTrial, small_conv, small_mlp
from torch import Tensor, nn

from bench.api import Fixture, Recipe, UsageError
from bench.data.batches import Part
from bench.methods import _groups
from bench.methods._dropout import without_own_dropout
from bench.methods._penalty import Penalty
from bench.methods.dropneuron import DropNeuron, in_groups, out_groups
from bench.training.loop import Training
from bench.training.trial import RunningTrial
from bench.training.trial_records import TrainingArguments

# The checks write weights as (inputs, outputs); torch has them the other way round.
HAND = torch.tensor([[3.0, 4, 0], [4, -3, 12]], dtype=torch.float64).T.contiguous()
ONE_STEP = dict(
    epochs=1, batch_size=192, momentum=0.0, nesterov=False, weight_decay=0.0, schedule="constant",
    lr=0.01,
)  # fmt: skip
steady = settings(deadline=None, derandomize=True, database=None, max_examples=15)

# -- references: groups spelled out one by one -----------------------------------------------------

Family = list[tuple[np.ndarray, float]]


def families_of(shape: tuple[int, ...], columns: int, sized: bool) -> tuple[Family, Family]:
    """In-groups and out-groups as flat positions, each with the factor on its norm."""
    place = np.arange(math.prod(shape)).reshape(shape)
    into = [place[o].ravel() for o in range(shape[0])]
    units = shape[1] // columns
    out_of = [place[:, u * columns : (u + 1) * columns].ravel() for u in range(units)]
    sizes = [[math.sqrt(len(g)) if sized else 1.0 for g in family] for family in (into, out_of)]
    return list(zip(into, sizes[0], strict=True)), list(zip(out_of, sizes[1], strict=True))


def sum_of_norms(w: np.ndarray, family: Family) -> float:
    return sum(factor * math.sqrt(sum(v * v for v in w.ravel()[g])) for g, factor in family)


def direction(w: Tensor, family: Family) -> Tensor:
    """The gradient of a sum of norms: each weight over the norm of its group."""
    flat = w.double().flatten()
    found = torch.zeros_like(flat)
    for g, factor in family:
        norm = flat[g].norm()
        if norm > 0:
            found[g] += factor * flat[g] / norm
    return found.view_as(w)


def optimum(w: np.ndarray, families: list[Family], step: float, l1: float) -> np.ndarray:
    """Minimise 0.5 |X - W|^2 + step x norms + l1 x absolutes, through the dual, until it is proved.

    The dual is min 0.5 |W - sum of D|^2, one D per family inside its balls: projected gradients with
    momentum. The gap between the two values bounds the distance to the optimum.
    """
    flat = w.ravel().astype(np.float64)
    duals = np.zeros((len(families) + 1, len(flat)))
    ahead, moment = duals.copy(), 1.0
    for _ in range(40_000):
        x = flat - ahead.sum(0)
        new = ahead + x / len(duals)
        new[-1] = np.clip(new[-1], -l1, l1)
        for dual, family in zip(new, families, strict=False):
            for g, factor in family:
                norm = math.sqrt(float(dual[g] @ dual[g]))
                if norm > step * factor:
                    dual[g] *= step * factor / norm
        following = (1 + math.sqrt(1 + 4 * moment**2)) / 2
        ahead, duals, moment = new + (moment - 1) / following * (new - duals), new, following
        x = flat - duals.sum(0)
        if objective(x, flat, families, step, l1) - 0.5 * (flat @ flat - x @ x) < 1e-12:
            return x.reshape(w.shape)
    raise AssertionError("the reference did not converge")


def objective(x: Any, w: Any, families: list[Family], step: float, l1: float) -> float:
    x, w = np.asarray(x).ravel(), np.asarray(w).ravel()
    norms = step * sum(sum_of_norms(x, family) for family in families)
    return float(0.5 * ((x - w) ** 2).sum() + norms + l1 * np.abs(x).sum())


@st.composite
def weights(draw: st.DrawFn) -> tuple[Tensor, int]:
    """A linear or convolutional weight, some of its groups zero; how many inputs are one unit."""
    columns = draw(st.sampled_from([1, 1, 2, 3]))
    shape: tuple[int, ...] = (draw(st.integers(1, 4)), columns * draw(st.integers(1, 3)))
    if draw(st.booleans()):
        shape += (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    weight = torch.randn(shape, generator=g, dtype=torch.float64)
    weight[torch.rand(shape[0], generator=g) < 0.1] = 0
    return weight, columns


# -- 1 to 3: values and gradients ------------------------------------------------------------------


def test_values_of_the_hand_case() -> None:
    assert float(in_groups(HAND)) == pytest.approx(22, abs=1e-12)
    assert float(out_groups(HAND)) == pytest.approx(18, abs=1e-12)
    assert float(HAND.abs().sum()) == 26
    assert float(HAND.square().sum() / 2) == 97
    assert float(in_groups(HAND, size_weighted=True)) == pytest.approx(31.1127, abs=1e-4)
    assert float(out_groups(HAND, size_weighted=True)) == pytest.approx(31.1769, abs=1e-4)


def test_gradients_of_the_hand_case() -> None:
    for value, expected in (
        (in_groups, [[0.6, 0.8, 0], [0.8, -0.6, 1]]),
        (out_groups, [[0.6, 0.8, 0], [0.307692, -0.230769, 0.923077]]),
    ):
        weight = HAND.clone().requires_grad_()
        value(weight).backward()
        assert weight.grad is not None
        assert torch.allclose(weight.grad.T, torch.tensor(expected).double(), atol=1e-6)


def test_a_dead_group_has_a_finite_gradient() -> None:
    weight = torch.tensor([[3.0, 0, 4], [0, 0, 0]]).T.contiguous().requires_grad_()
    into, out_of = in_groups(weight), out_groups(weight)
    assert (into.item(), out_of.item()) == (7, 5)
    (into + out_of).backward()
    assert weight.grad is not None
    # 0 is a subgradient where all of a group is zero; the naive root gives NaN.
    assert torch.allclose(weight.grad.T, torch.tensor([[1.6, 0, 1.8], [0, 0, 0]]))


@steady
@given(weights(), st.booleans())
def test_values_and_gradients_equal_loops(made: tuple[Tensor, int], sized: bool) -> None:
    weight, columns = made
    into, out_of = families_of(tuple(weight.shape), columns, sized)
    for family, arguments, function in (
        (into, {}, in_groups), (out_of, {"columns": columns}, out_groups),
    ):  # fmt: skip
        variable = weight.clone().requires_grad_()
        value = function(variable, size_weighted=sized, **arguments)
        assert value.item() == pytest.approx(sum_of_norms(weight.numpy(), family), abs=1e-11)
        value.backward()
        assert variable.grad is not None
        assert torch.allclose(variable.grad, direction(weight, family), atol=1e-12)
        # Finite differences where the function is smooth.
        if bool((weight != 0).all()):
            e = torch.zeros_like(weight).flatten()
            e[0] = 1e-6
            ends = [float(function(weight + s * e.view_as(weight), size_weighted=sized, **arguments))
                    for s in (1, -1)]  # fmt: skip
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(
                float(variable.grad.flatten()[0]), abs=1e-5
            )


# -- 4: proximal maps ------------------------------------------------------------------------------


def test_proximal_steps_of_the_hand_case() -> None:
    into = _groups.prox_in_groups(HAND, 6).T
    assert torch.allclose(into, torch.tensor([[0, 0, 0], [0, 0, 6.0]]).double())
    out_of = _groups.prox_out_groups(HAND, 6).T
    expected = [[0, 0, 0], [2.153846, -1.615385, 6.461538]]
    assert torch.allclose(out_of, torch.tensor(expected).double(), atol=1e-6)


@pytest.mark.parametrize(
    ("step", "rounds", "expected"),
    [
        (1, _groups.ROUNDS, [[1.8557, 2.4499, 0], [2.8883, -2.1414, 10.0584]]),
        (3, 50, [[0.1901, 0.2018, 0], [0.7338, -0.3159, 6.0260]]),
    ],
)
def test_both_families_of_the_hand_case(
    step: float, rounds: int, expected: list[list[float]]
) -> None:
    found = _groups.prox_both(HAND, step, rounds=rounds).T
    assert torch.allclose(found, torch.tensor(expected).double(), atol=1e-3)


@steady
@given(weights(), st.booleans(), st.floats(0, 2.5), st.sampled_from([0.0, 0.3]))
def test_proximal_maps_are_minima(
    made: tuple[Tensor, int], sized: bool, step: float, l1: float
) -> None:
    weight, columns = made
    into, out_of = families_of(tuple(weight.shape), columns, sized)
    after_l1 = _groups.prox_l1(weight, l1)
    found = {
        "in": _groups.prox_in_groups(after_l1, step, size_weighted=sized),
        "out": _groups.prox_out_groups(after_l1, step, size_weighted=sized, columns=columns),
        "both": _groups.prox_both(
            weight, step, l1, size_weighted=sized, columns=columns, rounds=3000
        ),
    }
    for name, families in (("in", [into]), ("out", [out_of]), ("both", [into, out_of])):
        best = optimum(weight.numpy(), families, step, l1)
        assert found[name].shape == weight.shape
        assert float((found[name] - torch.from_numpy(best)).abs().max()) < 3e-6, name


@steady
@given(st.integers(0, 10**6), st.sampled_from([1e-3, 1e-2, 0.1]), st.sampled_from([0.0, 0.01]))
def test_five_rounds_are_as_good_as_exact_for_a_small_step(
    seed: int, step: float, l1: float
) -> None:
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 5, generator=g, dtype=torch.float64)
    families = list(families_of((6, 5), 1, sized=False))
    best = optimum(weight.numpy(), families, step, l1)
    found = _groups.prox_both(weight, step, l1)
    assert float((found - torch.from_numpy(best)).abs().max()) < 1e-5 * max(1, step / 0.01)
    assert objective(found, weight, families, step, l1) <= 1e-9 + objective(
        best, weight, families, step, l1
    )


@steady
@given(weights(), st.floats(0, 3))
def test_a_group_that_one_family_empties_is_exactly_zero(
    made: tuple[Tensor, int], step: float
) -> None:
    weight, columns = made
    float32 = weight.float()
    both = _groups.prox_both(float32, step, columns=columns)
    assert both.dtype == torch.float32
    assert bool(both.isfinite().all())
    assert bool((both.double() * weight >= 0).all())  # no weight changes sign
    assert torch.equal(_groups.prox_both(torch.zeros_like(weight), step), torch.zeros_like(weight))
    norms = weight.flatten(1).norm(dim=1)
    emptied = _groups.prox_in_groups(weight, step).flatten(1).norm(dim=1) == 0
    assert torch.equal(emptied, norms <= step)


# -- dropout ---------------------------------------------------------------------------------------


@contextmanager
def dropping(trial: RunningTrial, keep_prob: float | None) -> Iterator[None]:
    """What DropNeuron puts around its training, and its training around every epoch."""
    penalty = DropNeuron(keep_prob=keep_prob).penalty(trial)
    cpu = torch.device("cpu")
    arguments = TrainingArguments(
        trial.recipe, 0, 0, 0, 1, 1, 1.0, None, "hard", nn.functional.cross_entropy
    )
    part = Part.of(Blobs().load(Path()).train, Blobs(), None, cpu)
    training = Training(arguments, trial.model, trial.layout, trial.masks, part, penalty, trial)
    with without_own_dropout(trial, keep_prob is not None), training._changed_inputs():
        yield


def mlp_with_dropout() -> nn.Module:
    model = small_mlp()
    model.relu1 = nn.Sequential(nn.ReLU(), nn.Dropout(0.3))
    model.fc1.weight.data *= 10  # hidden values far from 0
    return model


def conv_with_two_linear() -> nn.Module:
    model = small_conv()
    return nn.Sequential(*model, nn.ReLU(), nn.Dropout(0.7), nn.Linear(4, 4))


class Reads:
    """What every linear layer is given."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[str, Tensor] = {}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(partial(self._note, name))

    def _note(self, name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.seen[name] = inputs[0].detach().clone()


def test_hidden_linear_units_alone_are_dropped_and_the_rest_scaled(make_trial: MakeTrial) -> None:
    trial = make_trial(mlp_with_dropout)
    model, reads = trial.model, Reads(trial.model)
    x = torch.randn(400, 1, 8, 8)
    model.eval()(x)
    whole = dict(reads.seen)
    hooks = {n: len(m._forward_pre_hooks) for n, m in model.named_modules()}
    torch.manual_seed(0)
    with dropping(trial, 0.8):
        assert model.relu1[1].p == 0
        model.eval()(x)
        assert torch.equal(reads.seen["fc2"], whole["fc2"])  # only in training
        model.train()(x)
        assert torch.equal(reads.seen["fc1"], whole["fc1"])  # pixels stay
        found, expected = reads.seen["fc2"], whole["fc2"] / 0.8
        kept = found != 0
        assert torch.allclose(found[kept], expected[kept])
        was = expected != 0
        spread = math.sqrt(0.8 * 0.2 / int(was.sum()))
        assert float(kept[was].float().mean()) == pytest.approx(0.8, abs=5 * spread)
        assert bool((reads.seen["fc3"] == 0).any(dim=1).all())
    assert model.relu1[1].p == 0.3
    assert {n: len(m._forward_pre_hooks) for n, m in model.named_modules()} == hooks


def test_features_of_convolutions_are_not_dropped(make_trial: MakeTrial) -> None:
    trial = make_trial(conv_with_two_linear)
    linear = [n for n, m in trial.model.named_modules() if isinstance(m, nn.Linear)]
    with dropping(trial, 0.5):
        assert [len(trial.model.get_submodule(n)._forward_pre_hooks) for n in linear] == [0, 1]


def test_dropout_is_taken_off_after_an_error_and_none_changes_nothing(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(mlp_with_dropout)
    with pytest.raises(RuntimeError, match="on purpose"), dropping(trial, 0.5):
        raise RuntimeError("on purpose")
    with dropping(trial, None):
        assert trial.model.relu1[1].p == 0.3
        assert not trial.model.fc2._forward_pre_hooks
    assert trial.model.relu1[1].p == 0.3


def test_dropout_is_drawn_from_the_seed_and_keeping_all_is_no_dropout(
    make_trial: MakeTrial,
) -> None:
    def trained(seed: int, keep_prob: float | None, build: Any = small_mlp) -> Tensor:
        trial = make_trial(build, seed=seed, epochs=2)
        for phase in trial._inputs.store.folder.glob("*.safetensors"):  # nothing is reused
            phase.unlink()
        DropNeuron(keep_prob=keep_prob).prune(trial)
        assert trial._ledger.work.trainings == 1
        return trial._kept["before_pruning"].tensors["fc2.weight"]

    assert torch.equal(trained(3, 0.5), trained(3, 0.5))
    assert not torch.equal(trained(3, 0.5), trained(3, 0.6))
    assert torch.equal(trained(3, 1.0), trained(3, None))
    assert not torch.equal(trained(3, 1.0, mlp_with_dropout), trained(3, None, mlp_with_dropout))


# -- options ---------------------------------------------------------------------------------------


def test_options_that_cannot_work_are_refused_in_a_sentence(make_trial: MakeTrial) -> None:
    on = Fixture(classes=10, task="classification", has_sites=True, recipe=Recipe())
    adam = Fixture(10, "classification", True, Recipe(optimizer="adam"))
    assert not DropNeuron().impossible(on)
    assert not DropNeuron(proximal=True).impossible(on)
    assert not DropNeuron().impossible(adam)
    assert "adam" in DropNeuron(proximal=True).impossible(adam)
    for name, value in product(("l1", "l2", "group", "scale", "threshold"), (-1e-9, -3.0)):
        assert name in DropNeuron(**{name: value}).impossible(on)
    for keep_prob in (-0.1, 0.0, 1.5):
        assert "probability" in DropNeuron(keep_prob=keep_prob).impossible(on)
    with pytest.raises(UsageError, match="names 'fc9', but the network's are fc1, fc2, fc3"):
        DropNeuron(layers="fc1+fc9").penalty(make_trial())


CHANGES: dict[str, Any] = {
    "l1": 0.5, "l2": 0.5, "group": 0.5, "grouped": ("fc1",), "columns": (2, 1, 1),
    "parts": (2, 1, 1),
    "single": ("fc1",), "kept_outputs": (), "families": "in", "size_weighted": True,
    "proximal": True, "keep_prob": 0.5,
}  # fmt: skip


def test_every_field_of_the_penalty_is_part_of_a_trainings_key(make_trial: MakeTrial) -> None:
    def train(**changes: Any) -> int:
        trial = make_trial(**ONE_STEP)
        own = DropNeuron(l2=0.1, group=1.0).penalty(trial)
        trial.train(callback=Penalty(**vars(own) | changes))
        return trial._ledger.work.trainings

    assert set(CHANGES) == set(Penalty.__dataclass_fields__)
    assert train() == 1
    assert train() == 0
    for name, value in CHANGES.items():
        extra = {"columns": (1,), "parts": (1,)} if name == "grouped" else {}
        assert train(**{name: value} | extra) == 1, name
        assert train(**{name: value} | extra) == 0, name
