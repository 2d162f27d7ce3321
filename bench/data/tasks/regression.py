"""Regression: numbers for each sample, held against the targets by their squared error."""

from typing import TYPE_CHECKING

from bench.data.tasks.base import Evaluation, Task, TaskMetric
from bench.data.tasks.squared_error import is_constant

if TYPE_CHECKING:
    from torch import Tensor


class Regression(Task):
    """Numbers (n, outputs): the squared error, and what share it is of the mean squared target."""

    name = "regression"
    targets = "numbers"
    headline = TaskMetric("nmse", "NMSE", by_median=True)
    others = (TaskMetric("max_error", "largest error", by_median=True),)
    unprinted = ("mse",)
    term = "NMSE"
    meaning = (
        "sum of squared errors over the test samples / sum of squared targets; 0 is perfect, and "
        "lower is better. One pass after the last decision. The median over seeds, with the least "
        "and the largest in brackets: a few runs that failed would rule a mean. The largest error "
        "is that of a single output, median too."
    )
    default_model = "dropneuron-regression"
    output_words = "numbers (batch, outputs)"
    items = "samples"
    place = 1

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, targets)

    def evaluate(self, outputs: "Tensor", targets: "Tensor") -> Evaluation:
        found, wanted = outputs.double(), targets.double()
        error = (found - wanted).square().mean()
        nmse = float(error / wanted.square().mean())
        values = {
            "nmse": nmse,
            "mse": float(error),
            "max_error": float((found - wanted).abs().max()),
        }
        return Evaluation(-nmse, float(error), len(wanted), values, is_constant(error, wanted))


REGRESSION = Regression()
