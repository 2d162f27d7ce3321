"""Dense: the network as it is, trained and not pruned; every other row is held against it."""

from dataclasses import dataclass
from typing import ClassVar

from bench.api import Level, Method, Rate, Trial


@dataclass(frozen=True)
class Dense(Method):
    """One training. As a control of another trial it trains for all the epochs that one took."""

    colour: ClassVar[str] = "black"
    marker: ClassVar[str] = "*"
    rate: ClassVar[Rate] = "none"
    level: ClassVar[Level] = "none"

    def takes_weights(self) -> bool:
        return True

    def prune(self, trial: Trial) -> None:
        if trial.reference is None or trial.has_weights:
            trial.pretrained()
        if trial.reference is not None:
            trial.train(epochs=trial.reference.epochs)
