"""Autoencoder: the network's own input again."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.data.tasks.base import Evaluation, Task, TaskMetric
from bench.data.tasks.squared_error import is_constant

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.images import Shape


class Autoencoder(Task):
    """The network's own input again, flattened (n, pixels)."""

    name = "autoencoder"
    targets = "input"
    headline = TaskMetric("mse", "pixel MSE")
    term = "pixel MSE"
    meaning = (
        "mean squared difference between the pixels that went in and those that came out, over all "
        "test images; lower is better. One pass after the last decision."
    )
    default_model = "dropneuron-autoencoder"
    output_words = "the normalised image again, flattened (batch, pixels)"
    keeps_examples = True
    place = 2

    def outputs(self, classes: int, shape: "Shape") -> int:
        return math.prod(shape)

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, targets)

    def evaluate(self, outputs: "Tensor", targets: "Tensor") -> Evaluation:
        from torch.nn.functional import mse_loss

        error = mse_loss(outputs.double(), targets.double())
        value = float(error)
        return Evaluation(-value, value, len(targets), {"mse": value}, is_constant(error, targets))

    def stored(self, outputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return nothing: the examples say more in less room."""
        return {}


AUTOENCODER = Autoencoder()
