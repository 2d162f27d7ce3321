"""A network's outputs on one part of the data, and their score: the same at any batch size."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.data.batches import Part
from bench.data.tasks import Evaluation, Task
from bench.errors import TrialFailed
from bench.graph.eval_mode import evaluating

BATCH_SIZE = 512


def outputs_of(
    model: nn.Module,
    part: Part,
    batch_size: int = BATCH_SIZE,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return outputs (n, outputs), float32, in eval mode, and targets; training flags are kept.

    Args:
        weights: by parameter name, in the place of the network's own, which it keeps.
    """
    outputs, targets = [], []
    with evaluating(model), torch.no_grad():
        for x, y in part.batches(batch_size):
            made = functional_call(model, dict(weights), (x,)) if weights else model(x)
            outputs.append(made.float())
            targets.append(y)
    return torch.cat(outputs), torch.cat(targets)


def evaluate(model: nn.Module, part: Part, batch_size: int = BATCH_SIZE) -> Evaluation:
    """Evaluate a network in eval mode.

    Raises:
        TrialFailed: the task's values are not those that it declares.
    """
    return scored(part.task, *outputs_of(model, part, batch_size))


def scored(task: Task, outputs: Tensor, targets: Tensor) -> Evaluation:
    """Score outputs, and hold the values against what the task declares.

    Raises:
        TrialFailed: a column is missing, or a value is of another kind.
    """
    found = task.evaluate(outputs, targets)
    if wrong := task.wrong_values(found.values):
        raise TrialFailed(wrong)
    return found
