"""A recipe is one training: optimiser, schedule, length, precision. It is the same for every method."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from bench.choices import Budget
from bench.data.augment import Augment

Optimizer = Literal["sgd", "adam", "adadelta"]
Schedule = Literal["constant", "step", "cosine"]

PROTOCOL_VERSION = 1
SMOKE_EPOCHS = 2


@dataclass(frozen=True)
class Recipe:
    """The recipe of one training. The defaults suit LeNet-300-100; each network states its own.

    Attributes:
        lr: learning rate at the start of the schedule.
        schedule: `constant`; `step`: times `gamma` at each milestone; `cosine`: to 0, per step.
        milestones: shares of the training (0-1) at which a `step` schedule drops, by epoch.
        epochs: length of a `quick` training; `full_epochs` of a `full` one.
        augment: what is done to training images: `none`, or words such as `flip+crop`. A network
            leaves it to the data set; `--set recipe.augment=...` overrules both.
        precision: `fp32`, or `bf16` for autocast in the forward pass. Part of the results' identity.
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    batch_size: int = 64
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    epochs: int = 10
    full_epochs: int = 40
    precision: Literal["fp32", "bf16"] = "fp32"
    augment: str = "none"

    def __post_init__(self) -> None:
        positive = {"lr": self.lr, "batch_size": self.batch_size, "epochs": self.epochs}
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"recipe.{name} is {value}, but must be above 0")
        if self.momentum < 0 or self.weight_decay < 0 or self.gamma <= 0:
            raise ValueError("recipe.momentum and weight_decay must be 0 or more, gamma above 0")
        Augment.parse(self.augment)
        if not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"recipe.milestones are {self.milestones}, but are shares within 0-1")

    def for_budget(self, budget: Budget) -> "Recipe":
        """Return the recipe with the length that a budget allows, in `epochs`."""
        epochs = {"smoke": SMOKE_EPOCHS, "quick": self.epochs, "full": self.full_epochs}[budget]
        # From here on only `epochs` counts; the other is no part of a trial's identity.
        return dataclasses.replace(self, epochs=epochs, full_epochs=Recipe.full_epochs)

    def lr_at(self, epoch: float, epochs: int) -> float:
        """Return the learning rate after `epoch` (fractional) of a training of `epochs`."""
        share = epoch / epochs
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * share))
        if self.schedule == "step":
            done = math.floor(epoch + 1e-9) / epochs
            return self.lr * self.gamma ** sum(done >= m - 1e-9 for m in self.milestones)
        return self.lr
