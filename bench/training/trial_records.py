"""Plain records of a trial: what it is made of, how far a training is, what it took, what came out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from bench.data.batches import Part
from bench.data.tasks import Loss
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
    environment: dict[str, Any]
    checkpoint_seconds: float = 30.0
    reference: Reference | None = None
    weights: FittedWeights | None = None
    notify: Notify = lambda done, total: None


@dataclass
class Cost:
    """The cost of a phase. All but the seconds are the same on every machine.

    Attributes:
        images_seen: images trained on; `images_forward` counts every forward pass, those included.
    """

    epochs: int = 0
    images_seen: int = 0
    images_forward: int = 0
    optimizer_steps: int = 0
    seconds: float = 0.0

    def add(self, other: "Cost") -> None:
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass
class Progress:
    """The progress of a training: with the tensors, everything that a resumed one needs.

    Attributes:
        epoch: epochs done, from the schedule's start; `step`: batches done of the one after.
    """

    epoch: int
    step: int = 0
    cost: Cost = field(default_factory=Cost)
    log: list[dict[str, Any]] = field(default_factory=list)
    callback: dict[str, Any] = field(default_factory=dict)
    at_floor: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        return cls(**{**values, "cost": Cost(**values["cost"])})


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
