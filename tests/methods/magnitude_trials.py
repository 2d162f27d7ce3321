"""Trials of small networks that the tests of magnitude share, and ways to look into them."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from small_networks import MakeTrial, small_mlp
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.api import Masks, Trial
from bench.graph.trace import layout_of
from bench.seeds import generator
from bench.training.trial import RunningTrial

few = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
SMALL = ("--models", "fc-20-20", "--budget", "smoke", "--seeds", "0", "--jobs", "1")
at_once: dict[str, Any] = {"start": "init", "retrain": "none"}


def masks_of(model: nn.Module, *shape: int) -> Masks:
    layout = layout_of(model, torch.zeros(1, *shape))
    return Masks(layout, torch.device("cpu"), lambda purpose: generator(0, purpose))


def one_layer(make_trial: MakeTrial, *weights: float) -> Trial:
    """A trial of a single neuron without a bias."""
    model = nn.Sequential(OrderedDict(fc=nn.Linear(len(weights), 1, bias=False)))
    model.fc.weight.data = torch.tensor([weights], dtype=torch.float32)
    return RunningTrial(model, layout_of(model, torch.zeros(1, len(weights))), make_trial()._inputs)


def drawn(make_trial: MakeTrial, seed: int, build: Callable[[], nn.Module] = small_mlp) -> Trial:
    """An untrained trial with weights of different spread in every layer."""
    trial: Trial = make_trial(build, seed=seed)
    with torch.no_grad():
        for i, name in enumerate(trial.layout.weights):
            trial.model.get_parameter(name).mul_(2.0**i)
    return trial


def with_dropout() -> nn.Module:
    """A wide layer and a narrow one, each followed by a Dropout of its own."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 100), relu1=nn.ReLU(), drop1=nn.Dropout(0.5),
            fc2=nn.Linear(100, 12), relu2=nn.ReLU(), drop2=nn.Dropout(0.4), fc3=nn.Linear(12, 4),
        )
    )  # fmt: skip


def theirs(trial: Trial, name: str, how: Callable[..., Any], **options: Any) -> Tensor:
    """The mask that torch's pruning gives one layer."""
    module = copy.deepcopy(trial.model.get_submodule(name.removesuffix(".weight")))
    how(module, "weight", **options)
    return module.get_buffer("weight_mask").bool()


def entered(trial: Trial, monkeypatch: pytest.MonkeyPatch, see: Callable[..., Any]) -> list[Any]:
    """What `see` returns of the trial whenever a training begins and has ended, in pairs."""
    found, train = [], trial.train

    def watched(**arguments: Any) -> None:
        before = see()
        train(**arguments)
        found.append((before, see(), arguments))

    monkeypatch.setattr(trial, "train", watched)
    return found


@contextmanager
def after_each_step(see: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    handle = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: see(optimizer))
    try:
        yield
    finally:
        handle.remove()
