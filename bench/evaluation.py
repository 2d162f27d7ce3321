"""Accuracy as sums over images: a perfect model scores 100.000 at any batch size."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.data import Part
from bench.modes import evaluating

BATCH_SIZE = 512


@dataclass(frozen=True)
class Evaluation:
    """Results on one part of the data.

    Attributes:
        top1, top3, top5: percent of images whose label is among the k highest logits.
        loss: mean cross-entropy (nats).
        n: number of images.
    """

    top1: float
    top3: float
    top5: float
    loss: float
    n: int


def logits_of(model: nn.Module, part: Part, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the network's outputs (n, classes) in eval mode, float32; training flag kept."""
    with evaluating(model), torch.no_grad():
        return torch.cat([model(x).float() for x, _ in part.batches(batch_size)])


def evaluation_of(logits: Tensor, labels: Tensor) -> Evaluation:
    """Score logits (n, classes) against labels (n,)."""
    n, classes = logits.shape
    best = logits.topk(min(5, classes), dim=1).indices
    hits = best == labels[:, None]

    def top(k: int) -> float:
        return 100 * int(hits[:, :k].sum()) / n

    loss = cross_entropy(logits.double(), labels, reduction="sum")
    return Evaluation(top(1), top(3), top(5), float(loss) / n, n)


def evaluate(model: nn.Module, part: Part, batch_size: int = BATCH_SIZE) -> Evaluation:
    """Evaluate a network in eval mode."""
    return evaluation_of(logits_of(model, part, batch_size), part.y)
