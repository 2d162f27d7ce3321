"""Modes of a network for a while: evaluation, and scoring on training batches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and afterwards give every module the flag it had."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Use batch statistics without touching running ones; switch Dropout and gradients off.

    A network is scored so on a training batch under masks it was not trained with: the running
    statistics belong to other masks, and must not learn from these.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    drops = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    modules = list(model.modules())
    flags = [m.training for m in modules]
    tracking = [n.track_running_stats for n in norms]
    model.train()
    for norm in norms:
        norm.track_running_stats = False
    for drop in drops:
        drop.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
