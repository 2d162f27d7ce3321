"""Magnitude by a rule: the scan, rounds, freezing, dropout, plans and refusals."""

import copy
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from magnitude_trials import SMALL, entered, with_dropout
from small_networks import MakeTrial, small_conv
from torch import Tensor

from bench.api import TrialFailed, UsageError
from bench.cli.main import main
from bench.methods._sensitivity import HAN, SCANNED, scan, tolerated
from bench.methods.magnitude import Magnitude
from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import Request
from bench.training.contract import Reference
from bench.training.trial import close

# -- the scan --------------------------------------------------------------------------------------


def told(name: str) -> str:
    return f"validation top-1 %, {name.removesuffix('.weight')} pruned alone"


def test_the_scan_is_a_plain_loop_over_layers_and_densities(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv, epochs=2)
    trial.train()
    before = {k: v.clone() for k, v in trial.model.state_dict().items()}
    rows = trial.once(scan)
    assert all(torch.equal(before[k], v) for k, v in trial.model.state_dict().items())
    part = trial._inputs.validation.in_memory_format(True)
    x, y = part.batch(torch.arange(len(part)))
    assert [row["density"] for row in rows] == list(SCANNED)
    for name in trial.layout.weights:
        for row in rows:
            model = copy.deepcopy(trial.model).eval()
            weight = model.get_parameter(name).data
            flat = weight.flatten().numpy().copy()  # in C order, whatever the memory layout
            gone = np.argsort(np.abs(flat))[: len(flat) - round(row["density"] * len(flat))]
            flat[gone] = 0
            weight.copy_(torch.from_numpy(flat).view(weight.shape))
            with torch.no_grad():
                right = int((model(x).argmax(1) == y).sum())
            assert row[told(name)] == row[f"score/{name}"]
            assert row[told(name)] == pytest.approx(100 * right / len(part))
    assert len({row[told("fc1.weight")] for row in rows}) > 1


@pytest.mark.parametrize(
    ("scores", "tolerance", "lowest"),
    [
        ([90, 90, 89.5, 89, 88, 80], 1.0, 0.5),
        ([90, 90, 89.5, 89, 88, 80], 0.4, 0.8),
        ([90, 90, 89.5, 89, 88, 80], 100.0, 0.3),
        ([90, 88, 95, 95, 95, 95], 1.0, 1.0),  # what lies behind a fall does not count
        ([90, 95, 89, 89, 89, 88.9], 1.0, 0.4),  # held against the whole layer, not the best row
        ([90, 90, 90, 90, 90, 89.9], 0.0, 0.4),
        ([-0.5, -0.5, -0.6, -3, -0.1, -0.1], 1.0, 0.6),  # of an error
    ],
)
def test_a_layer_goes_down_to_the_first_row_that_costs_more(
    scores: list[float], tolerance: float, lowest: float
) -> None:
    pairs = zip(SCANNED, scores, strict=False)
    rows = [{"density": density, "score/w": score} for density, score in pairs]
    assert tolerated(rows, "w", tolerance) == lowest


def test_pruning_by_the_scan_takes_what_it_tolerates_and_shows_it(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv, epochs=2)
    Magnitude(densities="scan", tolerance=3.0).prune(trial)
    again = make_trial(small_conv, epochs=2)
    again.train()
    rows = again.once(scan)
    found = trial._curves["density"].rows
    shown = ("density", *map(told, trial.layout.weights))
    assert found == [{name: row[name] for name in shown} for row in rows]
    for name, mask in trial.masks.items():
        if name in trial.layout.weights:
            wanted = round(tolerated(rows, name, 3.0) * mask.numel())
            assert int(mask.sum()) == max(1, wanted)
    assert trial.masks.counts()


# -- rounds and retraining -------------------------------------------------------------------------


def test_rounds_to_densities_are_geometric(make_trial: MakeTrial) -> None:
    trial = make_trial(epochs=1)
    Magnitude(densities="0.1+0.3+0.5", rounds=3).prune(trial)
    close(trial)
    sizes = {"fc1.weight": (1024, 0.1), "fc2.weight": (192, 0.3), "fc3.weight": (48, 0.5)}
    assert trial._rounds == [
        {name: round(size * share ** (done / 3)) for name, (size, share) in sizes.items()}
        for done in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    "rule", [{"quality": 0.8}, {"threshold": 0.1}, {"densities": "0.5+0.5+0.5"}]
)
def test_alternate_turns_prune_and_train_their_own_layers_alone(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any]
) -> None:
    trial = make_trial(small_conv, epochs=1)

    def see() -> dict[str, Tensor]:
        parameters = {n: p.detach().clone() for n, p in trial.model.named_parameters()}
        return parameters | {f"mask/{n}": trial.masks[n] for n in trial.layout.weights}

    seen = entered(trial, monkeypatch, see)
    Magnitude(**rule, freeze="alternate", rounds=2).prune(trial)
    (_, dense, _), *turns = seen
    linear, convolutions = {"fc1"}, {"conv1", "conv2"}
    assert len(turns) == 4
    last = dense
    for (before, after, _), own in zip(turns, [linear, convolutions] * 2, strict=True):
        for name in trial.layout.weights:
            layer = name.removesuffix(".weight")
            mask = f"mask/{name}"
            assert torch.equal(last[mask], before[mask]) == (layer not in own), (name, own)
            assert torch.equal(before[name], last[name])
            assert not bool(after[name][~after[mask]].any())
        for name in dict(trial.model.named_parameters()):
            moved = not torch.equal(before[name], after[name])
            assert moved == (name.partition(".")[0] in own), (name, own)
        last = after


def test_retraining_has_less_dropout_and_the_first_training_and_the_end_have_all(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(with_dropout, epochs=1)
    method = Magnitude(densities="0.04+0.09+0.5", dropout=True, rounds=2)
    seen = entered(trial, monkeypatch, lambda: (trial.model.drop1.p, trial.model.drop2.p))
    method.prune(trial)
    wanted = [(0.5, 0.4), (0.5 * 0.04**0.25, 0.4 * 0.09**0.25), (0.5 * 0.2, 0.4 * 0.3)]
    for (before, after, _), expected in zip(seen, wanted, strict=True):
        assert before == after == pytest.approx(expected, rel=1e-3)
    assert (trial.model.drop1.p, trial.model.drop2.p) == (0.5, 0.4)


def test_other_dropout_is_another_training(make_trial: MakeTrial) -> None:
    weights, trainings = [], []
    for dropout in (False, True, True):
        trial = make_trial(with_dropout, epochs=1)
        Magnitude(densities="0.1+0.1+0.5", dropout=dropout).prune(trial)
        weights.append(trial.model.fc1.weight.detach().clone())
        trainings.append(trial._ledger.work.trainings)
    assert trainings == [2, 1, 0]  # the dense one is found, the same retraining too
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])


def test_rewinding_brings_back_the_initial_weights_of_what_is_kept(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(epochs=1)
    theta0 = {k: v.clone() for k, v in trial.model.state_dict().items()}
    seen = entered(trial, monkeypatch, lambda: trial.snapshot().tensors)
    Magnitude(quality=0.8, retrain="rewind", rounds=2).prune(trial)
    assert len(seen) == 3
    for before, after, _ in seen[1:]:
        for name in trial.layout.weights:
            kept = after[name] != 0
            assert torch.equal(before[name], theta0[name] * kept)


# -- plans, refusals, controls ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [{"quality": 1.0}, {"threshold": 0.05}, {"densities": "scan"}, {"densities": "lenet-300-100"}],
)
def test_a_rule_makes_the_rate_emergent_and_leaves_targets_out(rule: dict[str, Any]) -> None:
    asked = Request(methods="magnitude", targets="2,4,8", seeds="0-1", options={"magnitude": rule})
    planned = make_plan(Registry(), [asked]).trials.values()
    own = [spec for spec in planned if spec.method == "magnitude"]
    assert [spec.target for spec in own] == [None, None]
    assert {s.depends_on for s in planned if s.method == "random"} == {(s.id,) for s in own}
    plain = make_plan(Registry(), [asked.model_copy(update={"options": {}})]).trials.values()
    assert [s.target for s in plain if s.method == "magnitude"] == [2.0, 4.0, 8.0] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["quality=1", "threshold=0.1"], "quality and threshold are two rules"),
        (["quality=1", "densities=scan"], "quality and densities are two rules"),
        (["quality=0"], "a factor above 0"),
        (["threshold=-0.1"], "must be 0 or more"),
        (["densities=0.5+0"], "shares above 0 and up to 1"),
        (["densities=0.5+1.5+1"], "shares above 0 and up to 1"),
        (["densities=0.5+nan+1"], "shares above 0 and up to 1"),
        (["densities=0.5+0.5"], "speaks of 2 layers, but the network has 3: fc1, fc2, fc3"),
        (["densities=lenet-5"], "speaks of 4 layers"),
        (["densities=lenet-300"], "one of lenet-300-100"),
        (["quality=1", "rounds=0"], "at least one"),
        (["rounds=2"], "go with quality"),
        (["freeze=alternate"], "go with quality"),
        (["dropout=true"], "go with quality"),
        (["quality=1", "freeze=all"], "'none' or 'alternate'"),
        (["quality=nan"], "finite number"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    told = [part for option in options for part in ("--set", f"magnitude.{option}")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["bench", "run", "--methods", "magnitude", *told, *SMALL, "--out", "here"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


def test_shares_for_other_networks_are_refused_in_words(make_trial: MakeTrial) -> None:
    for said in ("0.5+0.5", "lenet-5"):
        n = len(HAN.get(said, (0, 0)))
        with pytest.raises(
            (TrialFailed, UsageError), match=rf"{n} layers, but the network has 3: fc1\.weight"
        ):
            Magnitude(densities=said, start="init").prune(make_trial())


@pytest.mark.parametrize(
    "rule", [{"quality": 0.8}, {"densities": "0.3+0.5+0.7"}, {"threshold": 0.1}]
)
@pytest.mark.parametrize("freeze", ["none", "alternate"])
def test_the_random_control_of_a_rule_keeps_its_counts_round_by_round(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], freeze: Any
) -> None:
    method = Magnitude(**rule, rounds=2, lr_scale=0.5, freeze=freeze)
    trial = make_trial(small_conv, epochs=1)
    method.prune(trial)
    close(trial)
    how = method.control()
    assert (how.start, how.follows_rounds, how.retrains) == ("pretrained", True, True)
    follower = make_trial(small_conv, epochs=1)
    reference = Reference(
        "pretrained", tuple(trial._rounds), trial._lr_scale, True, trial.masks.touched, 9
    )
    follower._inputs = dataclasses.replace(follower._inputs, reference=reference)
    seen = entered(follower, monkeypatch, lambda: follower.masks.counts())
    Registry().method("random")().prune(follower)
    assert [before for before, _, _ in seen] == [{}, *trial._rounds]
    assert [asked["lr_scale"] for _, _, asked in seen[1:]] == [0.5] * len(trial._rounds)
    assert follower.masks.counts() == trial.masks.counts()
    assert not torch.equal(follower.masks["conv2.weight"], trial.masks["conv2.weight"])
