"""What a trial is made of, and the values it hands out: plain records, no behaviour."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bench.data.batches import Part
from bench.store.phase_cache import PhaseStore
from bench.training.pretrained import Fitted
from bench.training.recipe import Recipe

Notify = Callable[[int, int], None]


@dataclass(frozen=True)
class State:
    """Weights, buffers and the epoch clock at one moment: a deep copy."""

    tensors: dict[str, Tensor] = field(repr=False)
    clock: int


@dataclass(frozen=True)
class Reference:
    """The finished trial that a control is held against.

    Attributes:
        start: `init` or `pretrained`: where that trial's pruning started from.
        rounds: kept counts per site or parameter after each of its prunings.
        lr_scale: of its retraining; `retrains` is False where it left the weights as they were.
        masks: its final masks.
        epochs: all it trained, from initialisation.
    """

    start: str
    rounds: tuple[dict[str, int], ...]
    lr_scale: float
    retrains: bool
    masks: dict[str, Tensor] = field(repr=False)
    epochs: int


@dataclass(frozen=True)
class Setting:
    """What a trial is made of; the executor fills it in."""

    recipe: Recipe
    seed: int
    target: float | None
    train: Part
    validation: Part
    store: PhaseStore
    environment: dict[str, Any]
    checkpoint_seconds: float = 30.0
    reference: Reference | None = None
    weights: Fitted | None = None
    notify: Notify = lambda done, total: None


@dataclass(frozen=True)
class Kept:
    """A state to be measured beside the final one."""

    tensors: dict[str, Tensor] = field(repr=False)
    masks: dict[str, Tensor] = field(repr=False)
