"""L1: train under a penalty on every weight of the linear layers, then drop the small ones.

Tibshirani 1996 (lasso). It is DropNeuron without its groups, and the control that tells what they add:
training, thresholds and options are the same. The rows "L1" of DropNeuron's released scripts are this.
"""

from dataclasses import dataclass
from typing import ClassVar

from bench.api import Fixture, Level, Method, Rate, Trial
from bench.methods.dropneuron import DropNeuron


@dataclass(frozen=True)
class L1(Method):
    """The options are those of dropneuron, but for the ones about groups."""

    colour: ClassVar[str] = "sky"
    marker: ClassVar[str] = "H"
    rate: ClassVar[Rate] = "emergent"
    level: ClassVar[Level] = "weight"

    l1: float = 1e-4
    l2: float = 0.0
    keep_prob: float | None = None
    threshold: float | None = None
    proximal: bool = False
    to_target: bool = False
    finetune: bool = False
    scale: float = 0.1

    def prune(self, trial: Trial) -> None:
        self._without_groups().prune(trial)

    def rate_here(self) -> Rate:
        return self._without_groups().rate_here()

    def impossible(self, on: Fixture) -> str:
        return self._without_groups().impossible(on)

    def _without_groups(self) -> DropNeuron:
        return DropNeuron(group=0.0, **vars(self))
