"""The quality of a finished network: the one place that puts test images into a network, once."""

import math

import torch
from torch import Tensor, nn

from bench.data.batches import Part
from bench.data.tasks import Evaluation, Task
from bench.errors import TrialFailed
from bench.store.records import QualityColumns
from bench.training.evaluation import outputs_of, scored

EXAMPLES = 10  # of the test images


def quality(
    model: nn.Module, test: Part, validation: Part
) -> tuple[QualityColumns, dict[str, Tensor]]:
    """Evaluate a finished network on its test and validation images.

    Returns:
        The columns of the task, and the outputs (n, outputs) on both parts by name.
    """
    outputs, found = {}, {}
    for name, part in (("test", test), ("validation", validation)):
        outputs[name], targets = outputs_of(model, part)
        found[name] = scored(part.task, outputs[name], targets)
    if not math.isfinite(found["test"].loss + found["validation"].loss):
        raise TrialFailed("the network's outputs are not finite: its training diverged")
    return columns_of(test.task, found["test"], found["validation"]), outputs


def columns_of(task: Task, test: Evaluation, validation: Evaluation) -> QualityColumns:
    """Return the columns of a record for the results on test and validation images."""
    of_task = test.values | {task.validation: validation.values[task.headline.column]}
    return QualityColumns(
        n_test=test.n,
        collapsed=bool(test.collapsed),
        test_loss=test.loss,
        validation_loss=validation.loss,
        **of_task,
    )


def examples(test: Part, outputs: Tensor) -> dict[str, Tensor]:
    """Return some test images and the network's outputs of them, as pixels between 0 and 1.

    They are spread over the whole part, for some data sets are sorted by class.
    """
    chosen = torch.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).long()
    images, _ = test.batch(chosen)
    made = outputs[chosen.to(outputs.device)].view(images.shape)
    std, mean = test.view.std / 255, test.view.mean / 255
    return {"images": images * std + mean, "outputs": made * std + mean}
