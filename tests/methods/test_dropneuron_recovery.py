"""DropNeuron: what a training under its penalty does, thresholds, and recovery of a sparse truth."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import MakeTrial, randomise_norms, small_conv, small_mlp
from test_dropneuron import ONE_STEP, direction, families_of, optimum, sum_of_norms
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Trial, TrialFailed, UsageError
from bench.methods.dropneuron import DropNeuron, in_groups, out_groups
from bench.methods.l1 import L1
from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.records import ResultRecord
from bench.store.results import Results
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.training.evaluation import evaluate

# -- the penalty in a training ---------------------------------------------------------------------


def named_mlp() -> nn.Module:
    """`small_mlp`, smooth, so that a gradient does not hang on the sign of a rounding error."""
    model = small_mlp()
    model.relu1, model.relu2 = nn.Tanh(), nn.Tanh()
    return model


def data_gradients(trial: Trial) -> dict[str, Tensor]:
    """Gradients of the mean cross-entropy over all training images, by autograd alone."""
    part = trial._inputs.train.in_memory_format(trial.layout.has_convolutions)
    x, y = part.batch(torch.arange(len(part)))
    parameters = dict(trial.model.named_parameters())
    loss = F.cross_entropy(trial.model.train()(x), y)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def layers_and_columns(trial: Trial, method: DropNeuron) -> Iterator[tuple[str, int]]:
    linear = [n for n, m in trial.model.named_modules() if isinstance(m, nn.Linear)]
    every = [n for n, m in trial.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    names = {"linear": linear, "all": every}.get(method.layers, method.layers.split("+"))
    for name in names:
        yield name, 4 if method.layers == "all" and name == "fc1" else 1


METHODS = [
    *[DropNeuron(l1=0.3, l2=0.7, group=2.0, families=f) for f in ("both", "in", "out")],
    DropNeuron(l1=0.3, l2=0.0, group=2.0, layers="fc1", size_weighted=True),
    DropNeuron(l1=0.0, l2=0.4, group=2.0, layers="fc1+fc3", scale=1.0),
    DropNeuron(l1=0.2, group=0.0),
]


@pytest.mark.parametrize("proximal", [False, True])
@pytest.mark.parametrize("number", range(len(METHODS) + 1))
def test_one_step_takes_the_formula(make_trial: MakeTrial, number: int, proximal: bool) -> None:
    everything = number == len(METHODS)
    method = DropNeuron(l1=0.3, group=2.0, layers="all") if everything else METHODS[number]
    trial = make_trial(small_conv if everything else named_mlp, **ONE_STEP)
    gradients, before = data_gradients(trial), trial.snapshot().tensors
    penalty = DropNeuron(**vars(method) | {"proximal": proximal}).penalty(trial)
    grouped = dict(layers_and_columns(trial, method))
    single = [n for n, m in trial.model.named_modules()
              if isinstance(m, nn.Linear) or (everything and isinstance(m, nn.Conv2d))]  # fmt: skip
    trial.train(callback=penalty)
    lr, l1, l2, group = 0.01, *(method.scale * v for v in (method.l1, method.l2, method.group))
    for name, found in trial.model.named_parameters():
        layer, _, kind = name.rpartition(".")
        w = before[name]
        is_single, is_grouped = layer in single, layer in grouped and kind == "weight"
        into, out_of = ([], []) if not is_grouped else families_of(
            tuple(w.shape), grouped[layer], method.size_weighted)  # fmt: skip
        families = {"both": [into, out_of], "in": [into], "out": [out_of]}[method.families]
        slope = gradients[name] + (l2 * w if is_single else 0)
        if not proximal:
            slope = slope + (l1 * w.sign() if is_single else 0)
            for family in families:
                slope = slope + group * direction(w, family)
            expected = w - lr * slope
        else:
            last = layer == ("fc1" if everything else "fc3")
            kept = [f for f in families if f is not into or not last]
            best = optimum((w - lr * slope).detach().double().numpy(),
                           kept if is_grouped and group else [], lr * group,
                           lr * l1 if is_single else 0.0)  # fmt: skip
            expected = torch.from_numpy(best)
        assert torch.allclose(found.double(), expected.double(), atol=3e-6), name


@pytest.mark.parametrize("size_weighted", [False, True])
def test_the_value_that_is_added_to_the_loss(make_trial: MakeTrial, size_weighted: bool) -> None:
    trial = make_trial()
    method = DropNeuron(l1=1.5, l2=2.5, group=3.5, size_weighted=size_weighted)
    found = method.penalty(trial).penalty(trial)
    assert found is not None
    expected = 0.0
    for name, parameter in trial.model.named_parameters():
        values = parameter.detach().double().numpy()
        expected += 1.5 * np.abs(values).sum() + 2.5 * (values**2).sum() / 2
        if name.endswith("weight"):  # a neuron's bias is in neither group
            for family in families_of(values.shape, 1, size_weighted):
                expected += 3.5 * sum_of_norms(values, family)
    assert found.item() == pytest.approx(0.1 * expected, rel=1e-5)


def test_pixels_of_a_linear_network_are_units_of_their_own(make_trial: MakeTrial) -> None:
    penalty = DropNeuron(layers="all").penalty(make_trial())
    assert penalty.grouped == ("fc1", "fc2", "fc3")
    assert penalty.columns == (1, 1, 1)


def test_proximal_steps_under_momentum_are_as_long_as_gradients_become(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(**ONE_STEP | {"momentum": 0.75})
    gradients, before = data_gradients(trial), trial.snapshot().tensors
    trial.train(callback=DropNeuron(l1=0.4, group=0.0, proximal=True).penalty(trial))
    for name, found in trial.model.named_parameters():
        w = before[name] - 0.01 * gradients[name]
        expected = w.sign() * (w.abs() - 0.01 / 0.25 * 0.04).clamp(min=0)
        assert torch.allclose(found, expected, atol=1e-6), name


def test_no_proximal_step_empties_outputs_that_cannot_go(make_trial: MakeTrial) -> None:
    trial = make_trial(**ONE_STEP)
    method = DropNeuron(l1=0.0, group=1e6, families="in", proximal=True)
    trial.train(callback=method.penalty(trial))
    norms = {n: trial.model.get_parameter(f"{n}.weight").norm().item() for n in ("fc1", "fc2")}
    assert norms == {"fc1": 0, "fc2": 0}
    assert trial.model.fc3.weight.norm(dim=1).min().item() > 0.1


# -- thresholds ------------------------------------------------------------------------------------


def randomised_conv() -> nn.Module:
    model = small_conv()
    randomise_norms(model)
    return model


@pytest.mark.parametrize(
    ("method", "recipe", "expected"),
    [
        (DropNeuron(), {"optimizer": "adam", "lr": 0.003}, 0.03),
        (DropNeuron(), {"lr": 0.05, "momentum": 0.9}, 0.01),
        (DropNeuron(), {"optimizer": "adadelta", "lr": 1.0}, 0.01),
        (DropNeuron(threshold=0.125), {"optimizer": "adam"}, 0.125),
        (DropNeuron(proximal=True), {}, 0.0),
        (L1(), {"optimizer": "adam", "lr": 0.002}, 0.02),
    ],
)
def test_the_threshold_when_none_is_given(
    make_trial: MakeTrial, method: Any, recipe: dict[str, Any], expected: float
) -> None:
    trial = make_trial(epochs=1, **recipe)
    method.prune(trial)
    (event,) = [e for e in trial._events if e.get("event") == "thresholded"]
    assert event["threshold"] == pytest.approx(expected, rel=1e-12)
    assert ("threshold" in trial._curves) == (expected > 0)
    before = trial._kept["before_pruning"].tensors
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        dropped = before[name].abs() < expected if expected else before[name] == 0
        assert torch.equal(trial.masks[name], ~dropped), name


@pytest.mark.parametrize("build", [small_mlp, randomised_conv])
def test_the_curve_and_the_unpruned_state_are_what_a_hand_count_finds(
    make_trial: MakeTrial, build: Callable[[], nn.Module]
) -> None:
    recipe = {"optimizer": "adam", "lr": 0.01, "epochs": 2}
    trial, plain = make_trial(build, **recipe), make_trial(build, **recipe)
    method = DropNeuron(l1=0.02, group=0.02)
    method.prune(trial)
    plain.train(callback=method.penalty(plain))  # nothing more
    unpruned = plain.snapshot().tensors
    kept = trial._kept["before_pruning"]
    assert kept.masks == {}
    assert all(torch.equal(kept.tensors[n], t) for n, t in unpruned.items())
    layers = [n for n, m in plain.model.named_modules() if isinstance(m, nn.Linear)]
    part = plain._inputs.validation.in_memory_format(plain.layout.has_convolutions)
    curve = trial._curves["threshold"]
    thresholds = [row["threshold"] for row in curve.rows]
    assert thresholds == sorted(thresholds)
    assert curve.marked == 0.1
    assert curve.marked in thresholds
    assert 0 < trial.masks.counts()[f"{layers[0]}.weight"] < unpruned[f"{layers[0]}.weight"].numel()
    for row in curve.rows:
        plain.model.load_state_dict(unpruned)
        left = of = 0
        for name in layers:
            weight = plain.model.get_parameter(f"{name}.weight").data
            weight[weight.abs() < row["threshold"]] = 0
            left, of = left + int((weight != 0).sum()), of + weight.numel()
        assert row["density"] == pytest.approx(left / of, abs=1e-12)
        assert row["validation_top1"] == evaluate(plain.model, part).top1
        if row["threshold"] == curve.marked:
            assert sum(trial.masks.counts().values()) == left
            assert trial.validate().top1 == row["validation_top1"]


def test_a_target_is_reached_by_the_smallest_weights_of_all_layers(make_trial: MakeTrial) -> None:
    trial = make_trial(target=6.0)
    DropNeuron(to_target=True).prune(trial)
    names = ("fc1.weight", "fc2.weight", "fc3.weight")
    dense = trial.masks.account.params_dense
    assert trial.masks.params_kept == dense - (dense - int(dense / 6))
    before = trial._kept["before_pruning"].tensors
    dropped = torch.cat([before[n][~trial.masks[n]].abs() for n in names])
    kept = torch.cat([before[n][trial.masks[n]].abs() for n in names])
    assert float(dropped.max()) <= float(kept.min())
    assert trial._curves["threshold"].marked is None


@pytest.mark.parametrize("name", ["dropneuron", "l1"])
def test_a_plan_has_a_trial_for_each_target_only_where_one_is_asked_for(name: str) -> None:
    def targets(*settings: str) -> list[float | None]:
        flags = {"methods": name, "seeds": "0", "targets": "2,4"}
        trials = make_plan(Registry(), requests(None, flags, list(settings))).trials.values()
        return [s.target for s in trials if s.method == name]

    assert targets() == [None]
    assert targets(f"{name}.to_target=true") == [2, 4]


@pytest.mark.parametrize("options", [{}, {"keep_prob": 0.7}, {"proximal": True, "l1": 1.0, "l2": 2.0},
                                     {"finetune": True, "threshold": 0.05}])  # fmt: skip
def test_l1_is_dropneuron_without_groups(make_trial: MakeTrial, options: dict[str, Any]) -> None:
    first, second = make_trial(), make_trial()
    L1(**options).prune(first)
    DropNeuron(group=0.0, **options).prune(second)
    assert second._ledger.work.trainings == 0  # all of it was done already
    assert first.masks.counts() == second.masks.counts()
    for name, tensor in first.snapshot().tensors.items():
        assert torch.equal(tensor, second.snapshot().tensors[name])


def test_finetuning_trains_what_is_left(make_trial: MakeTrial) -> None:
    trial = make_trial()
    DropNeuron(threshold=0.05, finetune=True).prune(trial)
    assert trial._ledger.work.trainings == 2
    before = trial._kept["before_pruning"].tensors["fc1.weight"]
    mask, now = trial.masks["fc1.weight"], trial.model.fc1.weight.detach()
    assert torch.equal(mask, before.abs() >= 0.05)
    assert float(now[~mask].abs().max()) == 0
    assert float((now - before)[mask].abs().max()) > 1e-3


def test_a_network_with_a_shared_weight_is_pruned(make_trial: MakeTrial) -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(),
                              nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))  # fmt: skip
        model[5].weight = model[3].weight
        return model

    trial = make_trial(build)
    DropNeuron(threshold=0.1).prune(trial)
    assert torch.equal(trial.masks["3.weight"], trial._kept["before_pruning"].tensors["3.weight"].abs()
                       >= 0.1)  # fmt: skip


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU(),
        nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def test_each_channel_of_a_depthwise_filter_is_a_group_of_its_own(make_trial: MakeTrial) -> None:
    trial = make_trial(separable)
    method = DropNeuron(l1=0.0, group=1.0, scale=1.0, families="out", layers="2")
    found = method.penalty(trial).penalty(trial)
    assert found is not None
    expected = sum(float(w.norm()) for w in trial.model.get_parameter("2.weight").detach())
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_network_without_linear_layers_is_refused_in_a_sentence(make_trial: MakeTrial) -> None:
    with pytest.raises((UsageError, TrialFailed), match="linear"):
        DropNeuron(threshold=0.01).prune(make_trial(separable))


def test_the_groups_serve_in_a_loop_of_ones_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 6)
    y = x[:, :1] - 2 * x[:, 3:4]
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    first, last = model[0], model[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(600):
        optimizer.zero_grad()
        penalty = in_groups(first.weight) + out_groups(first.weight) + in_groups(last.weight.T)
        (F.mse_loss(model(x), y) + 0.01 * penalty).backward()
        optimizer.step()
    norms = first.weight.detach().norm(dim=0)
    assert float(norms[[1, 2, 4, 5]].max()) < 0.02
    assert float(norms[[0, 3]].min()) > 0.2


# -- 7 and 8: recovery -----------------------------------------------------------------------------


def recovered(folder: Path, seeds: str, *options: str) -> list[ResultRecord]:
    """Records of full-batch proximal trainings on several draws."""
    Results(folder).create()
    context = SweepContext(RunConfig(out=folder, data_dir=folder, device="cpu"))
    flags = {"methods": "dropneuron", "models": "dropneuron-regression", "controls": "none",
             "datasets": "sparse-regression", "seeds": seeds}  # fmt: skip
    recipe = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "lr": 1e-4, "epochs": 4000,
              "batch_size": 500, "weight_decay": 0.0}  # fmt: skip
    settings = [f"recipe.{k}={v}" for k, v in recipe.items()]
    settings += [f"dropneuron.{o}" for o in ("proximal=true", "layers=fc1", *options)]
    plan = make_plan(Registry(), requests(None, flags, settings))
    specs = [s for s in plan.trials.values() if s.method == "dropneuron"]
    return [execute(context, spec, lambda done, of: None) for spec in specs]


def test_the_true_inputs_of_one_draw_are_found(tmp_path: Path) -> None:
    (record,) = recovered(tmp_path, "0", "l1=50", "group=250")
    assert record.metrics.support_exact
    assert record.metrics.number("nmse") < 1e-3


@pytest.mark.slow
def test_the_true_inputs_are_found(tmp_path: Path) -> None:
    records = recovered(tmp_path, "0-3", "l1=50", "group=250")
    assert len(records) == 4
    assert sum(r.metrics.support_exact for r in records) >= 3
    assert sorted(r.metrics.number("nmse") for r in records)[2] < 1e-3
    assert len({r.metrics.number("max_error") for r in records}) == 4  # a truth for each seed


@pytest.mark.slow
def test_each_family_empties_its_own_side(tmp_path: Path) -> None:
    out_only = recovered(tmp_path / "out", "0-1", "l1=0", "group=250", "families=out")
    in_only = recovered(tmp_path / "in", "0-1", "l1=0", "group=250", "families=in")
    hidden = [[r.metrics.live["fc1"].live for r in records]
              for records in (out_only, in_only)]  # fmt: skip
    assert all(r.metrics.support_exact for r in out_only)
    assert [r.metrics.support_read for r in in_only] == [20, 20]
    assert hidden[0] == [5, 5]
    assert max(hidden[1]) <= 2  # 1 after more steps
