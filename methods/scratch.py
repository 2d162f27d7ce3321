"""Scratch: another trial's final architecture, trained from initialisation once.

Liu et al., ICLR 2019 (arXiv 1810.05270), "Rethinking the Value of Network Pruning", scratch-E.
"""

from dataclasses import dataclass
from typing import ClassVar

from bench.api import Level, Method, Trial, TrialFailed


@dataclass(frozen=True)
class Scratch(Method):
    """A control: it needs a finished trial whose masks it takes over."""

    colour: ClassVar[str] = "grey"
    marker: ClassVar[str] = "p"
    level: ClassVar[Level] = "any"
    is_control: ClassVar[bool] = True

    def prune(self, trial: Trial) -> None:
        if trial.reference is None:
            raise TrialFailed("scratch is a control: it needs a trial whose masks it takes over")
        trial.masks.load(trial.reference.masks)
        trial.train()
