"""The tasks that data sets set a network: its outputs, its loss, and the score of its outputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from bench.data.images import Shape

Loss = Callable[[Tensor, Tensor], Tensor]
COLLAPSE_MARGIN = 0.5  # points within chance


@dataclass(frozen=True)
class Evaluation:
    """Results on one part of the data.

    Attributes:
        score: the task's headline with its sign such that higher is better: top-1 in percent, minus
            the NMSE of a regression, minus the pixel MSE of an autoencoder.
        loss: mean of the task's loss: cross-entropy in nats, squared error.
        n: number of images, or samples.
        values: the task's columns.
        collapsed: no better than an output that is the same for every image.
    """

    score: float
    loss: float
    n: int
    values: dict[str, float]
    collapsed: bool

    @property
    def top1(self) -> float:
        """Percent of images whose label has the highest logit; of a classification."""
        return self.values["top1"]

    @property
    def top3(self) -> float:
        """Percent of images whose label is among the three highest logits."""
        return self.values["top3"]

    @property
    def top5(self) -> float:
        """Percent of images whose label is among the five highest logits."""
        return self.values["top5"]


class Task(ABC):
    """A kind of question. Outputs are (n, outputs); targets are what `Part` yields beside the images."""

    name: str
    loss: Loss

    @abstractmethod
    def outputs(self, classes: int, shape: Shape) -> int:
        """Return how many outputs a network for images of this shape must have."""

    @abstractmethod
    def evaluate(self, outputs: Tensor, targets: Tensor) -> Evaluation:
        """Score a network's outputs, as sums over images: batch sizes do not matter."""


class Classification(Task):
    """One label per image (n,)."""

    name = "classification"
    loss = staticmethod(cross_entropy)

    def outputs(self, classes: int, shape: Shape) -> int:
        return classes

    def evaluate(self, outputs: Tensor, targets: Tensor) -> Evaluation:
        n, classes = outputs.shape
        best = outputs.topk(min(5, classes), dim=1).indices
        hits = best == targets[:, None]

        def top(k: int) -> float:
            return 100 * int(hits[:, :k].sum()) / n

        loss = float(cross_entropy(outputs.double(), targets, reduction="sum")) / n
        collapsed = top(1) <= 100 / classes + COLLAPSE_MARGIN
        values = {"top1": top(1), "top3": top(3), "top5": top(5)}
        return Evaluation(top(1), loss, n, values, collapsed)


class Regression(Task):
    """Numbers (n, outputs): the squared error, and what share it is of the mean squared target."""

    name = "regression"
    loss = staticmethod(mse_loss)

    def outputs(self, classes: int, shape: Shape) -> int:
        return classes

    def evaluate(self, outputs: Tensor, targets: Tensor) -> Evaluation:
        found, wanted = outputs.double(), targets.double()
        error = (found - wanted).square().mean()
        nmse = float(error / wanted.square().mean())
        values = {
            "nmse": nmse,
            "mse": float(error),
            "max_error": float((found - wanted).abs().max()),
        }
        return Evaluation(-nmse, float(error), len(wanted), values, _is_constant(error, wanted))


class Autoencoder(Task):
    """The network's own input again, flattened (n, pixels)."""

    name = "autoencoder"
    loss = staticmethod(mse_loss)

    def outputs(self, classes: int, shape: Shape) -> int:
        return math.prod(shape)

    def evaluate(self, outputs: Tensor, targets: Tensor) -> Evaluation:
        error = mse_loss(outputs.double(), targets.double())
        values = {"mse": float(error)}
        return Evaluation(
            -float(error), float(error), len(targets), values, _is_constant(error, targets)
        )


def _is_constant(error: Tensor, targets: Tensor) -> bool:
    """Return True where a squared error is no lower than that of the best constant output."""
    wanted = targets.double()
    return bool(error >= (wanted - wanted.mean(0)).square().mean())


CLASSIFICATION, REGRESSION, AUTOENCODER = Classification(), Regression(), Autoencoder()
