"""BatchNorm statistics belong to masks: where masks moved, they are estimated again."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data.batches import Part
from bench.graph.eval_mode import evaluating
from bench.seeds import generator

BATCHES = 50


def has_norms(model: nn.Module) -> bool:
    """Return True where any layer keeps running statistics."""
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules())


def estimate(model: nn.Module, part: Part, batch_size: int, seed: int) -> int:
    """Reset the running statistics and average them over training batches, in place.

    The caller puts the masks in force. Dropout is off: statistics describe the tested network.

    Returns:
        The number of images passed forward.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    order = torch.randperm(len(part), generator=generator(seed, "batchnorm"))
    seen = 0
    with evaluating(model), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        for x, _ in part.batches(batch_size, order[: BATCHES * batch_size]):
            if len(x) > 1:
                model(x)
                seen += len(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return seen
