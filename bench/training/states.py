"""What the harness itself computes once per state of a network."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench.data.tasks import Evaluation
from bench.training import batchnorm
from bench.training.evaluation import evaluate, outputs_of

if TYPE_CHECKING:
    from bench.training.trial import Trial


def validation(trial: "Trial") -> dict[str, Any]:
    """Accuracy and loss on the validation images, as the fields of `Evaluation`."""
    part = trial.setting.validation.in_layout(trial.layout.has_convolutions)
    return asdict(evaluate(trial.model, part))


def validated_with(trial: "Trial", weights: Mapping[str, Tensor]) -> Evaluation:
    """Evaluate the network on the validation images with other weights, which it does not keep.

    For functions given to `Trial.once`, which may not change the network.

    Args:
        weights: by parameter name; all others are the network's own.
    """
    part = trial.setting.validation.in_layout(trial.layout.has_convolutions)
    return part.task.evaluate(*outputs_of(trial.model, part, weights=weights))


def own_statistics(trial: "Trial") -> dict[str, Tensor]:
    """BatchNorm statistics under the masks in force; the network is left as it was."""
    setting, model = trial.setting, trial.model
    part = setting.train.in_layout(trial.layout.has_convolutions)
    stored = model.state_dict().keys()
    before = {name: b.clone() for name, b in model.named_buffers() if name in stored}
    batchnorm.estimate(model, part, setting.recipe.batch_size, setting.seed)
    found = {name: model.get_buffer(name).clone() for name in before}
    for name, value in before.items():
        model.get_buffer(name).copy_(value)
    return found
