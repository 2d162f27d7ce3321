"""DropNet: rewind, retrain, drop the least active units, repeat.

Tan & Motani, ICML 2020 (arXiv 2207.06646), Algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bench.api import Control, Fixture, Method, Scope, Trial, evaluating


@dataclass(frozen=True)
class DropNet(Method):
    """Mean activation, per layer (`min_layer`) or over all layers (`min`).

    Attributes:
        drop: share of the remaining units dropped each cycle (sec. 4: 0.2).
        scope: `layer` is the paper's min_layer, `global` its min.
        rewind: `init` restores the initial weights every cycle; `none` goes on from the trained ones.
        min_keep: share of each layer's width that always stays; at least one unit does. The paper
            has no floor, and its runs end at chance when a layer empties.
    """

    colour: ClassVar[str] = "blue"
    marker: ClassVar[str] = "s"

    drop: float = 0.2
    scope: Scope = "layer"
    rewind: Literal["init", "none"] = "init"
    min_keep: float = 0.02

    def prune(self, trial: Trial) -> None:
        theta0 = trial.snapshot()
        trial.train()
        while not trial.at_target:
            activity = trial.once(mean_activation)
            trial.masks.drop_lowest(activity, self.drop, self.scope, self.min_keep)
            if self.rewind == "init":
                trial.restore(theta0)
            trial.train()

    def control(self) -> Control:
        return Control() if self.rewind == "init" else Control("pretrained", follows_rounds=True)

    def impossible(self, on: Fixture) -> str:
        if not 0 < self.drop < 1:
            return f"dropnet.drop is {self.drop}, but is a share between 0 and 1"
        if not 0 <= self.min_keep < 1:
            return f"dropnet.min_keep is {self.min_keep}, but is a share from 0 to below 1"
        return super().impossible(on)


def mean_activation(trial: Trial) -> dict[str, Tensor]:
    """Return E(f), the mean absolute post-activation value of each unit (sec. 3.1).

    Over the training images and, for filters, over positions; eval mode, no augmentation, the
    trained weights of this cycle. One pass for all layers, summed on the device in float64.
    """
    sums: dict[str, Tensor] = {}
    values_per_unit: dict[str, int] = {}
    with evaluating(trial.model), torch.no_grad():
        for x, _ in trial.score_batches():
            for name, value in trial.activations(x).items():
                over = [d for d in range(value.dim()) if d != 1]
                total = value.abs().sum(over, dtype=torch.float64)
                sums[name] = sums[name] + total if name in sums else total
                count = value.numel() // value.shape[1]
                values_per_unit[name] = values_per_unit.get(name, 0) + count
    return {name: total / values_per_unit[name] for name, total in sums.items()}
