"""Plain records of a trial: what it is made of, what a training is asked for, what came out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from bench.data.batches import Part
from bench.data.tasks import Loss
from bench.store.json_values import JsonObject
from bench.store.phase_cache import PhaseStore
from bench.training.contract import Mode, Reference
from bench.training.pretrained import FittedWeights
from bench.training.recipe import Recipe

Notify = Callable[[int, int], None]


@dataclass(frozen=True)
class TrialInputs:
    """Everything a trial is computed from; the sweep fills it in.

    Attributes:
        environment: what decides the bits of a phase beside its arguments: device, seed, recipe, data.
        notify: is told the epochs done and their total.
    """

    recipe: Recipe
    seed: int
    target: float | None
    train: Part
    validation: Part
    store: PhaseStore
    environment: JsonObject
    checkpoint_seconds: float = 30.0
    reference: Reference | None = None
    weights: FittedWeights | None = None
    notify: Notify = lambda done, total: None


@dataclass(frozen=True)
class TrainingArguments:
    """The arguments of `Trial.train`, and what the trial adds to them.

    Attributes:
        clock: epochs this network has been trained for so far; order and draws depend on it.
        start, stop: the part of the schedule to run, in epochs; `epochs` is its whole length.
        trainable: name prefixes of parameters that move; None: all.
    """

    recipe: Recipe
    seed: int
    clock: int
    start: int
    stop: int
    epochs: int
    lr_scale: float
    trainable: tuple[str, ...] | None
    mode: Mode
    loss: Loss


@dataclass(frozen=True)
class KeptState:
    """A state to be measured beside the final one."""

    tensors: dict[str, Tensor] = field(repr=False)
    masks: dict[str, Tensor] = field(repr=False)


@dataclass
class Work:
    """The work of this process for a trial, as opposed to the cost of the trial."""

    trainings: int = 0
    trainings_reused: int = 0
    epochs: int = 0
    images_seen: int = 0
    phases_computed: int = 0
    phases_reused: int = 0
    waited_seconds: float = 0.0
