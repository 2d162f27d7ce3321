"""What a method is given: phases that are computed once, states, and the refusals that keep both true."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_networks import Blobs, MakeTrial, small_conv
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bench.errors import TrialFailed
from bench.pruning.hard_mask import apply_hard
from bench.seeds import generator
from bench.training.contract import Callback, Trial
from bench.training.pretrained import FittedWeights
from bench.training.trial import outcome_of


def weights_of(trial: Trial) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trial.model.state_dict().items()}


def assert_equal(these: dict[str, Tensor], those: dict[str, Tensor]) -> None:
    assert these.keys() == those.keys()
    for name in these:
        assert torch.equal(these[name], those[name]), name


def half_of(size: int) -> Tensor:
    return torch.arange(size) % 2 == 0


# -- functions that trials call once ---------------------------------------------------------


def sum_of_weights(trial: Trial) -> float:
    return float(trial.model.fc1.weight.detach().double().sum())


def scaled_weights(trial: Trial, factor: float) -> dict[str, Tensor]:
    return {"fc1.weight": factor * trial.model.fc1.weight.detach()}


@torch.no_grad()
def outputs(trial: Trial) -> dict[str, Tensor]:
    x, _ = next(trial.score_batches())
    return {"logits": trial.model(x)}


def the_weights_themselves(trial: Trial) -> dict[str, Tensor]:
    return {"fc1.weight": trial.model.fc1.weight.detach()}


def one_tensor_under_two_names(trial: Trial) -> dict[str, Tensor]:
    score = trial.model.fc1.weight.detach().abs().sum(1)
    return {"a": score, "b": score}


@dataclass(frozen=True)
class Scaled:
    factor: float

    def score(self, trial: Trial) -> float:
        return self.factor * float(trial.model.fc1.weight.detach().double().sum())


@dataclass
class Counting(Callback):
    """Fields of every kind, each changed during a training."""

    generator: Generator
    whole: int = 0
    real: float = 0.0
    flag: bool = False
    word: str = ""
    pair: tuple[int, float] = (0, 0.0)
    nested: tuple[tuple[int, ...], ...] = ((0,), (0, 0))
    tensor: Tensor = field(default_factory=lambda: torch.zeros(3))
    late: Tensor | None = None

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        self.whole += 1
        self.real += float(torch.rand((), generator=self.generator))
        self.flag = not self.flag
        self.word += "x"
        self.pair = (self.whole, self.real)
        self.nested = ((self.whole,), (self.whole, 2))
        self.tensor = self.tensor + 1
        self.late = torch.tensor([self.real])


# -- phases ----------------------------------------------------------------------------------


def test_the_same_training_is_done_once(make_trial: MakeTrial) -> None:
    first, second = make_trial(), make_trial()
    first.train()
    second.train()
    assert (first._ledger.work.trainings, first._ledger.work.trainings_reused) == (1, 0)
    assert (second._ledger.work.trainings, second._ledger.work.trainings_reused) == (0, 1)
    assert (first._ledger.work.epochs, first._ledger.work.images_seen) == (3, 3 * 192)
    assert (second._ledger.work.epochs, second._ledger.work.images_seen) == (0, 0)
    assert_equal(weights_of(first), weights_of(second))
    assert first._events == second._events


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.model.fc3.bias.data[0].add_(1e-3),
        lambda t: t.masks.__setitem__("fc1", half_of(16)),
        lambda t: t.masks.__setitem__("fc1.weight", half_of(64).expand(16, 64)),
        lambda t: setattr(t, "loss", F.multi_margin_loss),
    ],
    ids=["an edited weight", "a unit mask", "a weight mask", "another loss"],
)
def test_a_training_of_other_values_is_another_phase(
    change: Callable[[Trial], None], make_trial: MakeTrial
) -> None:
    make_trial().train()
    trial = make_trial()
    change(trial)
    trial.train()
    assert trial._ledger.work.trainings == 1


@pytest.mark.parametrize(
    "arguments",
    [{"epochs": 2}, {"span": (0, 2)}, {"lr_scale": 0.5}, {"mode": "gate"}, {"mode": "soft"},
     {"trainable": ("fc1",)}, {"callback": Counting(Generator())}],
    ids=lambda arguments: "=".join(str(x) for x in next(iter(arguments.items())))[:20],
)  # fmt: skip
def test_a_training_with_other_arguments_is_another_phase(
    arguments: dict[str, Any], make_trial: MakeTrial
) -> None:
    make_trial().train()
    trial = make_trial()
    trial.train(**arguments)
    assert trial._ledger.work.trainings == 1


def test_the_masks_of_a_gated_network_are_part_of_its_keys(make_trial: MakeTrial) -> None:
    trials = make_trial(), make_trial()
    for trial, size in zip(trials, (4, 5), strict=True):
        trial.masks["fc1"] = torch.arange(16) >= size
        trial.train(mode="gate", trainable=("fc3.bias",))
    assert trials[1]._ledger.work.trainings == 1
    trials[1].model.load_state_dict(trials[0].model.state_dict())
    logits = [trial.once(outputs)["logits"] for trial in trials]
    assert not torch.equal(*logits)  # the same weights, other masks


def test_another_seed_recipe_or_clock_is_another_phase(make_trial: MakeTrial) -> None:
    start = weights_of(make_trial())
    make_trial().train()
    other_seed, other_recipe, later = make_trial(seed=1), make_trial(lr=0.04), make_trial()
    later.train()
    for trial in (other_seed, later):
        trial.model.load_state_dict(start)  # the same bytes in all of them
    for trial in (other_seed, other_recipe, later):
        before = trial._ledger.work.trainings
        trial.train()
        assert trial._ledger.work.trainings == before + 1


def test_the_memory_layout_of_weights_is_no_part_of_a_key(make_trial: MakeTrial) -> None:
    first, second = make_trial(small_conv), make_trial(small_conv)
    second.model.to(memory_format=torch.contiguous_format)
    assert first.once(small_sum) == second.once(small_sum)
    assert second._ledger.work.phases_reused == 1


def small_sum(trial: Trial) -> float:
    return float(trial.model.conv2.weight.detach().double().sum())


def test_once_depends_on_weights_masks_arguments_and_the_function(make_trial: MakeTrial) -> None:
    trial = make_trial()
    work = trial._ledger.work
    one = trial.once(scaled_weights, 2.0)["fc1.weight"]
    again = trial.once(scaled_weights, 2.0)["fc1.weight"]
    assert torch.equal(one, again)
    assert torch.equal(one, 2.0 * trial.model.fc1.weight)
    assert (work.phases_computed, work.phases_reused) == (1, 1)
    trial.once(scaled_weights, 3.0)
    trial.once(sum_of_weights)
    trial.model.fc1.weight.data[0, 0] += 1.0
    other = trial.once(scaled_weights, 2.0)["fc1.weight"]
    assert float(other[0, 0] - one[0, 0]) == pytest.approx(2.0, abs=1e-5)
    trial.masks["fc1"] = half_of(16)
    assert not trial.once(scaled_weights, 2.0)["fc1.weight"][1::2].any()
    assert (work.phases_computed, work.phases_reused) == (5, 1)


def test_the_fields_of_a_methods_object_are_part_of_the_key(make_trial: MakeTrial) -> None:
    trial = make_trial()
    double = trial.once(Scaled(2.0).score)
    assert trial.once(Scaled(3.0).score) == pytest.approx(1.5 * double)
    assert trial.once(Scaled(2.0).score) == double
    assert trial._ledger.work.phases_computed == 2


def test_once_leaves_the_same_network_whether_it_was_computed_or_found(
    make_trial: MakeTrial,
) -> None:
    left = []
    for _ in range(2):
        trial = make_trial()
        trial.masks["fc1"] = half_of(16)
        trial.once(sum_of_weights)
        left.append(weights_of(trial))
    assert trial._ledger.work.phases_reused == 1
    assert_equal(*left)


def test_what_once_returned_stays_when_the_network_moves_on(make_trial: MakeTrial) -> None:
    trial = make_trial()
    before = trial.model.fc1.weight.detach().clone()
    returned = trial.once(the_weights_themselves)["fc1.weight"]
    trial.train()
    assert torch.equal(returned, before)


def test_once_may_return_one_tensor_under_two_names(make_trial: MakeTrial) -> None:
    trial = make_trial()
    for _ in range(2):
        found = trial.once(one_tensor_under_two_names)
        assert torch.equal(found["a"], trial.model.fc1.weight.abs().sum(1))
        assert torch.equal(found["b"], found["a"])


def test_score_batches_are_all_training_images_in_order(make_trial: MakeTrial) -> None:
    images = Blobs().load(None).train  # type: ignore[arg-type]
    x, y = (torch.cat(parts) for parts in zip(*make_trial().score_batches(), strict=True))
    assert torch.equal(y, images.y)
    assert torch.allclose(x, (images.x / 255 - 0.5) / 0.25, atol=1e-5)


# -- callbacks -------------------------------------------------------------------------------


def test_callback_fields_and_generators_come_back_from_the_store(make_trial: MakeTrial) -> None:
    trials = make_trial(), make_trial()
    counters = [Counting(trial.rng("counting")) for trial in trials]
    for trial, counter in zip(trials, counters, strict=True):
        trial.train(callback=counter)
    computed, loaded = counters
    assert trials[1]._ledger.work.trainings_reused == 1
    for name in ("whole", "real", "flag", "word", "pair"):
        assert getattr(loaded, name) == getattr(computed, name), name
        assert type(getattr(loaded, name)) is type(getattr(computed, name)), name
    assert loaded.whole == 18
    assert torch.equal(loaded.tensor, torch.full((3,), 18.0))
    assert torch.equal(loaded.late, computed.late)
    # The stream goes on where the training left it: 18 draws have been made.
    reference = generator(0, "counting")
    reference_draws = [torch.rand((), generator=reference) for _ in range(19)]
    assert torch.rand((), generator=loaded.generator) == reference_draws[-1]
    assert torch.rand((), generator=computed.generator) == reference_draws[-1]


def test_nested_tuples_in_a_callback_come_back_as_tuples(make_trial: MakeTrial) -> None:
    for _ in range(2):
        trial = make_trial()
        counter = Counting(trial.rng("counting"))
        trial.train(callback=counter)
        assert counter.nested == ((18,), (18, 2))
    trial.train(callback=counter)  # and what came back is fit to train with


@pytest.mark.parametrize(
    "change",
    [{"whole": 1}, {"real": 0.5}, {"flag": True}, {"word": "y"}, {"pair": (0, 1.0)},
     {"nested": ((1,), (0, 0))}, {"tensor": torch.ones(3)}, {"late": torch.zeros(1)},
     {"generator": Generator().manual_seed(1)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_field_of_a_callback_is_part_of_the_key(
    change: dict[str, Any], make_trial: MakeTrial
) -> None:
    make_trial().train(callback=Counting(Generator()))
    same, other = make_trial(), make_trial()
    same.train(callback=Counting(Generator()))
    other.train(callback=replace(Counting(Generator()), **change))
    assert same._ledger.work.trainings == 0
    assert other._ledger.work.trainings == 1


@dataclass
class Holder(Callback):
    thing: object


class NoDataclass(Callback):
    pass


@pytest.mark.parametrize(
    "thing", [nn.Linear(2, 2), [1, 2], {"a": 1}, print, (1, [2])], ids=lambda t: type(t).__name__
)
def test_a_callback_field_without_an_identity_is_refused_by_name(
    thing: object, make_trial: MakeTrial
) -> None:
    trial = make_trial()
    with pytest.raises(TrialFailed, match=r"Holder\.thing"):
        trial.train(callback=Holder(thing))
    assert not list(trial._inputs.store.folder.glob("*.safetensors"))


def test_a_callback_that_is_no_dataclass_is_refused(make_trial: MakeTrial) -> None:
    with pytest.raises(TrialFailed, match="NoDataclass must be a dataclass"):
        make_trial().train(callback=NoDataclass())


@dataclass
class DropsToTheFloor(Callback):
    def epoch(self, trial: Trial, done: int) -> None:
        trial.masks.drop_to({"fc1": torch.arange(16.0), "fc2": torch.arange(12.0)}, 1e9)


def test_a_trial_at_its_floor_is_there_also_when_the_training_was_found(
    make_trial: MakeTrial,
) -> None:
    reached = []
    for _ in range(2):
        trial = make_trial(target=1e6)
        trial.train(callback=DropsToTheFloor())
        reached.append((trial.at_target, trial.masks.counts()))
    assert trial._ledger.work.trainings_reused == 1
    assert reached[0] == reached[1] == (True, {"fc1": 1, "fc2": 1})


# -- refusals --------------------------------------------------------------------------------


def test_once_refuses_closures_and_lambdas(make_trial: MakeTrial) -> None:
    hidden = 3.0

    def closure(trial: Trial) -> float:
        return hidden

    trial = make_trial()
    for fn in (closure, lambda trial: 1.0):
        with pytest.raises(TrialFailed, match="closure"):
            trial.once(fn)
    assert trial.once(outputs)["logits"].shape == (192, 4)  # no_grad is a closure of torch's own


def loss_with(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, label_smoothing=smoothing)

    return loss


def test_two_losses_that_hide_other_values_never_share_a_training(make_trial: MakeTrial) -> None:
    results = []
    for smoothing in (0.0, 0.5):
        trial = make_trial()
        trial.loss = loss_with(smoothing)
        try:
            trial.train()
        except TrialFailed as refused:  # as good: `once` refuses closures, too
            assert "closure" in str(refused)
            return
        results.append(weights_of(trial))
    assert not torch.equal(results[0]["fc1.weight"], results[1]["fc1.weight"])


@pytest.mark.parametrize(
    "losses",
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
        (F.cross_entropy, partial(F.cross_entropy, label_smoothing=0.5)),
    ],
    ids=["module", "partial"],
)
def test_losses_that_are_objects_are_told_apart_or_refused(
    losses: tuple[Callable[[Tensor, Tensor], Tensor], ...], make_trial: MakeTrial
) -> None:
    results = []
    for loss in losses:
        trial = make_trial()
        trial.loss = loss
        try:
            trial.train()
        except TrialFailed:
            return
        results.append(weights_of(trial))
    assert not torch.equal(results[0]["fc1.weight"], results[1]["fc1.weight"])


def reads_target(trial: Trial) -> float:
    return trial.target or 0.0


def reads_at_target(trial: Trial) -> bool:
    return trial.at_target


def trains(trial: Trial) -> None:
    trial.train()


def restores(trial: Trial) -> None:
    trial.restore(trial.snapshot())


def calls_once(trial: Trial) -> None:
    trial.once(sum_of_weights)


def validates(trial: Trial) -> None:
    trial.validate()


def drops_to_target(trial: Trial) -> None:
    trial.masks.drop_to({"fc1": torch.arange(16.0)})


@dataclass
class Calls(Callback):
    """Calls something of its trial in one hook."""

    hook: str
    fn: ClassVar[Callable[[Trial], Any]]

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        self._call(trial, "batch")

    def epoch(self, trial: Trial, done: int) -> None:
        self._call(trial, "epoch")

    def _call(self, trial: Trial, hook: str) -> None:
        if hook == self.hook:
            Calls.fn(trial)


@pytest.mark.parametrize("place", ["once", "batch", "epoch"])
@pytest.mark.parametrize(
    "fn",
    [reads_target, reads_at_target, trains, restores, calls_once, validates, drops_to_target],
    ids=lambda fn: fn.__name__,
)
def test_what_no_key_would_see_raises_inside_a_phase(
    fn: Callable[[Trial], Any], place: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(target=2.0)
    with pytest.raises(TrialFailed, match="inside a phase"):
        if place == "once":
            trial.once(fn)
        else:
            Calls.fn = staticmethod(fn)
            trial.train(callback=Calls(place))
    fn(trial)  # outside it is allowed, also after the failure


def test_a_trial_without_a_target_refuses_to_say_whether_it_is_there(make_trial: MakeTrial) -> None:
    trial = make_trial()
    assert trial.target is None
    with pytest.raises(TrialFailed, match="no target"):
        _ = trial.at_target


def test_at_target_follows_compression_and_floor(make_trial: MakeTrial) -> None:
    trial = make_trial(target=2.0)
    assert not trial.at_target
    trial.masks.drop_to({"fc1": torch.arange(16.0)})
    assert trial.at_target
    assert not outcome_of(trial).unreachable
    far = make_trial(target=1e6)
    far.masks.drop_to({"fc1": torch.arange(16.0), "fc2": torch.arange(12.0)})
    assert far.at_target
    assert outcome_of(far).unreachable


# -- states ----------------------------------------------------------------------------------


def test_a_snapshot_is_a_deep_copy(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv)
    before = weights_of(trial)
    state = trial.snapshot()
    trial.train()
    assert_equal(state.tensors, before)
    trial.restore(state)
    assert_equal(weights_of(trial), before)
    trial.train()  # moves the network in place, and not the state
    assert_equal(state.tensors, before)
    assert state.tensors["conv2.weight"].stride() == trial.model.conv2.weight.stride()


def test_restore_brings_back_weights_statistics_and_the_clock(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv)
    trial.train()
    state = trial.snapshot()
    trial.train()
    trained_twice = weights_of(trial)
    trial.restore(state)
    trial.train()
    assert_equal(weights_of(trial), trained_twice)
    assert trial._ledger.work.trainings == 2  # the third was found: the clock had gone back
    assert trial._ledger.work.trainings_reused == 1


def test_restore_leaves_masks_and_applies_them_again(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv)
    start = trial.snapshot()
    trial.train()
    trial.masks["conv2.weight"] = (torch.arange(8 * 6 * 9) % 3 == 0).view(8, 6, 3, 3)
    trial.masks["conv1"] = half_of(6)
    trial.restore(start)
    expected = {k: v.clone() for k, v in start.tensors.items()}
    expected["conv2.weight"][~trial.masks["conv2.weight"]] = 0.0
    for name in ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"):
        expected[name][1::2] = 0.0
    assert_equal(weights_of(trial), expected)
    assert trial.masks.counts() == {"conv1": 3, "conv2.weight": 144}


def test_restore_after_a_gated_training_leaves_dropped_weights_alive(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial()
    start = trial.snapshot()
    trial.masks["fc1"] = half_of(16)
    trial.train(mode="gate")
    trial.restore(start)
    assert_equal(weights_of(trial), start.tensors)


def test_a_random_stream_depends_on_seed_and_purpose_alone(make_trial: MakeTrial) -> None:
    def draw(trial: Trial, purpose: str) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=trial.rng(purpose)).tolist())

    one, other_seed = make_trial(), make_trial(seed=1)
    before = draw(one, "lots")
    one.train()
    assert draw(one, "lots") == before
    assert draw(one, "others") != before
    assert draw(other_seed, "lots") != before


# -- kept states -----------------------------------------------------------------------------


def statistics_by_hand(tensors: dict[str, Tensor], batch_size: int = 32) -> dict[str, Tensor]:
    """Average batch means and unbiased variances of `small_conv`, layer by layer."""
    images = Blobs().load(None).train  # type: ignore[arg-type]
    order = torch.randperm(192, generator=generator(0, "batchnorm"))
    found: dict[str, list[Tensor]] = {}

    def norm(x: Tensor, name: str) -> Tensor:
        flat = x.transpose(0, 1).flatten(1)
        found.setdefault(f"{name}.running_mean", []).append(flat.mean(1))
        found.setdefault(f"{name}.running_var", []).append(flat.var(1))
        x = (x - flat.mean(1).view(1, -1, 1, 1)) / (
            flat.var(1, correction=0).view(1, -1, 1, 1) + 1e-5
        ).sqrt()
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)

    for chosen in order.split(batch_size):
        x = (images.x[chosen].float() / 255 - 0.5) / 0.25
        for i in (1, 2):
            weight, bias = tensors[f"conv{i}.weight"], tensors[f"conv{i}.bias"]
            x = F.max_pool2d(F.relu(norm(F.conv2d(x, weight, bias, padding=1), f"bn{i}")), 2)
    return {name: torch.stack(values).mean(0) for name, values in found.items()}


def dropped_conv(trial: Trial) -> None:
    trial.masks["conv1"] = half_of(6)
    trial.masks["conv2"] = torch.arange(8) < 5


def test_a_whole_state_kept_after_gated_training_has_its_own_statistics(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(small_conv)
    dropped_conv(trial)
    trial.train(mode="gate")
    before = weights_of(trial)
    trial.keep("full", masked=False)
    kept = trial._kept["full"]
    assert kept.masks == {}
    assert_equal(weights_of(trial), before)  # the trial's own network is left alone
    expected = statistics_by_hand(before)
    for name, value in expected.items():
        assert torch.allclose(kept.tensors[name], value, atol=1e-4), name
    assert not torch.allclose(before["bn2.running_mean"], expected["bn2.running_mean"], atol=1e-2)
    for name in before:
        if "running" not in name and "tracked" not in name:
            assert torch.equal(kept.tensors[name], before[name]), name


def test_a_whole_state_kept_before_its_first_masked_training_is_whole(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(small_conv)
    trial.train()
    before = weights_of(trial)
    dropped_conv(trial)
    trial.keep("full", masked=False)
    tensors = trial._kept["full"].tensors
    assert torch.equal(tensors["conv1.weight"], before["conv1.weight"])
    for name, value in statistics_by_hand(before).items():
        assert torch.allclose(tensors[name], value, atol=1e-4), name


def test_a_masked_state_is_kept_with_its_masks_and_stays_as_it_is(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.masks["fc1"] = half_of(16)
    trial.train()
    before = weights_of(trial)
    trial.keep("half")
    trial.masks["fc1"] = torch.arange(16) < 2
    trial.train()
    assert_equal(trial._kept["half"].tensors, before)
    assert torch.equal(trial._kept["half"].masks["fc1"], half_of(16))


@dataclass
class MovesMasks(Callback):
    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        dropped_conv(trial)


@pytest.mark.parametrize("mode", ["hard", "gate"])
def test_statistics_are_estimated_again_where_masks_moved_in_a_training(
    mode: str, make_trial: MakeTrial
) -> None:
    trial = make_trial(small_conv)
    trial.train(mode=mode, callback=MovesMasks())
    masked = make_trial(small_conv)
    masked.masks.load(trial.masks.touched)
    masked.model.load_state_dict(trial.model.state_dict())
    apply_hard(masked.model, masked.masks)
    found = trial.model.state_dict()
    expected = statistics_by_hand(weights_of(masked))
    # A dropped filter's own statistics are nobody's: its output is multiplied away.
    assert torch.allclose(
        found["bn2.running_mean"][:5], expected["bn2.running_mean"][:5], atol=1e-4
    )
    assert torch.allclose(found["bn2.running_var"][:5], expected["bn2.running_var"][:5], atol=1e-4)


def test_statistics_are_those_of_the_training_where_masks_stood_still(
    make_trial: MakeTrial,
) -> None:
    batches_tracked = []
    for callback in (None, MovesMasks()):
        trial = make_trial(small_conv)
        if callback is None:
            dropped_conv(trial)
        trial.train(callback=callback)
        batches_tracked.append(int(trial.model.bn2.num_batches_tracked))
    # Three epochs of six batches; or one pass over them after the training.
    assert batches_tracked == [18, 6]


# -- validation and cost ---------------------------------------------------------------------


def test_validation_is_of_the_masked_network_in_both_modes(make_trial: MakeTrial) -> None:
    images = Blobs().load(None).validation  # type: ignore[arg-type]
    x = (images.x / 255 - 0.5) / 0.25
    for mode in ("hard", "gate"):
        trial = make_trial()
        trial.masks["fc1"] = half_of(16)
        trial.train(mode=mode)
        with torch.no_grad():
            m = trial.model
            hidden = F.relu(m.fc1(x.flatten(1))) * half_of(16)
            logits = m.fc3(F.relu(m.fc2(hidden)))
        right = int((logits.argmax(1) == images.y).sum())
        assert trial.validate().top1 == pytest.approx(100 * right / 64)
        assert trial.validate().loss == pytest.approx(float(F.cross_entropy(logits, images.y)))


def test_a_phase_costs_once_however_often_it_is_loaded(make_trial: MakeTrial) -> None:
    trial = make_trial()
    start = trial.snapshot()
    for _ in range(3):
        trial.restore(start)
        trial.train()
        trial.validate()
        trial.once(outputs)
    cost = trial._ledger.cost
    assert (cost.epochs, cost.optimizer_steps) == (3, 18)
    assert cost.images_seen == 3 * 192
    assert cost.images_forward == 3 * 192 + 64 + 192
    trial.restore(start)
    trial.train(lr_scale=0.5)
    assert trial._ledger.cost.images_seen == 6 * 192


def test_a_found_phase_costs_what_it_cost_whoever_computed_it(make_trial: MakeTrial) -> None:
    costs = []
    for _ in range(2):
        trial = make_trial()
        trial.train()
        trial.validate()
        costs.append(trial._ledger.cost)
    assert trial._ledger.work.phases_computed == 0
    assert costs[0] == costs[1]


@dataclass
class LooksAhead(Callback):
    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            trial.model(x)


def test_forward_passes_of_a_callback_are_part_of_the_cost(make_trial: MakeTrial) -> None:
    trial = make_trial()
    trial.train(callback=LooksAhead())
    assert trial._ledger.cost.images_seen == 3 * 192
    assert trial._ledger.cost.images_forward == 2 * 3 * 192


# -- damaged files ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_phase_is_computed_again_and_replaced(
    share: float, make_trial: MakeTrial
) -> None:
    first = make_trial()
    first.train()
    (file,) = first._inputs.store.folder.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    second = make_trial()
    second.train()
    assert second._ledger.work.trainings == 1
    assert_equal(weights_of(first), weights_of(second))
    third = make_trial()
    third.train()
    assert third._ledger.work.trainings_reused == 1
    assert_equal(weights_of(first), weights_of(third))


class Killed(BaseException):
    pass


@dataclass
class DiesInEpoch3(Callback):
    armed: ClassVar[bool] = True

    def epoch(self, trial: Trial, done: int) -> None:
        if done == 3 and DiesInEpoch3.armed:
            raise Killed


def test_truncated_progress_is_forgotten_and_the_training_begins_anew(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    results = []
    for damage in (False, True):
        shutil.rmtree(tmp_path / "phases", ignore_errors=True)
        DiesInEpoch3.armed = True
        with pytest.raises(Killed):
            make_trial().train(callback=DiesInEpoch3())
        (file,) = (tmp_path / "phases" / "progress").glob("*.safetensors")
        if damage:
            file.write_bytes(file.read_bytes()[:200])
        DiesInEpoch3.armed = False
        trial = make_trial()
        trial.train(callback=DiesInEpoch3())
        assert trial._ledger.work.epochs == (3 if damage else 1)
        assert not file.exists()
        results.append(weights_of(trial))
    assert_equal(*results)


def test_the_users_weights_stand_in_for_the_first_training(make_trial: MakeTrial) -> None:
    given = make_trial(seed=7)
    trial = make_trial()
    trial._inputs = replace(trial._inputs, weights=FittedWeights(given.model.state_dict()))
    trial.pretrained()
    assert_equal(weights_of(trial), weights_of(given))
    assert trial._ledger.cost.epochs == 0
    assert trial.snapshot().clock == trial.epochs == 3
