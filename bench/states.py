"""What the harness itself computes once per state of a network."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench import batchnorm
from bench.evaluation import evaluate

if TYPE_CHECKING:
    from bench.trial import Trial


def validation(trial: "Trial") -> dict[str, Any]:
    """Accuracy and loss on the validation images, as the fields of `Evaluation`."""
    part = trial.setting.validation.in_layout(trial.layout.has_convolutions)
    return asdict(evaluate(trial.model, part))


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
