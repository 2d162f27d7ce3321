"""Deep Compression: shared values against autograd through a codebook, bits, what is left alone."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import MakeTrial, randomise_norms, small_conv, small_mlp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bench.api import Trial
from bench.measure.codec import decode
from bench.measure.file_size import through_files
from bench.methods._sharing import SharedTraining, clustered, share
from bench.methods.deep_compression import DeepCompression
from bench.methods.magnitude import Magnitude
from bench.plan.registry import Registry
from bench.pruning.hard_mask import apply_hard
from bench.training.contract import Reference
from bench.training.trial import close

# One batch an epoch, one rate, strong decay to be left out.
BARE: dict[str, Any] = {"batch_size": 192, "schedule": "constant", "weight_decay": 0.1}
BUILDS = pytest.mark.parametrize("build", [small_mlp, small_conv])


def normed_conv() -> nn.Module:
    model = small_conv()
    randomise_norms(model)
    return model


def pruned(make_trial: MakeTrial, build: Callable[[], nn.Module], **recipe: Any) -> Trial:
    """An untrained trial whose layers have lost half of their weights each."""
    trial: Trial = make_trial(build, **recipe)
    Magnitude(
        start="init", retrain="none", densities="+".join(["0.5"] * len(trial.layout.weights))
    ).prune(trial)
    apply_hard(trial.model, trial.masks)
    return trial


def shared(trial: Trial, bits: int = 3) -> tuple[dict[str, Tensor], SharedTraining]:
    found = trial.once(clustered, dict.fromkeys(trial.layout.weights, bits), "linear")
    return found, share(trial, found)


def pattern(weight: Tensor) -> np.ndarray[Any, Any]:
    """The bits of every weight, in C order: -0.0 is not 0.0."""
    flat: np.ndarray[Any, Any] = weight.detach().contiguous().flatten().numpy()
    return flat.view(np.int32)


# -- shared gradients --------------------------------------------------------------------------------------


def fed_four() -> nn.Module:
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc=nn.Linear(64, 4, bias=False)))


def nothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.sum() * 0.0


@dataclass
class WithGradients(SharedTraining):
    """Shared values under given gradients of single weights."""

    given: Tensor

    def penalty(self, trial: Trial) -> Tensor:
        return (trial.model.get_parameter("fc.weight") * self.given).sum()


def test_a_centroid_steps_by_the_sum_of_its_members_gradients(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(fed_four, epochs=1, lr=1.0, momentum=0.0, **BARE | {"weight_decay": 0.0})
    trial.loss = nothing
    places = torch.full((4, 64), 4, dtype=torch.int32)  # all but the first 4 x 4 are dropped
    places[:, :4] = torch.tensor([[0, 3, 1, 2], [2, 2, 3, 0], [3, 0, 2, 3], [0, 3, 1, 1]])
    given = torch.full((4, 64), 7.0)
    given[:, :4] = torch.tensor([[-0.03, -0.01, 0.03, 0.02], [-0.01, 0.01, -0.02, 0.12],
                                 [-0.01, 0.02, 0.02, 0.02], [-0.07, -0.01, 0.01, -0.02]])  # fmt: skip
    trial.masks["fc.weight"] = places < 4
    book = torch.tensor([2.0, 1.5, 0.0, -1.0])
    training = share(trial, {"fc.weight": book, "fc.weight/assignment": places})
    trial.train(callback=WithGradients(training.layers, training.assignment, given))
    weight = trial.model.get_parameter("fc.weight").detach()
    expected = torch.tensor([1.96, 1.48, -0.04, -0.97, 0.0])
    assert torch.allclose(weight, expected[places.long()], atol=1e-6)
    assert not bool(weight[places == 4].any())


# -- training of shared values ---------------------------------------------------------------------


class Codebooks(nn.Module):
    """Every layer's weight as codebook[index], the last entry fixed at zero."""

    def __init__(self, model: nn.Module, found: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.names = [name for name in found if not name.endswith("/assignment")]
        self.index = {n: found[f"{n}/assignment"].long() for n in self.names}
        self.books = nn.ParameterList([found[name].clone() for name in self.names])

    def weights(self) -> dict[str, Tensor]:
        books = zip(self.names, self.books, strict=True)
        return {n: torch.cat([b, b.new_zeros(1)])[self.index[n]] for n, b in books}

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = functional_call(self.model, self.weights(), (x,))
        return made


@pytest.mark.parametrize("build", [small_mlp, normed_conv])
@pytest.mark.parametrize("nesterov", [True, False])
def test_values_learn_as_through_autograd_and_do_not_decay(
    make_trial: MakeTrial, build: Callable[[], nn.Module], nesterov: bool
) -> None:
    trial = pruned(make_trial, build, epochs=6, lr=0.02, nesterov=nesterov, **BARE)
    found, training = shared(trial)
    twin = pruned(make_trial, build, epochs=6, lr=0.02, nesterov=nesterov, **BARE)
    oracle = Codebooks(twin.model, found).train()
    others = [p for n, p in twin.model.named_parameters() if n not in oracle.names]
    optimizer = torch.optim.SGD(
        [{"params": list(oracle.books), "weight_decay": 0.0}, {"params": others}],
        0.02, 0.9, weight_decay=0.1, nesterov=nesterov,
    )  # fmt: skip
    part = trial._inputs.train.in_memory_format(trial.layout.has_convolutions)
    x, y = part.batch(torch.arange(192))
    for _ in range(6):
        optimizer.zero_grad()
        cross_entropy(oracle(x), y).backward()
        optimizer.step()
    trial.train(callback=training)
    for name, expected in oracle.weights().items():
        weight = trial.model.get_parameter(name)
        start = twin.model.get_parameter(name)
        assert torch.allclose(weight, expected, atol=2e-5), name
        assert not torch.allclose(weight, start, atol=1e-3)
    for name, parameter in twin.model.named_parameters():
        if name not in oracle.names:
            assert torch.allclose(trial.model.get_parameter(name), parameter, atol=2e-5), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adadelta"])
@BUILDS
def test_members_stay_equal_to_the_bit_and_dropped_weights_stay_zero(
    make_trial: MakeTrial, build: Callable[[], nn.Module], optimizer: str
) -> None:
    trial = pruned(make_trial, build, optimizer=optimizer, lr=0.01)
    found, training = shared(trial)
    before = {n: trial.model.get_parameter(n).detach().clone() for n in trial.layout.weights}
    trial.train(callback=training)
    for name, mask in before.items():
        places = found[f"{name}/assignment"].flatten().numpy()
        bits = pattern(trial.model.get_parameter(name))
        for group in range(len(found[name])):
            assert len(set(bits[places == group].tolist())) == 1, (name, group)
        assert not bits[places == len(found[name])].any()
        assert np.array_equal(places == len(found[name]), (~trial.masks[name]).flatten().numpy())
        assert not torch.equal(trial.model.get_parameter(name), mask)


@BUILDS
def test_sharing_puts_every_kept_weight_on_its_nearest_value(
    make_trial: MakeTrial, build: Callable[[], nn.Module]
) -> None:
    trial = pruned(make_trial, build)
    before = {n: trial.model.get_parameter(n).detach().clone() for n in trial.layout.weights}
    found, _ = shared(trial)
    for name, weight in before.items():
        mask, book = trial.masks[name], found[name]
        assert len(book) == 7
        nearest = (weight[mask][:, None] - book[None]).abs().min(1).values
        put = (weight - trial.model.get_parameter(name).detach())[mask].abs()
        assert torch.allclose(put, nearest, atol=1e-7)
        for group in range(len(book)):  # a value is the mean of its weights
            members = weight[found[f"{name}/assignment"] == group]
            assert float(book[group]) == pytest.approx(float(members.double().mean()), abs=1e-6)


# -- the whole method ------------------------------------------------------------------------------


@BUILDS
@pytest.mark.parametrize(("conv_bits", "linear_bits"), [(4, 2), (1, 3), (8, 5)])
def test_a_layer_has_as_many_values_as_its_bits_leave(
    make_trial: MakeTrial, build: Callable[[], nn.Module], conv_bits: int, linear_bits: int
) -> None:
    trial = make_trial(build, target=2.0, epochs=2)
    method = DeepCompression(conv_bits=conv_bits, linear_bits=linear_bits, share_epochs=1)
    method.prune(trial)
    for layer in trial.layout.layers:
        name = f"{layer.name}.weight"
        weight, mask = trial.model.get_parameter(name).detach(), trial.masks[name]
        values = 2 ** (conv_bits if layer.is_convolution else linear_bits) - 1
        assert 1 <= len(weight[mask].unique()) <= values
        assert not bool(weight[~mask].any())
    assert trial._index_bits == 5
    assert trial.masks.compression >= 2 * (1 - 1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"quality": 0.8}, {"densities": "0.2+0.4+0.6", "rounds": 2, "lr_scale": 0.1}]
)
def test_pruning_is_magnitudes_and_its_network_is_kept_beside(
    make_trial: MakeTrial, options: dict[str, Any]
) -> None:
    target = None if options else 4.0
    plain, trial = make_trial(target=target), make_trial(target=target)
    Magnitude(**options).prune(plain)
    DeepCompression(**options, share_epochs=1, index_bits=4).prune(trial)
    kept = trial._kept["before_sharing"]
    assert kept.masks.keys() == plain.masks.touched.keys() == trial.masks.touched.keys()
    for name, mask in plain.masks.touched.items():
        assert torch.equal(kept.masks[name], mask)
        assert torch.equal(trial.masks[name], mask)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(kept.tensors[name], tensor)
    assert not torch.equal(trial.model.fc1.weight, plain.model.fc1.weight)
    assert trial._index_bits == 4
    assert trial._ledger.cost.epochs == plain._ledger.cost.epochs + 3


def test_without_epochs_the_values_are_those_of_k_means(make_trial: MakeTrial) -> None:
    trial = make_trial(target=2.0)
    DeepCompression(share_epochs=0, linear_bits=4).prune(trial)
    twin = make_trial(target=2.0)
    Magnitude().prune(twin)
    shared(twin, bits=4)
    for name, tensor in twin.model.state_dict().items():
        assert torch.equal(trial.model.state_dict()[name], tensor)


@BUILDS
def test_a_seed_decides_the_file_to_the_byte(
    make_trial: MakeTrial, build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    files = []
    for i, seed in enumerate((0, 0, 1)):
        trial = make_trial(build, target=2.0, seed=seed, epochs=2)
        trial._ledger.store = type(trial._ledger.store)(tmp_path / f"phases-{i}")
        torch.manual_seed(i)
        DeepCompression(share_epochs=1, start="random").prune(trial)
        assert trial._ledger.work.trainings >= 3  # nothing was found
        through_files(tmp_path, trial.model, trial.layout, trial.masks.touched, 5, {})
        files.append((tmp_path / "model.dc").read_bytes())
    assert files[0] == files[1] != files[2]
    held = decode(files[2]).tensors
    assert all(torch.equal(held[n], v) for n, v in trial.model.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"quality": 0.8}])
def test_the_random_control_ends_at_the_same_counts(
    make_trial: MakeTrial, options: dict[str, Any]
) -> None:
    method = DeepCompression(**options, share_epochs=1)
    trial = make_trial(small_conv, target=None if options else 4.0)
    method.prune(trial)
    close(trial)
    how = method.control()
    rounds = trial._rounds if how.follows_rounds else trial._rounds[-1:]
    reference = Reference(
        how.start, tuple(rounds), trial._lr_scale, how.retrains, trial.masks.touched, 9
    )
    for control in ("random", "magnitude"):
        follower = make_trial(small_conv)
        follower._inputs = dataclasses.replace(follower._inputs, reference=reference)
        Registry().method(control)().prune(follower)
        assert follower.masks.counts() == trial.masks.counts()
        assert follower._ledger.cost.epochs >= 3
        same = torch.equal(follower.masks["conv2.weight"], trial.masks["conv2.weight"])
        assert same <= (control == "magnitude")


@pytest.mark.parametrize("control", ["random", "magnitude"])
def test_a_control_of_what_dropped_nothing_is_trained(make_trial: MakeTrial, control: str) -> None:
    follower = make_trial()
    reference = Reference("init", (), 1.0, True, {}, 9)
    follower._inputs = dataclasses.replace(follower._inputs, reference=reference)
    Registry().method(control)().prune(follower)
    assert follower._ledger.cost.epochs >= 3


def test_a_control_starts_and_goes_on_as_the_pruning_does() -> None:
    assert DeepCompression().control() == Magnitude().control()
