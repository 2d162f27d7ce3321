"""What the harness itself computes once per state of a network."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench import batchnorm
from bench.evaluation import evaluate
from bench.trainer import load_model

if TYPE_CHECKING:
    from bench.trial import Trial


def validation(trial: "Trial") -> dict[str, Any]:
    """Accuracy and loss on the validation images, as the fields of `Evaluation`."""
    part = trial.setting.validation.in_layout(trial.layout.has_convolutions)
    return asdict(evaluate(trial.model, part))


def unmasked_statistics(trial: "Trial") -> dict[str, Tensor]:
    """BatchNorm statistics of the network with every unit on; the network is left as it was."""
    saved = trial.snapshot()
    setting = trial.setting
    part = setting.train.in_layout(trial.layout.has_convolutions)
    batchnorm.estimate(trial.model, part, setting.recipe.batch_size, setting.seed)
    buffers = {name: value.clone() for name, value in trial.model.named_buffers()}
    load_model(trial.model, saved.tensors)
    return buffers
