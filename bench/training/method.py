"""The base classes of pruning methods: those with a training of their own, and scores."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from bench.pruning.masks import Scope, Scores
from bench.training.contract import Trial
from bench.training.recipe import Recipe

Start = Literal["init", "pretrained"]
Retrain = Literal["finetune", "rewind", "none"]
Rate = Literal["target", "emergent", "none"]
Level = Literal["unit", "weight", "any", "none"]


@dataclass(frozen=True)
class Fixture:
    """The network and data that a method is to be run on.

    Attributes:
        classes: of the data set; the number of targets of a regression.
        task: name of the data set's task.
        has_sites: whether the network has hidden units that can be dropped.
        layers: its convolutions and linear layers; `linear_layers`: the latter alone.
    """

    classes: int
    task: str
    has_sites: bool
    recipe: Recipe
    layers: tuple[str, ...] = ()
    linear_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """The way in which a control copies a method.

    Attributes:
        start: where the method's pruning begins.
        follows_rounds: repeat every round; else one training under the last masks.
        retrains: train after each pruning.
    """

    start: Start = "init"
    follows_rounds: bool = False
    retrains: bool = True


@dataclass(frozen=True)
class Method(ABC):
    """A pruning method: a frozen dataclass whose fields are its options.

    Class attributes:
        rate: `target` when it prunes to a given compression, `emergent` when the rate is its own,
            `none` when it does not prune.
        version: raised when a default or the behaviour changes; part of a result's identity.
        level: what it masks; `unit` needs a network whose units can be found.
        start: where its pruning begins; its random control begins there too.
        follows_rounds: whether a control repeats every round, or trains once under the last masks.
        colour, marker: of shipped methods, how figures draw them (`bench.report.figures.palette`); those
            of plug-ins are chosen.
        is_control: needs another trial to follow (`trial.reference`); not run on its own.
    """

    rate: ClassVar[Rate] = "target"
    version: ClassVar[int] = 1
    level: ClassVar[Level] = "unit"
    is_control: ClassVar[bool] = False
    colour: ClassVar[str] = ""
    marker: ClassVar[str] = ""

    @abstractmethod
    def prune(self, trial: Trial) -> None:
        """Leave the trial with the final weights and masks."""

    def control(self) -> Control:
        """Say how a control copies this method.

        A method that rewinds or trains in its own way is compared with one training from
        initialisation under a mask that is there from the start.
        """
        return Control()

    def rate_here(self) -> Rate:
        """Return what decides the rate under these options: `rate`, for most methods."""
        return self.rate

    def takes_weights(self) -> bool:
        """Return True where a pretrained network is of use to it: it calls `trial.pretrained`."""
        return False

    def impossible(self, on: Fixture) -> str:
        """Return why these options cannot work on such a network and data, or an empty string."""
        if self.level == "unit" and not on.has_sites:
            return "it drops units, and the network has none that can be dropped"
        return ""


@dataclass(frozen=True)
class Score(Method):
    """A method that only scores: the base class does the rounds, the masks and the retraining.

    Attributes:
        start: score the untrained network, or a trained one.
        step: compression is multiplied by at most this each round; None: all in one round.
        scope: rank within each layer (the same share from each) or over all layers.
        retrain: go on training from the surviving weights, rewind them to initialisation and
            train, or leave them.
        lr_scale: factor on the recipe's learning rate in retraining.
    """

    start: Start = "pretrained"
    step: float | None = 2.0
    scope: Scope = "layer"
    retrain: Retrain = "finetune"
    lr_scale: float = 1.0

    @abstractmethod
    def score(self, trial: Trial) -> Scores:
        """Return a tensor per site or parameter, low = prune first. Called through `once`."""

    def prune(self, trial: Trial) -> None:
        """Score, drop, retrain, until the target is reached."""
        theta0 = trial.snapshot()
        if self.start == "pretrained":
            trial.pretrained()
        while not trial.at_target:
            scores = trial.once(self.score)
            goal = next_compression(trial.masks.compression, self.step, trial.target)
            trial.masks.drop_to(scores, goal, self.scope)
            if self.retrain == "rewind":
                trial.restore(theta0)
            if self.retrain != "none":
                trial.train(lr_scale=self.lr_scale)

    def takes_weights(self) -> bool:
        return self.start == "pretrained"

    def control(self) -> Control:
        """Repeat start and rounds; after rewinding, only the last masks matter."""
        if self.retrain == "rewind":
            return Control()
        return Control(self.start, follows_rounds=True, retrains=self.retrain == "finetune")

    def impossible(self, on: Fixture) -> str:
        if self.step is not None and self.step <= 1:
            return (
                f"step is {self.step}, but each round must multiply the compression by more than 1"
            )
        if self.lr_scale <= 0:
            return f"lr_scale is {self.lr_scale}, but is a factor above 0"
        return super().impossible(on)


def next_compression(now: float, step: float | None, target: float | None) -> float:
    """Return the compression the next round goes to: a power of `step`, or the target if near.

    Rounds are the same powers for every target, so that targets share them; the last one may be
    a tenth larger to spare a round.
    """
    assert target is not None
    if step is None:
        return target
    power = math.floor(math.log(now) / math.log(step) + 1e-3) + 1
    goal = step**power
    return target if goal * 1.1 >= target else goal
