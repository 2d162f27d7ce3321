"""The training loop against loops written by hand, bit for bit, and against its own kills."""

import hashlib
import math
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_networks import Blobs, MakeTrial, small_conv, small_mlp
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from bench.errors import TrialFailed
from bench.graph.channels import layers_of
from bench.training.contract import Callback, Mode, Trial
from bench.training.loop import Training
from bench.training.trial_records import TrainingArguments

Batch = tuple[Tensor, Tensor]
Optimizer = torch.optim.Optimizer
STEPS = 6  # of 32 images in an epoch of 192


def with_dropout() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 16), relu1=nn.ReLU(), drop=nn.Dropout(0.3),
            fc2=nn.Linear(16, 4),
        )
    )  # fmt: skip


# -- a loop by hand --------------------------------------------------------------------------


def seed_of(*purpose: object) -> int:
    text = "/".join(str(part) for part in purpose)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def batches(seed: int, epoch: int, size: int = 32) -> Iterator[Batch]:
    """The training images of `Blobs` in the order of an epoch; mean .5 and sd .25 of 255."""
    images = Blobs().load(None).train  # type: ignore[arg-type]
    order = torch.randperm(192, generator=Generator().manual_seed(seed_of(seed, "order", epoch)))
    for i in range(0, 192, size):
        chosen = order[i : i + size]
        yield (images.x[chosen].float() - 127.5) / 63.75, images.y[chosen]


def cosine(lr: float, epoch: int, step: int, epochs: int) -> float:
    return lr * 0.5 * (1 + math.cos(math.pi * ((epoch + step / STEPS) / epochs)))


def train_by_hand(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    epochs: int = 3,
    lr: float = 0.05,
    seed: int = 0,
    schedule: Callable[[float, int, int, int], float] = cosine,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train in the plainest way there is; returns the loss of every step."""
    losses = []
    model.train()
    for epoch in range(epochs):
        torch.manual_seed(seed_of(seed, "global", epoch))
        for step, (x, y) in enumerate(batches(seed, epoch)):
            for group in optimizer.param_groups:
                group["lr"] = schedule(lr, epoch, step, epochs)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            losses.append(loss.item())
            (loss if penalty is None else loss + penalty(model)).backward()
            optimizer.step()
            after_step()
    return losses


def sgd(model: nn.Module, fused: bool = True, **changes: Any) -> Optimizer:
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4} | changes
    return torch.optim.SGD(model.parameters(), **options, fused=fused)


def adam(model: nn.Module, fused: bool = True) -> Optimizer:
    return torch.optim.Adam(model.parameters(), 0.05, weight_decay=5e-4, fused=fused)


def adadelta(model: nn.Module, fused: bool = True) -> Optimizer:
    return torch.optim.Adadelta(model.parameters(), 0.05, weight_decay=5e-4, foreach=fused)


def fresh(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build()


def assert_same(model: nn.Module, other: nn.Module) -> None:
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name in state:
        assert torch.equal(state[name], expected[name]), name


OPTIMIZERS = [("sgd", sgd), ("adam", adam), ("adadelta", adadelta)]


@pytest.mark.parametrize(("name", "make"), OPTIMIZERS)
@pytest.mark.parametrize("build", [small_mlp, with_dropout])
def test_a_plain_training_equals_a_hand_written_loop_bit_for_bit(
    build: Callable[[], nn.Module],
    name: str,
    make: Callable[[nn.Module], Optimizer],
    make_trial: MakeTrial,
) -> None:
    for seed in (0, 3):
        trial = make_trial(build, seed=seed, optimizer=name)
        trial.train()
        model = fresh(build, seed)
        train_by_hand(model, make(model), seed=seed)
        assert_same(trial.model, model)


@pytest.mark.parametrize(("name", "make"), OPTIMIZERS)
def test_a_convolutional_training_equals_an_unfused_loop_on_contiguous_weights(
    name: str, make: Callable[..., Optimizer], make_trial: MakeTrial
) -> None:
    trial = make_trial(small_conv, optimizer=name, lr=0.01)
    assert trial.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    trial.train()
    model = fresh(small_conv)
    train_by_hand(model, make(model, fused=False), lr=0.01)
    for key, value in model.state_dict().items():
        assert torch.allclose(trial.model.state_dict()[key].float(), value.float(), atol=1e-3), key


def test_momentum_and_nesterov_of_the_recipe_reach_the_optimiser(make_trial: MakeTrial) -> None:
    trial = make_trial(momentum=0.5, nesterov=False, weight_decay=0.01)
    trial.train()
    model = fresh(small_mlp)
    train_by_hand(model, sgd(model, momentum=0.5, nesterov=False, weight_decay=0.01))
    assert_same(trial.model, model)


def test_lr_scale_multiplies_the_learning_rate(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.train(lr_scale=0.5)
    model = fresh(small_mlp)
    train_by_hand(model, sgd(model), lr=0.025)
    assert_same(trial.model, model)


def test_trainable_moves_the_named_parameters_alone(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.train(trainable=("fc2", "fc3.bias"))
    model = fresh(small_mlp)
    moving = [model.fc2.weight, model.fc2.bias, model.fc3.bias]
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is m for m in moving))
    train_by_hand(
        model, torch.optim.SGD(moving, 0.05, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    )
    assert_same(trial.model, model)


def test_a_second_training_sees_other_orders_than_the_first(make_trial: MakeTrial) -> None:
    trial = make_trial()
    Watch.seen.clear()
    trial.train(callback=Watch())
    trial.train(callback=Watch())
    labels = [tuple(y) for what, y in Watch.seen if what == "labels"]
    assert len(labels) == 2 * 3 * STEPS
    expected = [tuple(y.tolist()) for epoch in range(6) for _, y in batches(0, epoch)]
    assert labels == expected


# -- mask modes ------------------------------------------------------------------------------


def half_of(size: int) -> Tensor:
    return torch.arange(size) % 2 == 0


def drop_half_of_fc2s_weights(trial: Trial) -> Tensor:
    g = Generator().manual_seed(9)
    mask = torch.rand(trial.masks["fc2.weight"].shape, generator=g) < 0.5
    trial.masks["fc2.weight"] = mask
    return mask


def job_of(trial: Trial, mode: Mode, epochs: int = 3) -> TrainingArguments:
    recipe, seed = trial._inputs.recipe, trial._inputs.seed
    return TrainingArguments(recipe, seed, 0, 0, epochs, epochs, 1.0, None, mode, cross_entropy)


def training_of(trial: Trial, mode: Mode, callback: Callback | None = None) -> Training:
    """A training whose optimiser can be looked into."""
    return Training(
        job_of(trial, mode), trial.model, trial.layout, trial.masks, trial._inputs.train, callback,
        trial,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "make"), OPTIMIZERS)
def test_hard_mode_equals_a_loop_that_zeroes_weights_and_moments(
    name: str, make: Callable[[nn.Module], Optimizer], make_trial: MakeTrial
) -> None:
    trial = make_trial(optimizer=name)
    mask = drop_half_of_fc2s_weights(trial)
    trial.train()
    model = fresh(small_mlp)
    model.fc2.weight.data[~mask] = 0.0
    optimizer = make(model)

    def zero() -> None:
        state = optimizer.state[model.fc2.weight]
        for tensor in (model.fc2.weight.data, *state.values()):
            if isinstance(tensor, Tensor) and tensor.shape == mask.shape:
                tensor[~mask] = 0.0

    train_by_hand(model, optimizer, after_step=zero)
    assert_same(trial.model, model)
    assert not trial.model.fc2.weight[~mask].any()


@dataclass
class LookInside(Callback):
    """Calls a function after every step."""

    look: Callable[[], None]

    def step(self, trial: Trial, lr: float) -> None:
        self.look()


@pytest.mark.parametrize("name", ["sgd", "adam", "adadelta"])
@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_hard_mode_keeps_dropped_units_and_their_moments_at_zero_after_every_step(
    build: Callable[[], nn.Module], name: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(build, optimizer=name)
    sites = [site for site in trial.layout.sites if not site.is_input]
    for site in sites:
        trial.masks[site.name] = half_of(site.size)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for site in sites:
            norms = [n.name for n in trial.layout.norms if layers_of(n.channels) == {site.name}]
            for owner in (site.module, *norms):
                for parameter in trial.model.get_submodule(owner).parameters():
                    state = training.optimizer.state[parameter]
                    moments = [t for t in state.values() if t.shape == parameter.shape]
                    assert moments
                    for tensor in (parameter, *moments):
                        assert not tensor[~half_of(site.size)].any()
                        assert tensor[half_of(site.size)].any()

    training = training_of(trial, "hard", LookInside(look))
    training.run(lambda now: None)
    assert looks == 3 * STEPS


@pytest.mark.parametrize("name", ["sgd", "adam", "adadelta"])
@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_hard_mode_keeps_dropped_weights_and_their_moments_at_zero_after_every_step(
    build: Callable[[], nn.Module], name: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(build, optimizer=name)
    g = Generator().manual_seed(3)
    masks = {n: torch.rand(s, generator=g) < 0.5 for n, s in trial.layout.weights.items()}
    trial.masks.load(masks)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for key, mask in masks.items():
            parameter = trial.model.get_parameter(key)
            state = training.optimizer.state[parameter]
            moments = [t for t in state.values() if t.shape == parameter.shape]
            assert moments
            for tensor in (parameter, *moments):
                assert not tensor[~mask].any()
                assert (tensor[mask] != 0).float().mean() > 0.5

    training = training_of(trial, "hard", LookInside(look))
    training.run(lambda now: None)
    assert looks == 3 * STEPS


def test_soft_mode_zeroes_once_and_lets_weights_regrow(make_trial: MakeTrial) -> None:
    trial = make_trial()
    mask = drop_half_of_fc2s_weights(trial)
    trial.train(mode="soft")
    model = fresh(small_mlp)
    model.fc2.weight.data[~mask] = 0.0
    train_by_hand(model, sgd(model))
    assert_same(trial.model, model)
    assert (trial.model.fc2.weight[~mask] != 0).float().mean() > 0.9


def touches_a_dropped_unit(model: nn.Module, mask1: Tensor, mask2: Tensor) -> dict[str, Tensor]:
    """Per parameter of `small_mlp`, which of its elements have a dropped end."""
    rows1, rows2 = ~mask1[:, None].expand(16, 64), ~mask2[:, None].expand(12, 16)
    return {
        "fc1.weight": rows1, "fc1.bias": ~mask1,
        "fc2.weight": rows2 | ~mask1[None].expand(12, 16), "fc2.bias": ~mask2,
        "fc3.weight": ~mask2[None].expand(4, 12), "fc3.bias": torch.zeros(4, dtype=torch.bool),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sgd", "adam", "adadelta"])
def test_gate_mode_freezes_the_weights_of_dropped_units_bit_for_bit(
    name: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(optimizer=name)
    mask1, mask2 = half_of(16), half_of(12)
    trial.masks["fc1"], trial.masks["fc2"] = mask1, mask2
    frozen = touches_a_dropped_unit(trial.model, mask1, mask2)
    before = {k: v.clone() for k, v in trial.model.state_dict().items()}
    trial.train(mode="gate")
    for key, parameter in trial.model.named_parameters():
        assert torch.equal(parameter[frozen[key]], before[key][frozen[key]]), key
        assert (parameter != before[key])[~frozen[key]].float().mean() > 0.5, key


@pytest.mark.parametrize("name", ["sgd", "adam", "adadelta"])
def test_gate_mode_never_starts_the_moments_of_units_that_are_dropped_from_the_start(
    name: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(optimizer=name)
    mask1, mask2 = half_of(16), half_of(12)
    trial.masks["fc1"], trial.masks["fc2"] = mask1, mask2
    frozen = touches_a_dropped_unit(trial.model, mask1, mask2)
    training = training_of(trial, "gate")
    training.run(lambda now: None)
    for key, parameter in trial.model.named_parameters():
        for moment, value in training.optimizer.state[parameter].items():
            if value.shape == parameter.shape:
                assert not value[frozen[key]].any(), f"{moment} of {key}"
                assert value[~frozen[key]].any(), f"{moment} of {key}"


def test_gate_mode_trains_what_is_left_like_the_smaller_network(make_trial: MakeTrial) -> None:
    trial = make_trial(weight_decay=0.0)
    kept = half_of(16)
    trial.masks["fc1"] = kept
    model = fresh(small_mlp)
    thin = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 8), relu1=nn.ReLU(),
            fc2=nn.Linear(8, 12), relu2=nn.ReLU(), fc3=nn.Linear(12, 4),
        )
    )  # fmt: skip
    thin.load_state_dict(model.state_dict() | {
        "fc1.weight": model.fc1.weight[kept], "fc1.bias": model.fc1.bias[kept],
        "fc2.weight": model.fc2.weight[:, kept],
    })  # fmt: skip
    trial.train(mode="gate")
    train_by_hand(thin, sgd(thin, weight_decay=0.0))
    found = trial.model
    assert torch.allclose(found.fc1.weight[kept], thin.fc1.weight, atol=1e-5)
    assert torch.allclose(found.fc2.weight[:, kept], thin.fc2.weight, atol=1e-5)
    assert torch.allclose(found.fc3.weight, thin.fc3.weight, atol=1e-5)


@dataclass
class SwitchUnits(Callback):
    """Closes unit 0 during the second epoch only."""

    epochs: int = 0

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        mask = torch.ones(16, dtype=torch.bool)
        mask[0] = self.epochs != 1
        trial.masks["fc1"] = mask

    def epoch(self, trial: Trial, done: int) -> None:
        self.epochs = done


def test_a_unit_that_reopens_goes_on_with_the_momentum_it_had(make_trial: MakeTrial) -> None:
    trial = make_trial()
    weights, moments = [], []

    def note(now: Training) -> None:
        if now.progress.step:
            return
        weights.append(trial.model.fc1.weight[0].clone())
        moments.append(
            now.optimizer.state[trial.model.fc1.weight]["momentum_buffer"][0].clone()
        )  # fmt: skip

    training = training_of(trial, "gate", SwitchUnits())
    training.run(note)
    assert moments[0].any()
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(moments[0], moments[1])
    assert not torch.equal(weights[1], trial.model.fc1.weight[0])


def test_gate_mode_refuses_masks_of_single_weights(make_trial: MakeTrial) -> None:
    trial = make_trial()
    drop_half_of_fc2s_weights(trial)
    with pytest.raises(TrialFailed, match="gate"):
        trial.train(mode="gate")


@dataclass
class DropsAt(Callback):
    """Drops unit 0 of `fc1` in one hook of one moment, and notes what its forward passes gave."""

    hook: str
    at: int
    count: int = 0
    sums: ClassVar[list[float]] = []

    def _now(self, trial: Trial, hook: str) -> None:
        if hook == self.hook:
            if self.count == self.at:
                mask = torch.ones(16, dtype=torch.bool)
                mask[0] = False
                trial.masks["fc1"] = mask
            self.count += 1

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        self._now(trial, "batch")

    def penalty(self, trial: Trial) -> None:
        dropped = not bool(trial.masks["fc1"][0])
        DropsAt.sums += [float(trial.model.fc1.weight[0].detach().abs().sum())] * dropped

    def step(self, trial: Trial, lr: float) -> None:
        self._now(trial, "step")

    def epoch(self, trial: Trial, done: int) -> None:
        self._now(trial, "epoch")


@pytest.mark.parametrize(
    ("hook", "at"),
    [("batch", 0), ("batch", 1), ("batch", 6), ("step", 2), ("step", 5), ("epoch", 0)],
)
def test_masks_written_in_a_hook_are_in_force_at_the_next_forward_pass(
    hook: str, at: int, make_trial: MakeTrial
) -> None:
    trial = make_trial()
    DropsAt.sums.clear()
    trial.train(callback=DropsAt(hook, at))
    assert len(DropsAt.sums) > 0
    assert DropsAt.sums == [0.0] * len(DropsAt.sums)


@pytest.mark.parametrize(("hook", "at"), [("step", 17), ("epoch", 2)])
def test_masks_written_in_the_last_hook_leave_dropped_weights_at_zero(
    hook: str, at: int, make_trial: MakeTrial
) -> None:
    trial = make_trial()
    trial.train(callback=DropsAt(hook, at))
    assert not trial.masks["fc1"][0]
    assert not trial.model.fc1.weight[0].any()
    assert trial.model.fc1.weight[1].any()


# -- schedules and spans ---------------------------------------------------------------------


@dataclass
class Watch(Callback):
    """Notes what happens, outside its fields: it says nothing of the training."""

    seen: ClassVar[list[tuple[str, Any]]] = []

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        self.seen.append(("labels", y.tolist()))
        self.seen.append(("batch", trial.model.fc1.weight.clone()))

    def penalty(self, trial: Trial) -> None:
        self.seen.append(("penalty", trial.model.fc1.weight.grad))

    def gradients(self, trial: Trial) -> None:
        self.seen.append(("gradients", trial.model.fc1.weight.grad.clone()))

    def step(self, trial: Trial, lr: float) -> None:
        self.seen.append(("step", (lr, trial.model.fc1.weight.clone())))

    def epoch(self, trial: Trial, done: int) -> None:
        self.seen.append(("epoch", done))


def rates_seen() -> list[float]:
    return [value[0] for what, value in Watch.seen if what == "step"]


def test_the_cosine_schedule_falls_per_step_to_zero(make_trial: MakeTrial) -> None:
    Watch.seen.clear()
    make_trial(epochs=4, lr=0.08).train(callback=Watch())
    n = 4 * STEPS
    expected = [0.04 * (1 + math.cos(math.pi * i / n)) for i in range(n)]
    assert rates_seen() == pytest.approx(expected, rel=1e-12)


def test_the_step_schedule_drops_at_its_milestones(make_trial: MakeTrial) -> None:
    Watch.seen.clear()
    trial = make_trial(epochs=8, lr=0.4, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    trial.train(callback=Watch())
    expected = [0.4] * 4 * STEPS + [0.04] * 2 * STEPS + [0.004] * 2 * STEPS
    assert rates_seen() == pytest.approx(expected, rel=1e-12)


def test_a_milestone_between_epochs_takes_effect_at_the_next_one(make_trial: MakeTrial) -> None:
    Watch.seen.clear()
    trial = make_trial(epochs=3, lr=1e-3, schedule="step", milestones=(0.5,), gamma=0.5)
    trial.train(callback=Watch())
    assert rates_seen() == pytest.approx([1e-3] * 2 * STEPS + [5e-4] * STEPS, rel=1e-12)


def test_the_constant_schedule_is_constant_and_epochs_may_be_overridden(
    make_trial: MakeTrial,
) -> None:
    Watch.seen.clear()
    make_trial(lr=0.03, schedule="constant").train(epochs=2, lr_scale=0.5, callback=Watch())
    assert rates_seen() == pytest.approx([0.015] * 2 * STEPS, rel=1e-12)


def test_a_span_runs_its_own_part_of_the_schedule(make_trial: MakeTrial) -> None:
    trial = make_trial(epochs=4)
    Watch.seen.clear()
    trial.train(span=(0, 1), callback=Watch())
    trial.train(span=(1, None), callback=Watch())
    in_two = rates_seen()
    Watch.seen.clear()
    make_trial(epochs=4).train(callback=Watch())
    assert in_two == rates_seen()
    assert len(in_two) == 4 * STEPS


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_two_spans_differ_from_one_training_by_the_fresh_momentum_alone(
    momentum: float, make_trial: MakeTrial
) -> None:
    whole, halves = (make_trial(momentum=momentum) for _ in range(2))
    whole.train()
    halves.train(span=(0, 1))
    halves.train(span=(1, None))
    same = torch.equal(whole.model.fc1.weight, halves.model.fc1.weight)
    assert same == (momentum == 0.0)


# -- divergence ------------------------------------------------------------------------------


def test_a_diverging_training_fails_and_names_the_first_bad_step(make_trial: MakeTrial) -> None:
    # A wave of growing steps: the first loss that is not finite comes within the second epoch.
    lr, options = 3e3, {"schedule": "constant", "weight_decay": 0.0, "momentum": 0.9}
    model = fresh(small_mlp)
    losses = train_by_hand(
        model, sgd(model, weight_decay=0.0), lr=lr, schedule=lambda lr, *when: lr
    )
    bad = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
    trial = make_trial(lr=lr, **options)
    with pytest.raises(TrialFailed) as failed:
        trial.train()
    step, epoch = re.search(r"step (\d+) of epoch (\d+)", str(failed.value)).groups()
    assert (int(epoch) - 1) * STEPS + int(step) - 1 == bad
    assert "learning rate" in str(failed.value)
    assert "\n" not in str(failed.value)


# -- callbacks -------------------------------------------------------------------------------


def test_callback_hooks_are_called_in_the_documented_order(make_trial: MakeTrial) -> None:
    def watched() -> nn.Module:
        model = small_mlp()
        model.register_forward_hook(lambda *_: Watch.seen.append(("forward", None)))
        return model

    trial = make_trial(watched, epochs=2)
    Watch.seen.clear()
    trial.train(callback=Watch())
    names = [what for what, _ in Watch.seen if what != "labels"]
    one_step = ["batch", "forward", "penalty", "gradients", "step"]
    assert names == 2 * (STEPS * one_step + ["epoch"])
    assert [value for what, value in Watch.seen if what == "epoch"] == [1, 2]


def test_hooks_find_the_network_before_and_after_its_step(make_trial: MakeTrial) -> None:
    Watch.seen.clear()
    make_trial(momentum=0.0, weight_decay=0.0, nesterov=False).train(callback=Watch())
    seen = {w: [v for what, v in Watch.seen if what == w] for w in ("batch", "gradients", "step")}
    for before, gradient, (lr, after) in zip(*seen.values(), strict=True):
        assert torch.allclose(before - lr * gradient, after, atol=1e-7)
        assert gradient.any()


@dataclass
class Decay(Callback):
    strength: float

    def penalty(self, trial: Trial) -> Tensor:
        return self.strength * sum(p.square().sum() for p in trial.model.parameters())


def test_a_penalty_is_added_to_the_loss_as_in_a_hand_written_loop(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.train(callback=Decay(0.02))
    model = fresh(small_mlp)
    train_by_hand(
        model, sgd(model), penalty=lambda m: 0.02 * sum(p.square().sum() for p in m.parameters())
    )
    assert_same(trial.model, model)


@dataclass
class Clip(Callback):
    def gradients(self, trial: Trial) -> None:
        for parameter in trial.model.parameters():
            parameter.grad.zero_()


def test_gradients_changed_in_a_hook_are_those_of_the_step(make_trial: MakeTrial) -> None:
    trial = make_trial(weight_decay=0.0)
    before = {k: v.clone() for k, v in trial.model.state_dict().items()}
    trial.train(callback=Clip())
    assert all(torch.equal(v, before[k]) for k, v in trial.model.state_dict().items())


def test_the_log_has_one_line_per_epoch_with_the_mean_loss(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.train()
    model = fresh(small_mlp)
    losses = train_by_hand(model, sgd(model))
    means = [sum(losses[i : i + STEPS]) / STEPS for i in range(0, len(losses), STEPS)]
    assert [line["epoch"] for line in trial._events] == [1, 2, 3]
    assert [line["train_loss"] for line in trial._events] == pytest.approx(means, rel=1e-5)


# -- kills -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@dataclass
class Wander(Callback):
    """Draws new masks on every batch of the first epochs: state of every kind a callback can have."""

    generator: Generator
    moving_epochs: int
    average: Tensor | None = None
    pair: tuple[int, ...] = (0, 0)
    note: str = ""
    last_loss: float = field(default=math.inf)
    kill_at: ClassVar[int | None] = None

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        if self.pair[0] < self.moving_epochs:
            for site in trial.layout.sites:
                lots = torch.rand(site.size, generator=self.generator)
                trial.masks[site.name] = lots < lots.median() + 0.2
        self.pair = (self.pair[0], self.pair[1] + 1)

    def step(self, trial: Trial, lr: float) -> None:
        weight = trial.model.conv2.weight.detach()
        self.average = weight.clone() if self.average is None else 0.9 * self.average + weight
        self.last_loss = lr

    def epoch(self, trial: Trial, done: int) -> None:
        self.pair, self.note = (done, self.pair[1]), f"epoch {done}"
        if done == Wander.kill_at:
            raise Killed


@dataclass(frozen=True)
class Outcome:
    tensors: dict[str, Tensor]
    masks: dict[str, Tensor]
    plain: tuple[Any, ...]
    log: list[dict[str, Any]]
    cost: dict[str, Any]


def run_once(make_trial: MakeTrial, optimizer: str, mode: Mode) -> tuple[Outcome, int]:
    """Train anew, or go on from what lies in the store; also returns the epochs that took."""
    trial = make_trial(small_conv, optimizer=optimizer, lr=0.02, seed=4)
    wander = Wander(trial.rng("wander"), moving_epochs=2)
    trial.train(mode=mode, callback=wander)
    cost = trial._ledger.cost.as_json()
    del cost["seconds"]
    tensors = {k: v.clone() for k, v in trial.model.state_dict().items()}
    tensors |= {"average": wander.average, "generator": wander.generator.get_state()}
    outcome = Outcome(
        tensors, dict(trial.masks.touched), (wander.pair, wander.note, wander.last_loss),
        trial._events, cost,
    )  # fmt: skip
    return outcome, trial._ledger.work.epochs


@pytest.mark.parametrize("mode", ["hard", "gate", "soft"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adadelta"])
def test_a_killed_training_goes_on_bit_for_bit_from_any_epoch(
    optimizer: str, mode: Mode, make_trial: MakeTrial, tmp_path: Path
) -> None:
    outcomes = []
    for kill_at in (None, 1, 2, 3):
        shutil.rmtree(tmp_path / "phases", ignore_errors=True)
        Wander.kill_at = kill_at
        if kill_at is not None:
            with pytest.raises(Killed):
                run_once(make_trial, optimizer, mode)
        Wander.kill_at = None
        outcome, epochs = run_once(make_trial, optimizer, mode)
        assert epochs == 3 - (kill_at or 1) + 1  # it did go on, and did not begin anew
        outcomes.append(outcome)
    first, *others = outcomes
    assert first.masks
    for other in others:
        assert_equal_tensors(first.tensors, other.tensors)
        assert_equal_tensors(first.masks, other.masks)
        assert (first.plain, first.log, first.cost) == (other.plain, other.log, other.cost)


def assert_equal_tensors(these: dict[str, Tensor], those: dict[str, Tensor]) -> None:
    assert these.keys() == those.keys()
    for name in these:
        assert torch.equal(these[name], those[name]), name
