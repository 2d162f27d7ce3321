"""The contract between the harness and its methods: what a method is given, and what it may add.

A method sees what stands here, and the functions and classes of `bench.api`. The harness implements
`Trial` in `trial.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from bench.data.tasks import Evaluation, Loss, Task
from bench.graph.structure import Layout
from bench.pruning.masks import Masks
from bench.store.json_values import Json
from bench.training.recipe import Recipe

Mode = Literal["hard", "gate", "soft"]
T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """Weights, buffers and the epoch clock at one moment: a deep copy."""

    tensors: dict[str, Tensor] = field(repr=False)
    clock: int


@dataclass(frozen=True)
class Reference:
    """The finished trial that a control follows.

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


class Callback:
    """The hooks of a method into a training; override what is needed.

    A subclass is a dataclass: its fields are its identity and its saved state. Fields are numbers,
    strings, booleans, None, tuples of these, tensors or generators. They are part of the phase's key
    as they are when the training starts, are saved with every checkpoint, and hold their final
    values after `train` returns.
    """

    def inputs(self, trial: "Trial") -> tuple[str, ...]:
        """Return the modules whose input passes through `input` in this training; none by default."""
        return ()

    def input(self, trial: "Trial", module: str, x: Tensor) -> Tensor:
        """Return what a module is to read in the place of x, in every forward pass of the training."""
        return x

    def batch(self, trial: "Trial", x: Tensor, y: Tensor) -> None:
        """Act before the forward pass; may run passes without gradients and write masks."""

    def penalty(self, trial: "Trial") -> Tensor | None:
        """Return a scalar to add to the loss."""

    def gradients(self, trial: "Trial") -> None:
        """Act after the backward pass, before masks and step."""

    def step(self, trial: "Trial", lr: float) -> None:
        """Act after the optimiser's step and the masks."""

    def epoch(self, trial: "Trial", done: int) -> None:
        """Act after an epoch, before its checkpoint; `done` counts from the schedule's start."""


class Trial(Protocol):
    """One network, one seed, one target, in a method's hands.

    Attributes:
        model: the network; may be edited between calls, for the keys of phases see its bytes.
        layout: its layers, how they are wired, and its sites.
        masks: what is kept of it.
        loss: of the task: (outputs, targets) to a scalar.
    """

    model: nn.Module
    layout: Layout
    masks: Masks
    loss: Loss

    # -- what a method asks ------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe:
        """The recipe of one training."""

    @property
    def task(self) -> Task:
        """The task of the data set."""

    @property
    def epochs(self) -> int:
        """The length of one training of the recipe."""

    @property
    def target(self) -> float | None:
        """The compression to reach; None when the method's rate is emergent."""

    @property
    def at_target(self) -> bool:
        """True where the target is reached, or nothing more may be dropped."""

    @property
    def reference(self) -> Reference | None:
        """The trial that this one is a control of, if it is one."""

    @property
    def has_weights(self) -> bool:
        """True where the user gave weights to start from."""

    # -- work --------------------------------------------------------------------------------

    def pretrained(self) -> None:
        """Load the user's weights if there are any; else train from initialisation.

        Weights whose classifier is for other classes are trained once, with a fresh classifier.
        """

    def train(
        self,
        *,
        span: tuple[int, int | None] = (0, None),
        epochs: int | None = None,
        lr_scale: float = 1.0,
        trainable: tuple[str, ...] | None = None,
        mode: Mode = "hard",
        callback: Callback | None = None,
    ) -> None:
        """Train the network as it is, under the masks as they are, with a fresh optimiser.

        Args:
            span: part of the schedule to run, in epochs; None: to its end.
            epochs: length of the schedule; None: the recipe's.
            lr_scale: factor on the recipe's learning rate.
            trainable: prefixes of parameter names that move; None: all of them.
            mode: `hard` keeps dropped weights at zero, `gate` multiplies units and freezes what
                is dropped, `soft` zeroes once and lets it regrow.
            callback: what the method does inside; its fields are updated.

        Raises:
            TrialFailed: the loss stopped being finite.
        """

    def once(self, fn: Callable[..., T], *args: Json) -> T:
        """Return `fn(trial, *args)`, computed once for this network, these masks and arguments.

        The masks are in force during the call.

        Args:
            fn: a function of a module, or a method of a frozen dataclass; not a closure.
            args: JSON values.

        Returns:
            What `fn` returns: a dictionary of tensors, or a JSON value.
        """

    def validate(self) -> Evaluation:
        """Evaluate the network as it is, masks in force, on the validation images."""

    def score_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training images in order, not augmented: (b, c, h, w) and labels (b,)."""

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """Return each hidden site's post-activation values for a batch: (b, units, ...)."""

    # -- states ------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return a deep copy of weights, buffers and clock."""

    def restore(self, state: State) -> None:
        """Bring back weights, buffers and clock. Masks stay, and weight masks apply again."""

    def keep(self, name: str, masked: bool = True) -> None:
        """Have the network as it is now measured beside the final one, masked or whole.

        Its normalisation statistics are its own: they are estimated again where the masks are not
        those of the last training. The passes of that estimate are no part of the final network's cost.
        """

    def rng(self, purpose: str) -> torch.Generator:
        """Return a CPU generator that depends on the seed and the purpose alone."""

    # -- the record --------------------------------------------------------------------------

    def log(self, **values: Json) -> None:
        """Add a line to the trial's log; inside a phase it becomes part of the phase's record."""

    def curve(self, rows: list[dict[str, float]], marked: float | None = None) -> None:
        """Put a curve into the record; the report draws it.

        Args:
            rows: points with the same keys; the first key is the x-axis and the curve's name.
            marked: the x that the method went on with.
        """

    def store(self, index_bits: int) -> None:
        """Have the network written as a file of shared weights, and measured as that file decodes.

        Args:
            index_bits: width of the step from one kept weight to the next.
        """
