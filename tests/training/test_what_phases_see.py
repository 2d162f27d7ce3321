"""A phase's key covers everything the phase reads; what no key can see is refused."""

import copy
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import MakeTrial, small_conv, small_mlp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from bench.errors import TrialFailed
from bench.training.contract import Callback, Trial
from bench.training.network_facts import facts_of, identity
from bench.training.surroundings import Surroundings
from bench.training.trial import RunningTrial, run_method


class Mode(enum.Enum):
    """Two values of an attribute."""

    A = 1
    B = 2


class Lively(nn.Module):
    """It counts its calls, keeps what it saw, and has settings, a buffer that is not stored and Dropout."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop = small_mlp(), nn.Dropout(0.25)
        self.register_buffer("mask", torch.ones(64), persistent=False)
        self.calls, self.features = 0, None
        self.slope, self.mode, self.sizes, self.act = 0.5, Mode.A, (1, 2), torch.relu
        self.table = torch.tensor([1.0])

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.features = x  # type: ignore[assignment]
        x = self.drop(x * self.mask.view(1, 1, 8, 8) * self.table)
        made: Tensor = self.body(x) * self.slope
        return made


@dataclass
class Quiet(Callback):
    """Does nothing, with a field that is part of the key."""

    strength: float = 1.0


def damp(gradient: Tensor) -> Tensor:
    return gradient * 0.01


def shout(*given: Any) -> None:
    """A hook that does nothing."""


class OtherMode(TorchDispatchMode):
    """A mode that changes nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _swap(t: RunningTrial) -> None:
    t.model.body.relu1 = nn.Tanh()  # type: ignore[union-attr,assignment]


# What may differ between two otherwise equal trainings, each with how it is made.
CHANGES: dict[str, Callable[[RunningTrial], object]] = {
    "weight": lambda t: t.model.body.fc1.weight.data.mul_(1.5),  # type: ignore[union-attr,operator]
    "weight by one bit": lambda t: t.model.body.fc1.bias.data[:1].add_(1e-7),  # type: ignore[union-attr,operator,index]
    "mask": lambda t: t.masks.__setitem__("body.fc1", torch.arange(16) > 3),
    "buffer that is not stored": lambda t: t.model.mask[:4].zero_(),  # type: ignore[index,union-attr,operator]
    "module": _swap,
    "added module": lambda t: t.model.body.append(nn.Identity()),  # type: ignore[operator,union-attr]
    "parametrisation": lambda t: parametrize.register_parametrization(
        t.model.body.fc1,
        "weight",
        nn.Identity(),  # type: ignore[union-attr,arg-type]
    ),
    "number": lambda t: setattr(t.model, "slope", 0.75),
    "enumeration": lambda t: setattr(t.model, "mode", Mode.B),
    "tuple": lambda t: setattr(t.model, "sizes", (1, 3)),
    "list for a tuple's number": lambda t: setattr(t.model, "sizes", (1, 2.0)),
    "function": lambda t: setattr(t.model, "act", torch.tanh),
    "tensor that is no buffer": lambda t: t.model.table.fill_(2.0),  # type: ignore[union-attr,operator]
    "new attribute": lambda t: setattr(t.model, "fresh", True),
    "lost attribute": lambda t: delattr(t.model, "slope"),
    "Dropout's p": lambda t: setattr(t.model.drop, "p", 0.5),
    "frozen weight": lambda t: t.model.body.fc1.weight.requires_grad_(False),  # type: ignore[union-attr,operator]
    "forward hook": lambda t: t.model.body.fc1.register_forward_hook(shout),  # type: ignore[union-attr,operator]
    "input hook": lambda t: t.model.body.fc2.register_forward_pre_hook(shout),  # type: ignore[union-attr,operator]
    "backward hook": lambda t: t.model.body.fc1.register_full_backward_hook(shout),  # type: ignore[union-attr,operator]
    "gradient's hook": lambda t: t.model.body.fc1.weight.register_hook(damp),  # type: ignore[union-attr,operator]
    "hook after accumulation": lambda t: t.model.body.fc1.weight.register_post_accumulate_grad_hook(
        shout
    ),  # type: ignore[union-attr,operator]
    "hook for all modules": lambda t: nn.modules.module.register_module_forward_hook(shout),
    "forward of an instance": lambda t: setattr(t.model, "forward", lambda x: x.flatten(1)[:, :4]),
    "dispatch mode": lambda t: OtherMode().__enter__(),  # type: ignore[no-untyped-call]
    "default dtype": lambda t: torch.set_default_dtype(torch.float64),
    "grad mode": lambda t: torch.set_grad_enabled(False),
    "determinism": lambda t: torch.use_deterministic_algorithms(True),
    "clock": lambda t: setattr(t, "_clock", 1),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "lr_scale": {"lr_scale": 0.5}, "epochs": {"epochs": 2}, "span": {"epochs": 2, "span": (0, 1)},
    "trainable": {"trainable": ("body.fc1",)}, "mode": {"mode": "soft"},
    "callback": {"callback": Quiet()}, "callback's field": {"callback": Quiet(2.0)},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _global_state_comes_back() -> Any:
    hooks = nn.modules.module._global_forward_hooks
    before = dict(hooks)
    yield
    hooks.clear()
    hooks.update(before)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    while torch._C._len_torch_dispatch_stack():
        torch._C._pop_torch_dispatch_stack(None)


def key_after(trial: RunningTrial, change: Callable[[RunningTrial], object], **more: Any) -> str:
    """The key of a training after a change; the word `refused` where it is refused in a sentence."""
    change(trial)
    try:
        trial.train(**{"epochs": 1, **more})
    except TrialFailed as refusal:
        assert "key" in str(refusal) or "None" in str(refusal), refusal
        return "refused"
    (key,) = trial._ledger.costs
    return key


def nothing(trial: RunningTrial) -> None:
    """Change nothing."""


@pytest.mark.parametrize("what", [*CHANGES, *ARGUMENTS])
def test_a_change_has_its_own_key_or_is_refused(make_trial: MakeTrial, what: str) -> None:
    plain = key_after(make_trial(Lively), nothing)
    assert key_after(make_trial(Lively), nothing) == plain
    trial = make_trial(Lively)
    try:
        found = key_after(trial, CHANGES.get(what, nothing), **ARGUMENTS.get(what, {}))
    except (AttributeError, RuntimeError):  # the changed network cannot be trained at all
        found = "fails"
    assert found != plain


@pytest.mark.parametrize("recipe", [{"lr": 0.06}, {"weight_decay": 0.0}, {"batch_size": 16}])
def test_another_recipe_or_seed_has_its_own_key(
    make_trial: MakeTrial, recipe: dict[str, Any]
) -> None:
    plain = key_after(make_trial(Lively), nothing)
    assert key_after(make_trial(Lively, **recipe), nothing) != plain
    assert key_after(make_trial(Lively, seed=1), nothing) != plain


@settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    st.lists(
        st.sampled_from(["forward", "training forward", "backward", "flags", "scoring"]), max_size=4
    )
)
def test_what_passes_change_by_themselves_changes_no_key(
    make_trial: MakeTrial, steps: list[str]
) -> None:
    plain = key_after(make_trial(Lively), nothing)
    trial = make_trial(Lively)
    x, y = next(trial.score_batches())
    for step in steps:
        if step == "flags":
            trial.model.eval()
        elif step == "scoring":
            trial.activations(x[:3])
        else:
            trial.model.train(step == "training forward")
            made = trial.model(x[:5])
            if step == "backward":
                F.cross_entropy(made, y[:5]).backward()
    assert key_after(trial, nothing) == plain


def test_a_trained_network_has_its_own_facts_alone(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv)
    before = facts_of(trial.model)
    trial.train(epochs=1)
    assert facts_of(trial.model) == before


def test_identities_hold_no_addresses_and_tell_kinds_apart() -> None:
    assert identity(object()) == identity(object())
    assert identity(np.arange(3)) != identity(np.arange(3.0))
    values = [1, 1.0, True, "1", None, (1,), {"1": 1}, {1}, torch.ones(1), torch.float16, Mode.A]
    found = [repr(identity(v)) for v in values]
    assert len(set(found)) == len(values)
    assert not any("0x" in text for text in found)


# -- what a phase leaves behind ----------------------------------------------------------------


@dataclass
class Meddling(Callback):
    """Changes something that a training does not store."""

    what: str

    def epoch(self, trial: Trial, done: int) -> None:
        if self.what == "attribute":
            trial.model.slope = 0.1  # type: ignore[assignment]
        elif self.what == "gradient":
            trial.model.get_parameter("body.fc1.weight").requires_grad_(False)
        elif self.what == "hook":
            trial.model.get_submodule("body.fc1").register_forward_hook(shout)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("attribute", "a training changed the network: slope, which is not stored"),
        ("gradient", "a training changed requires_grad of body.fc1.weight, which is not stored"),
        ("hook", "stands on body.fc1 after a training"),
    ],
)
def test_a_phase_that_leaves_what_it_does_not_store_is_refused_by_name(
    make_trial: MakeTrial, what: str, said: str
) -> None:
    with pytest.raises(TrialFailed, match=said):
        make_trial(Lively).train(epochs=1, callback=Meddling(what))


def edits_in_place(trial: Trial) -> float:
    trial.model.get_parameter("body.fc1.weight").data.mul_(2)  # no version is counted
    return 1.0


def edits_a_buffer(trial: Trial) -> float:
    trial.model.mask[0] = 7.0  # type: ignore[operator]
    return 1.0


@pytest.mark.parametrize("fn", [edits_in_place, edits_a_buffer])
def test_a_call_that_edits_tensors_is_refused(
    make_trial: MakeTrial, fn: Callable[[Trial], float]
) -> None:
    with pytest.raises(TrialFailed, match="changed masks or weights inside once"):
        make_trial(Lively).once(fn)


def draws_a_curve(trial: Trial) -> float:
    trial.curve([{"x": 1.0, "y": 2.0}])
    return 1.0


def asks_for_a_file(trial: Trial) -> float:
    trial.store(5)
    return 1.0


@pytest.mark.parametrize("fn", [draws_a_curve, asks_for_a_file])
def test_what_would_be_lost_with_a_loaded_phase_is_refused_inside(
    make_trial: MakeTrial, fn: Callable[[Trial], float]
) -> None:
    with pytest.raises(TrialFailed, match="was used inside a phase"):
        make_trial(Lively).once(fn)


@dataclass
class Forgetful(Callback):
    """Keeps a number that no field declares."""

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        self.seen = len(x)


def test_a_callback_that_keeps_more_than_its_fields_is_refused(make_trial: MakeTrial) -> None:
    with pytest.raises(TrialFailed, match="Forgetful.seen is no field of the dataclass"):
        make_trial(Lively).train(epochs=1, callback=Forgetful())


def test_buffers_that_are_not_stored_are_kept_by_phases_and_states(make_trial: MakeTrial) -> None:
    def run(trial: RunningTrial) -> Tensor:
        trial.model.mask.fill_(3.0)  # type: ignore[union-attr,operator]
        state = trial.snapshot()
        trial.train(epochs=1)
        trial.model.mask.fill_(4.0)  # type: ignore[union-attr,operator]
        trial.restore(state)
        return trial.model.mask.clone()  # type: ignore[union-attr,operator,return-value]

    for _ in range(2):  # computed, and loaded
        assert torch.equal(run(make_trial(Lively)), torch.full((64,), 3.0))


# -- inputs that a callback changes ------------------------------------------------------------


@dataclass
class Halved(Callback):
    """The second layer reads half of what the first one puts out."""

    def inputs(self, trial: Trial) -> tuple[str, ...]:
        return ("fc2",)

    def input(self, trial: Trial, module: str, x: Tensor) -> Tensor:
        return x / 2


def test_a_declared_input_is_that_of_a_network_with_the_change_written_into_it(
    make_trial: MakeTrial,
) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    trial, other = make_trial(), make_trial()
    trial.train(epochs=2, callback=Halved())
    other.model.relu1 = nn.Sequential(nn.ReLU(), Half())
    other.train(epochs=2)
    for name, value in trial.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert not trial.model.get_submodule("fc2")._forward_pre_hooks


# -- randomness outside phases -----------------------------------------------------------------


def scores(trial: Trial) -> float:
    torch.rand(3)
    np.random.rand()  # noqa: NPY002
    random.random()
    return 1.0


def test_random_numbers_do_not_depend_on_who_computed_a_phase(make_trial: MakeTrial) -> None:
    found: list[list[object]] = []

    def prune(trial: Trial) -> None:
        drawn: list[object] = []

        def draw() -> None:
            drawn.extend((float(torch.rand(())), random.random(), np.random.rand()))  # noqa: NPY002

        draw()
        trial.train(epochs=1)
        draw()
        trial.once(scores)
        draw()
        trial.validate()
        draw()
        found.append(drawn)

    for start in (0, 7):
        torch.manual_seed(start)
        random.seed(start)
        np.random.seed(start)  # noqa: NPY002
        run_method(make_trial(), prune)
    assert found[0] == found[1]
    assert len(set(map(str, found[0]))) == len(found[0])


# -- passes that are made elsewhere ------------------------------------------------------------

MACS = 64 * 16 + 16 * 12 + 12 * 4


def through_the_network(trial: Trial, x: Tensor) -> Tensor:
    made: Tensor = trial.model(x)
    return made


def through_a_copy(trial: Trial, x: Tensor) -> Tensor:
    made: Tensor = copy.deepcopy(trial.model)(x)
    return made


def through_the_graph(trial: Trial, x: Tensor) -> Tensor:
    assert trial.layout.graph is not None
    made: Tensor = trial.layout.graph(x)
    return made


def through_a_function(trial: Trial, x: Tensor) -> Tensor:
    made: Tensor = functional_call(trial.model, dict(trial.model.named_parameters()), (x,))
    return made


WAYS = [through_the_network, through_a_copy, through_the_graph, through_a_function]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("learns", [False, True])
def test_every_pass_outside_trainings_is_counted(
    make_trial: MakeTrial, way: Callable[[Trial, Tensor], Tensor], learns: bool
) -> None:
    def prune(trial: Trial) -> None:
        trial.train(epochs=1)
        x, y = next(trial.score_batches())
        for _ in range(3):
            made = way(trial, x[:10])
            if learns:
                F.cross_entropy(made, y[:10]).backward()
        trial.train(epochs=2)

    # Backward: the gradient of every weight, and of every input but the pixels.
    per_image = MACS + (MACS + MACS - 64 * 16 if learns else 0)
    for _ in range(2):  # what is outside phases is done, and counted, in every run
        cost = run_method(make_trial(), prune).cost
        assert cost.multiply_adds_outside == 3 * 10 * per_image
        assert cost.epochs == 3


def hidden_training(trial: Trial) -> float:
    twin = copy.deepcopy(trial.model)
    for x, y in trial.score_batches():
        F.cross_entropy(twin(x), y).backward()
    return 1.0


def test_passes_of_a_phase_are_counted_once_and_kept_with_it(make_trial: MakeTrial) -> None:
    for _ in range(2):
        trial = make_trial()
        outcome = run_method(trial, lambda t: t.once(hidden_training))
        assert outcome.cost.multiply_adds_outside == 192 * (3 * MACS - 64 * 16)
    assert trial._ledger.work.phases_reused == 1


def test_trainings_keep_their_closed_form(make_trial: MakeTrial) -> None:
    outcome = run_method(make_trial(small_conv), lambda t: t.train(epochs=2))
    assert outcome.cost.multiply_adds_outside == 0
    assert outcome.cost.images_seen == 2 * 192


def test_a_mode_of_the_methods_own_is_refused_at_the_next_phase(make_trial: MakeTrial) -> None:
    def prune(trial: Trial) -> None:
        OtherMode().__enter__()  # type: ignore[no-untyped-call]
        trial.train()

    with pytest.raises(TrialFailed, match="a dispatch mode is active"):
        run_method(make_trial(), prune)


def test_a_hook_that_is_left_ends_the_trial(make_trial: MakeTrial) -> None:
    def prune(trial: Trial) -> None:
        trial.train(epochs=1)
        trial.model.get_submodule("fc3").register_forward_hook(lambda m, i, o: o * 0)

    with pytest.raises(TrialFailed, match="stands on fc3 at the end of prune"):
        run_method(make_trial(), prune)


LEFT = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "gradients": lambda: torch.set_grad_enabled(False),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "determinism": lambda: torch.use_deterministic_algorithms(True),
    "precision": lambda: torch.set_float32_matmul_precision("high"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "hook": lambda: register_module_forward_hook(lambda *_: None),
    "mode": lambda: OtherMode().__enter__(),  # type: ignore[no-untyped-call]
    "function mode": lambda: torch.set_default_device("cpu"),
    "forward": lambda: setattr(nn.Linear, "forward", lambda self, x: x),
}


@pytest.mark.parametrize("what", LEFT)
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_method_leaves_set_is_refused_and_not_there_for_the_next_trial(
    make_trial: MakeTrial, what: str, fails: bool
) -> None:
    def prune(trial: Trial) -> None:
        LEFT[what]()
        if fails:
            raise RuntimeError("on purpose")

    before = Surroundings.of(make_trial(small_mlp).model)
    with pytest.raises(RuntimeError if fails else TrialFailed):
        run_method(make_trial(small_mlp), prune)
    now = Surroundings.of(make_trial(small_mlp).model)
    assert now.switches == before.switches
    assert now.forwards == before.forwards
    assert len(now.hooks) == len(before.hooks)


def test_a_hook_for_the_length_of_a_scoring_is_allowed(make_trial: MakeTrial) -> None:
    seen = []

    def prune(trial: Trial) -> None:
        trial.train(epochs=1)
        handle = trial.model.get_submodule("fc1").register_forward_hook(
            lambda module, given, made: seen.append(made.shape)
        )
        trial.model(next(trial.score_batches())[0][:4])
        handle.remove()
        trial.train(epochs=1)

    run_method(make_trial(), prune)
    assert seen == [(4, 16)]


def test_hooks_that_a_network_is_built_with_are_its_own(make_trial: MakeTrial) -> None:
    def build() -> nn.Module:
        model = small_mlp()
        model.get_submodule("fc1").register_forward_hook(lambda module, given, made: made * 0.5)
        return model

    make_trial(build).train(epochs=1)
