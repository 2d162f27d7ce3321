"""What one training is to do, how far it is, and what it took: plain records."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from bench.data.tasks import Loss
from bench.training.recipe import Recipe

Mode = Literal["hard", "gate", "soft"]


@dataclass
class Cost:
    """What a phase took. All but the seconds are the same on every machine.

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
    """How far a training is: everything, with the tensors, that a resumed one needs.

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
class Job:
    """One training: the arguments of `Trial.train` and what the trial adds to them.

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
