"""DropNet: what it drops, how it scores, and what a rewind brings back."""

import dataclasses
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
import torch
from small_networks import Blobs, MakeTrial, randomise_norms, small_conv, small_mlp
from torch import Tensor, nn

from bench.api import Callback, Images, Masks, Scope, State, Trial
from bench.data.batches import Part
from bench.graph.trace import layout_of
from bench.methods.dropnet import DropNet, mean_activation
from bench.seeds import generator
from bench.training.loop import Training
from bench.training.trial_records import TrainingArguments

WIDTHS = {"conv1": 64, "conv2": 64, "conv3": 128, "conv4": 128}
# Kept counts of the released cache, drop 0.2.
KEPT_OF_64 = [64, 52, 42, 34, 28, 23, 19, 16, 13, 11, 9, 8, 7]
KEPT_OF_128 = [128, 103, 83, 67, 54, 44, 36, 29, 24, 20, 16, 13, 11]
KEPT_OF_384 = [384, 308, 247, 198, 159, 128, 103, 83, 67, 54, 44, 36]

# What belongs to a unit of `small_conv`, spelled out by hand; one filter of conv2 becomes the four
# inputs of fc1 that its 2x2 map is flattened to.
OWN = {
    "conv1": ("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"),
    "conv2": ("conv2.weight", "conv2.bias", "bn2.weight", "bn2.bias"),
}
DROPPED = {"conv1": (1, 4), "conv2": (0, 3, 7)}


def normed_conv() -> nn.Module:
    """`small_conv` with BatchNorms that are nothing like new ones."""
    model = small_conv()
    randomise_norms(model)
    return model


def conv_chain() -> nn.Module:
    """Four convolutions of the widths of DropNet's model C."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 64, 3, padding=1), relu1=nn.ReLU(),
            conv2=nn.Conv2d(64, 64, 3, padding=1), relu2=nn.ReLU(),
            conv3=nn.Conv2d(64, 128, 3, padding=1), relu3=nn.ReLU(),
            conv4=nn.Conv2d(128, 128, 3, padding=1), relu4=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc1=nn.Linear(128, 4),
        )
    )  # fmt: skip


def signed_conv() -> nn.Module:
    """Its first site ends in a BatchNorm, so its values have both signs; its second in a ReLU."""
    model = nn.Sequential(OrderedDict(
        (name, module) for name, module in small_conv().named_children() if name != "relu1"
    ))  # fmt: skip
    randomise_norms(model)
    for tensor in (model.bn1.bias.data, model.bn1.running_mean, model.bn1.running_var):
        tensor.mul_(0.2)  # or each unit would keep to one sign
    return model


def plain_conv() -> nn.Module:
    """Convolutions without any activation: a dropped unit's weights still receive gradients."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 8, 3, padding=1), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(), fc1=nn.Linear(32, 4),
        )
    )  # fmt: skip


def masks_of_chain(seed: int = 0) -> Masks:
    layout = layout_of(conv_chain(), torch.zeros(1, 1, 8, 8))
    return Masks(layout, torch.device("cpu"), lambda purpose: generator(seed, purpose))


def kept(masks: Masks, names: tuple[str, ...] = tuple(WIDTHS)) -> dict[str, int]:
    return {name: int(masks[name].sum()) for name in names}


def off(masks: Masks, name: str) -> set[int]:
    return set((~masks[name]).nonzero().flatten().tolist())


# -- D1 --------------------------------------------------------------------------------------


def test_d1_kept_counts_follow_the_released_cache() -> None:
    for scope in ("layer", "global"):
        masks = masks_of_chain()
        g = torch.Generator().manual_seed(1)
        seen = [kept(masks)]
        for _ in range(12):
            before = {name: masks[name].clone() for name in WIDTHS}
            scores = {name: torch.rand(width, generator=g) for name, width in WIDTHS.items()}
            dropped = masks.drop_lowest(scores, 0.2, scope)
            seen.append(kept(masks))
            assert dropped == sum(seen[-2].values()) - sum(seen[-1].values())
            assert not any((masks[name] & ~before[name]).any() for name in WIDTHS)
        if scope == "layer":
            for name, width in WIDTHS.items():
                expected = KEPT_OF_64 if width == 64 else KEPT_OF_128
                assert [counts[name] for counts in seen] == expected
        else:
            assert [sum(counts.values()) for counts in seen][:12] == KEPT_OF_384


@pytest.mark.parametrize("drop", ["0.07", "0.1", "0.25", "0.29", "0.3", "0.57", "0.7", "0.9"])
def test_d1_counts_are_floors_of_exact_fractions(drop: str) -> None:
    # 0.29 * 100 is 28.999... in floating point: the share is taken as it is written.
    layout = layout_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 100), nn.ReLU(),
                                     nn.Linear(100, 60), nn.ReLU(), nn.Linear(60, 2)),
                       torch.zeros(1, 1, 2, 2))  # fmt: skip
    scores = {"1": torch.rand(100), "3": torch.rand(60)}
    by_layer = Masks(layout, torch.device("cpu"), lambda p: generator(0, p))
    over_all = Masks(layout, torch.device("cpu"), lambda p: generator(0, p))
    left, total = {"1": 100, "3": 60}, 160
    for _ in range(8):
        by_layer.drop_lowest(scores, float(drop), "layer")
        over_all.drop_lowest(scores, float(drop), "global")
        left = {n: max(1, m - max(1, math.floor(Fraction(drop) * m))) for n, m in left.items()}
        total = max(2, total - max(1, math.floor(Fraction(drop) * total)))
        assert kept(by_layer, ("1", "3")) == left
        assert sum(kept(over_all, ("1", "3")).values()) == total


# -- D2 and D3 -------------------------------------------------------------------------------


def with_images(trial: Trial, n: int) -> Trial:
    """Give a trial n noisy training images: more than one batch, the last one short."""
    g = torch.Generator().manual_seed(11)
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=g, dtype=torch.uint8)
    images = Images(pixels, torch.randint(4, (n,), generator=g))
    part = Part.of(images, Blobs(), None, torch.device("cpu"))
    trial._inputs = dataclasses.replace(trial._inputs, train=part)
    return trial


def stored_activations(
    build: Callable[[], nn.Module], trial: Trial, where: dict[str, str]
) -> dict[str, Tensor]:
    """Run a copy, module by module over all images at once, and keep what some modules put out.

    Args:
        where: module name to the site whose activations are its output.
    """
    copy = build()
    copy.load_state_dict(trial.model.state_dict())
    copy.eval()
    x, _ = next(trial._inputs.train.batches(len(trial._inputs.train)))
    found = {}
    with torch.no_grad():
        for name, module in copy.named_children():
            x = module(x)
            if name in where:
                found[where[name]] = x.double()
    return found


def mean_abs(value: Tensor) -> Tensor:
    return value.abs().mean(dim=[d for d in range(value.dim()) if d != 1])


def abs_of_spatial_mean(value: Tensor) -> Tensor:
    """The released code's score: per sample the mean over positions first, then the magnitude."""
    return value.flatten(2).mean(2).abs().mean(0)


NETWORKS = {
    "mlp": (small_mlp, {"relu1": "fc1", "relu2": "fc2"}),
    "conv": (normed_conv, {"relu1": "conv1", "relu2": "conv2"}),
    "signed": (signed_conv, {"bn1": "conv1", "relu2": "conv2"}),
}


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("network", list(NETWORKS))
def test_d2_one_pass_scores_equal_those_of_stored_activations(
    make_trial: MakeTrial, network: str
) -> None:
    build, where = NETWORKS[network]
    trial = with_images(make_trial(build), 600)
    trial.model.train()  # scoring is in eval mode whatever the network was in
    before = trial.snapshot().tensors
    found = mean_activation(trial)
    assert_near(found, {n: mean_abs(v) for n, v in stored_activations(build, trial, where).items()})
    assert trial.model.training
    assert all(torch.equal(v, before[k]) for k, v in trial.model.state_dict().items())


@pytest.mark.parametrize("network", list(NETWORKS))
def test_d2_scores_do_not_depend_on_the_batch_size(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    trial = with_images(make_trial(NETWORKS[network][0]), 600)

    def scores_at(size: int) -> dict[str, Tensor]:
        part = trial._inputs.train.in_memory_format(trial.layout.has_convolutions)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            yield from part.batches(size)

        monkeypatch.setattr(trial, "score_batches", batches)
        return mean_activation(trial)

    assert_near(scores_at(32), scores_at(257))


def test_d2_scores_are_those_of_the_masked_network(make_trial: MakeTrial) -> None:
    build, where = NETWORKS["conv"]
    trial = with_images(make_trial(build), 300)
    whole = mean_activation(trial)
    drop(trial, DROPPED)
    found = trial.once(mean_activation)
    with torch.no_grad():
        silence(trial.model, DROPPED)
    expected = {n: mean_abs(v) for n, v in stored_activations(build, trial, where).items()}
    assert_near(found, expected)
    for name, units in DROPPED.items():
        assert all(found[name][unit] == 0 for unit in units)
    assert not torch.allclose(found["conv2"][1], whole["conv2"][1], rtol=1e-3)


def test_d3_order_of_mean_and_magnitude_matters_for_signed_activations_only(
    make_trial: MakeTrial,
) -> None:
    for network in ("conv", "signed"):
        build, where = NETWORKS[network]
        trial = with_images(make_trial(build), 300)
        found = mean_activation(trial)
        pooled = {
            name: abs_of_spatial_mean(value)
            for name, value in stored_activations(build, trial, where).items()
        }
        for name, score in pooled.items():
            if network == "signed" and name == "conv1":
                assert ((found[name] - score) / found[name]).max() > 0.1
            else:
                torch.testing.assert_close(found[name], score, rtol=1e-6, atol=1e-9)


# -- D4, D5, D6: selection -------------------------------------------------------------------


def lowest_by_hand(
    scores: dict[str, list[float]], alive: dict[str, set[int]], share: float, scope: Scope
) -> set[tuple[str, int]]:
    """Walk up a sorted list; a layer's last unit is passed over."""
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    gone: set[tuple[str, int]] = set()
    for group in groups:
        left = {name: len(alive[name]) for name in group}
        budget = max(1, int(share * sum(left.values()) + 1e-9))
        for _, name, unit in sorted((scores[n][u], n, u) for n in group for u in alive[n]):
            if budget and left[name] > 1:
                budget -= 1
                left[name] -= 1
                gone.add((name, unit))
    return gone


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_d4_the_dropped_set_is_the_lowest_k_in_1000_trials(scope: Scope) -> None:
    layout = layout_of(small_mlp(), torch.zeros(1, 1, 8, 8))
    sizes = {"fc1": 16, "fc2": 12}
    g = torch.Generator().manual_seed(4)
    several = 0
    for i in range(1000):
        masks = Masks(layout, torch.device("cpu"), lambda p, i=i: generator(i, p))
        for name, size in sizes.items():
            mask = torch.rand(size, generator=g) < 0.8
            mask[int(torch.randint(size, (1,), generator=g))] = True
            masks[name] = mask
        alive = {name: set(masks[name].nonzero().flatten().tolist()) for name in sizes}
        # Distinct whole numbers: every order is strict, also across layers; signs are mixed.
        order = torch.randperm(28, generator=g) - 14
        scores = dict(zip(sizes, order.float().split(list(sizes.values())), strict=True))
        share = float(torch.rand(1, generator=g)) * 0.9 + 0.05
        plain = {name: values.tolist() for name, values in scores.items()}
        expected = lowest_by_hand(plain, alive, share, scope)
        assert masks.drop_lowest(scores, share, scope) == len(expected)
        gone = {(name, unit) for name in sizes for unit in alive[name] & off(masks, name)}
        assert gone == expected
        several += len(expected) > 2
    assert several > 800


def test_d5_ties_over_all_layers_fall_on_each_in_proportion_to_its_width() -> None:
    draws, total = 1000, 384
    k = total // 5  # floor(.2 * 384)
    layout = masks_of_chain().layout
    tied = {name: torch.full((width,), 0.5) for name, width in WIDTHS.items()}
    dropped = {name: torch.zeros(draws, dtype=torch.float64) for name in WIDTHS}
    times = {name: torch.zeros(width) for name, width in WIDTHS.items()}
    for seed in range(draws):
        masks = Masks(layout, torch.device("cpu"), lambda p, seed=seed: generator(seed, p))
        assert masks.drop_lowest(tied, 0.2, "global") == k
        for name in WIDTHS:
            dropped[name][seed] = (~masks[name]).sum()
            times[name] += ~masks[name]
    for name, width in WIDTHS.items():
        share = width / total
        # Drawing without replacement: the hypergeometric variance.
        variance = k * share * (1 - share) * (total - k) / (total - 1)
        error = math.sqrt(variance / draws)
        assert abs(float(dropped[name].mean()) - k * share) < 3 * error
        assert float(dropped[name].var()) == pytest.approx(variance, rel=0.2)
        # Within a layer no position is favoured either: 5 sigma over 384 units.
        p = k / total
        assert float((times[name] / draws - p).abs().max()) < 5 * math.sqrt(p * (1 - p) / draws)


@pytest.mark.parametrize("min_keep", [0.02, 0.0])
def test_d6_no_layer_falls_below_its_floor_down_to_5_percent(min_keep: float) -> None:
    at_floor, below_two_percent = 0, 0
    for run in range(100):
        scope: Scope = "global" if run % 2 else "layer"
        masks = masks_of_chain(run)
        g = torch.Generator().manual_seed(run)
        while sum(kept(masks).values()) > 0.05 * 384:
            # Layers on very different scales: a ranking over all of them would empty some.
            scale = torch.rand(4, generator=g) ** 4
            scores = {
                name: float(scale[i]) * torch.rand(width, generator=g)
                for i, (name, width) in enumerate(WIDTHS.items())
            }
            before = sum(kept(masks).values())
            assert masks.drop_lowest(scores, 0.2, scope, min_keep) > 0
            assert sum(kept(masks).values()) >= before - max(4, before // 5)
            for name, width in WIDTHS.items():
                floor = max(1, math.ceil(Fraction(str(min_keep)) * width))
                assert kept(masks)[name] >= floor
                at_floor += kept(masks)[name] == floor
        below_two_percent += any(n < 0.02 * WIDTHS[name] for name, n in kept(masks).items())
    assert at_floor > 50  # the floor was met and not just never needed
    # Without one, the same runs fall lower: the check can fail.
    assert below_two_percent == 0 if min_keep else below_two_percent > 10


def test_d6_dropping_ends_at_the_floor() -> None:
    masks = masks_of_chain()
    scores = {name: torch.rand(width) for name, width in WIDTHS.items()}
    steps = 0
    while masks.drop_lowest(scores, 0.5, "global", 0.1):
        steps += 1
        assert steps < 100
    assert kept(masks) == {"conv1": 7, "conv2": 7, "conv3": 13, "conv4": 13}
    assert masks.at_floor


# -- D7: rewinding ---------------------------------------------------------------------------


def record_cycles(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, Masks]]:
    """Note the network, its clock and its masks each time that a training begins."""
    cycles: list[tuple[State, dict[str, Tensor]]] = []
    train = trial.train

    def recording(**arguments: object) -> None:
        cycles.append((trial.snapshot(), {n: m.clone() for n, m in trial.masks.touched.items()}))
        train(**arguments)

    monkeypatch.setattr(trial, "train", recording)
    return cycles


def silence(model: nn.Module, dropped: dict[str, tuple[int, ...]]) -> None:
    """Zero what belongs to units of `small_conv`, one by one."""
    for site, units in dropped.items():
        for name, unit in itertools.product(OWN[site], units):
            model.get_parameter(name).data[unit] = 0.0


def drop(trial: Trial, dropped: dict[str, tuple[int, ...]]) -> None:
    for site, units in dropped.items():
        mask = torch.ones_like(trial.masks[site])
        mask[list(units)] = False
        trial.masks[site] = mask


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_d7_every_cycle_starts_from_the_initial_network(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    trial = make_trial(normed_conv, target=3.0, epochs=1)
    theta0 = {k: v.clone() for k, v in trial.model.state_dict().items()}
    cycles = record_cycles(trial, monkeypatch)
    DropNet(scope=scope).prune(trial)
    assert len(cycles) > 3
    moved = [
        k for k, v in trial.model.state_dict().items() if not torch.equal(v, theta0[k])
    ]  # training does change it all, the statistics too
    assert {"conv1.weight", "bn1.running_mean", "bn2.running_var", "fc1.bias"} <= set(moved)
    for number, (state, masks) in enumerate(cycles):
        assert bool(masks) == (number > 0)
        expected = normed_conv()
        expected.load_state_dict(theta0)
        gone = {n: tuple((~m).nonzero().flatten().tolist()) for n, m in masks.items()}
        silence(expected, gone)
        assert state.clock == 0
        assert state.tensors.keys() == theta0.keys()
        for name, value in expected.state_dict().items():
            assert torch.equal(state.tensors[name], value), f"cycle {number}: {name}"


def test_d7_without_rewinding_cycles_go_on_from_the_trained_network(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(normed_conv, target=3.0, epochs=1)
    theta0 = {k: v.clone() for k, v in trial.model.state_dict().items()}
    cycles = record_cycles(trial, monkeypatch)
    DropNet(rewind="none").prune(trial)
    assert [state.clock for state, _ in cycles] == list(range(len(cycles)))
    for state, _ in cycles[1:]:
        assert not torch.equal(state.tensors["bn1.running_mean"], theta0["bn1.running_mean"])
        assert not torch.equal(state.tensors["fc1.weight"], theta0["fc1.weight"])


def test_d7_a_snapshot_is_not_changed_by_later_training(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv, epochs=1)
    trial.train()
    snapshot = trial.snapshot()
    before = {k: v.clone() for k, v in snapshot.tensors.items()}
    drop(trial, DROPPED)
    trial.train()
    assert not torch.equal(trial.model.get_parameter("fc1.weight"), before["fc1.weight"])
    assert all(torch.equal(v, before[k]) for k, v in snapshot.tensors.items())
    trial.restore(snapshot)
    trial.train()  # nor does training after a restore write into what was restored
    assert all(torch.equal(v, before[k]) for k, v in snapshot.tensors.items())
    assert snapshot.clock == 1


@pytest.mark.parametrize("rewind", ["init", "none"])
@pytest.mark.parametrize("build", [normed_conv, plain_conv])
def test_d7_the_same_run_again_is_found_done_and_ends_the_same(
    make_trial: MakeTrial, build: Callable[[], nn.Module], rewind: str
) -> None:
    method = DropNet(rewind=rewind)
    first, again = (make_trial(build, target=2.0, epochs=1) for _ in range(2))
    for trial in (first, again):
        method.prune(trial)
    assert first._ledger.work.trainings > 2
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert first.masks.counts() == again.masks.counts()
    assert again._ledger.work.trainings == 0
    assert again._ledger.work.phases_computed == 0
    assert again._ledger.cost.as_json() == first._ledger.cost.as_json()


# -- D8: dropped units in training -----------------------------------------------------------


@dataclasses.dataclass
class Watch(Callback):
    """Logs every step's gradients and the weights after it."""

    def gradients(self, trial: Trial) -> None:
        trial._events.append(
            dict(gradients={n: p.grad.clone() for n, p in trial.model.named_parameters()})
        )

    def step(self, trial: Trial, lr: float) -> None:
        trial._events.append(
            dict(weights={n: p.detach().clone() for n, p in trial.model.named_parameters()})
        )


def logged(trial: Trial, what: str) -> list[dict[str, Tensor]]:
    return [event[what] for event in trial._events if what in event]


def dead_entries(trial: Trial, columns: bool) -> dict[str, Tensor]:
    """Which entries of `small_conv` belong to the units of DROPPED; with what reads them, or not."""
    dead = {n: torch.zeros(p.shape, dtype=torch.bool) for n, p in trial.model.named_parameters()}
    for site, units in DROPPED.items():
        for name, unit in itertools.product(dead.keys() & set(OWN[site]), units):
            dead[name][unit] = True
    if columns:
        for unit in DROPPED["conv1"]:
            dead["conv2.weight"][:, unit] = True
        for unit in DROPPED["conv2"]:
            dead["fc1.weight"][:, 4 * unit : 4 * unit + 4] = True
    return dead


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
def test_d8_gated_units_stay_bit_equal_and_get_no_gradient(
    make_trial: MakeTrial, weight_decay: float
) -> None:
    trial = make_trial(normed_conv, epochs=2, weight_decay=weight_decay)
    drop(trial, DROPPED)
    theta0 = {n: p.detach().clone() for n, p in trial.model.named_parameters()}
    dead = dead_entries(trial, columns=True)
    trial.train(mode="gate", callback=Watch())
    assert len(logged(trial, "weights")) == len(logged(trial, "gradients")) == 12
    for gradients in logged(trial, "gradients"):
        for name, gradient in gradients.items():
            assert not gradient[dead[name]].any(), name
        assert all((gradients[n][~dead[n]] != 0).any() for n in OWN["conv2"] + ("fc1.bias",)
                   if n != "conv2.bias")  # fmt: skip
    for weights in logged(trial, "weights"):
        for name, weight in weights.items():
            assert torch.equal(weight[dead[name]], theta0[name][dead[name]]), name
    for name, parameter in trial.model.named_parameters():
        if weight_decay == 0 and name in ("conv1.bias", "conv2.bias"):
            continue  # before a BatchNorm: rounding alone moves it
        assert (parameter[~dead[name]] != theta0[name][~dead[name]]).any(), name


@dataclasses.dataclass
class Checks(Callback):
    """Calls a function after every step."""

    check: Callable[[], None]

    def step(self, trial: Trial, lr: float) -> None:
        self.check()


def train_in_steps(trial: Trial, mode: str, check: Callable[[Training], None]) -> None:
    """Train for two epochs and look at network and optimiser after every step."""
    setting = trial._inputs
    job = TrainingArguments(setting.recipe, setting.seed, 0, 0, 2, 2, 1.0, None, mode, trial.loss)
    training = Training(job, trial.model, trial.layout, trial.masks, setting.train,
                        Checks(lambda: check(training)), trial)  # fmt: skip
    training.run(lambda now: None)


def optimiser_state(training: Training, name: str) -> list[Tensor]:
    parameter = training.model.get_parameter(name)
    state = training.optimizer.state[parameter].values()
    return [value for value in state if isinstance(value, Tensor) and value.dim()]


OPTIMIZERS = {"sgd": 0.05, "adam": 1e-3, "adadelta": 1.0}


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("build", [normed_conv, plain_conv])
def test_d8_hard_dropped_units_are_exactly_zero_with_zero_momentum(
    make_trial: MakeTrial, build: Callable[[], nn.Module], optimizer: str
) -> None:
    trial = make_trial(build, optimizer=optimizer, lr=OPTIMIZERS[optimizer], weight_decay=5e-4)
    drop(trial, DROPPED)
    dead = dead_entries(trial, columns=False)
    steps = 0

    def check(training: Training) -> None:
        nonlocal steps
        steps += 1
        for name in dead:
            assert not training.model.get_parameter(name)[dead[name]].any(), name
            states = optimiser_state(training, name)
            assert states, name
            for moment in states:
                assert not moment[dead[name]].any(), name
                assert moment[~dead[name]].any(), name

    train_in_steps(trial, "hard", check)
    assert steps == 12


@pytest.mark.parametrize("build", [normed_conv, plain_conv])
def test_d8_hard_dropped_units_end_as_positive_zeros(
    make_trial: MakeTrial, build: Callable[[], nn.Module]
) -> None:
    # -0.0 equals 0.0 but hashes differently: the same work would be done twice.
    trial = make_trial(build, epochs=1)
    drop(trial, DROPPED)
    trial.train()
    for name, dead in dead_entries(trial, columns=False).items():
        assert not torch.signbit(trial.model.get_parameter(name)[dead]).any(), name


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
def test_d8_gated_units_gather_no_momentum(make_trial: MakeTrial, weight_decay: float) -> None:
    trial = make_trial(normed_conv, weight_decay=weight_decay)
    drop(trial, DROPPED)
    dead = dead_entries(trial, columns=True)

    def check(training: Training) -> None:
        for name in dead:
            for moment in optimiser_state(training, name):
                assert not moment[dead[name]].any(), name

    train_in_steps(trial, "gate", check)


def test_d8_dropnet_ends_with_exact_zeros_under_its_masks(make_trial: MakeTrial) -> None:
    trial = make_trial(normed_conv, target=3.0, epochs=1)
    DropNet().prune(trial)
    assert trial.at_target
    gone = {n: tuple((~m).nonzero().flatten().tolist()) for n, m in trial.masks.touched.items()}
    assert gone
    for site, units in gone.items():
        for name, unit in itertools.product(OWN[site], units):
            assert not trial.model.get_parameter(name)[unit].any()
        for unit in set(range(trial.layout.site(site).size)) - set(units):
            assert trial.model.get_parameter(f"{site}.weight")[unit].any()
