"""The quality of a finished network: the one place that reads test images, in one pass."""

import math
from typing import Any

from torch import Tensor, nn

from bench.data.batches import Part
from bench.data.metrics import TASKS
from bench.data.tasks import Evaluation
from bench.errors import TrialFailed
from bench.training.evaluation import outputs_of


def quality(
    model: nn.Module, test: Part, validation: Part
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Evaluate a finished network on its test and validation images.

    Returns:
        The columns of the task, and the outputs (n, outputs) on both parts by name.
    """
    outputs, found = {}, {}
    for name, part in (("test", test), ("validation", validation)):
        outputs[name], targets = outputs_of(model, part)
        found[name] = part.task.evaluate(outputs[name], targets)
    if not math.isfinite(found["test"].loss + found["validation"].loss):
        raise TrialFailed("the network's outputs are not finite: its training diverged")
    return _columns(test.task.name, found["test"], found["validation"]), outputs


def _columns(task: str, test: Evaluation, validation: Evaluation) -> dict[str, Any]:
    headline = TASKS[task].headline.column
    return {
        **test.values,
        "test_loss": test.loss,
        "n_test": test.n,
        f"validation_{headline}": validation.values[headline],
        "validation_loss": validation.loss,
        "collapsed": test.collapsed,
    }
