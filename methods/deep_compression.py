"""Deep Compression: prune, let the rest share few values, code both; the size is that of a file.

Han, Mao & Dally, ICLR 2016 (arXiv 1510.00149). What is measured is the file, decoded again.
"""

from dataclasses import dataclass
from typing import ClassVar

from bench.api import Control, Fixture, Level, Method, Rate, Trial
from bench.methods._kmeans import Seeding
from bench.methods._sharing import clustered, share
from bench.methods.magnitude import Magnitude


@dataclass(frozen=True)
class DeepCompression(Method):
    """Pruning is that of magnitude, to the target or by one of its rules.

    Attributes:
        quality, densities, rounds, lr_scale: of the pruning; see magnitude.
        conv_bits, linear_bits: of a shared value: 2^b - 1 values and one code for dropped weights.
        start: first centroids: `linear` over the range (the paper's choice), `density` or `random`.
        index_bits: of the step from one kept weight to the next; longer ones take fillers.
        share_epochs: share of the recipe's epochs in which shared values are trained; 0: not.
        share_lr: factor on the recipe's learning rate there: a value's gradient is the sum over
            all weights that share it.
    """

    colour: ClassVar[str] = "sky"
    marker: ClassVar[str] = "P"
    version: ClassVar[int] = 2  # 1: k-means stopped after 300 iterations
    rate: ClassVar[Rate] = "target"
    level: ClassVar[Level] = "weight"

    quality: float | None = None
    densities: str | float | None = None
    rounds: int = 1
    lr_scale: float = 1.0
    conv_bits: int = 8
    linear_bits: int = 5
    start: Seeding = "linear"
    index_bits: int = 5
    share_epochs: float = 0.1
    share_lr: float = 0.01

    def prune(self, trial: Trial) -> None:
        self._pruning().prune(trial)  # sec. 2
        trial.keep("before_sharing")
        bits = {
            f"{la.name}.weight": self.conv_bits if la.is_convolution else self.linear_bits
            for la in trial.layout.own_layers
        }
        training = share(trial, trial.once(clustered, bits, self.start))  # sec. 3
        if self.share_epochs:
            epochs = max(1, round(self.share_epochs * trial.epochs))
            trial.train(epochs=epochs, lr_scale=self.share_lr, callback=training)
        trial.store(self.index_bits)  # sec. 4

    def control(self) -> Control:
        return self._pruning().control()

    def takes_weights(self) -> bool:
        return True

    def rate_here(self) -> Rate:
        return self._pruning().rate_here()

    def impossible(self, on: Fixture) -> str:
        for name in ("conv_bits", "linear_bits", "index_bits"):
            if not 1 <= getattr(self, name) <= 16:
                return f"{name} is {getattr(self, name)}, but is a width of 1 to 16 bits"
        if self.share_epochs < 0 or self.share_lr <= 0:
            return "share_epochs must be 0 or more, share_lr above 0"
        return self._pruning().impossible(on)

    def _pruning(self) -> Magnitude:
        return Magnitude(
            quality=self.quality, densities=self.densities, rounds=self.rounds,
            lr_scale=self.lr_scale,
        )  # fmt: skip
