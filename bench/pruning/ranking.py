"""Rank scored units or weights; ties are broken by a seeded draw."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.apportion import shares_of


@dataclass(frozen=True)
class Bucket:
    """The remaining units or weights of one site or parameter.

    Attributes:
        alive: positions (n,) that are still kept.
        scores: their scores (n,).
        may_go: how many may be dropped before the layer's floor.
    """

    name: str
    alive: Tensor
    scores: Tensor
    may_go: int


def lowest(scores: Tensor, k: int, ties: torch.Generator) -> Tensor:
    """Return the positions of the k lowest scores (n,), exact, in time linear in n.

    Among equal scores at the edge the generator chooses.
    """
    if k <= 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    if k >= len(scores):
        return torch.arange(len(scores), device=scores.device)
    # np.partition is 13 times faster than torch.kthvalue on a CPU.
    values = (scores.float() if scores.dtype == torch.bfloat16 else scores).cpu().numpy()
    edge = float(np.partition(values, k - 1)[k - 1])
    below = (scores < edge).nonzero().squeeze(1)
    equal = (scores == edge).nonzero().squeeze(1)
    draw = torch.randperm(len(equal), generator=ties)[: k - len(below)].to(scores.device)
    return torch.cat([below, equal[draw]])


def lowest_of_each(buckets: list[Bucket], k: int, ties: torch.Generator) -> dict[str, Tensor]:
    """Return positions of the lowest scores, the same share from every bucket, k in all."""
    shares = shares_of(k, [b.may_go for b in buckets])
    return {
        b.name: b.alive[lowest(b.scores, share, ties)]
        for b, share in zip(buckets, shares, strict=True)
    }


def lowest_over_all(buckets: list[Bucket], k: int, ties: torch.Generator) -> dict[str, Tensor]:
    """Return positions of the k lowest scores of all buckets together.

    Each bucket's best are no candidates: whatever the ranking, no layer is emptied.
    """
    candidates = [lowest(b.scores, b.may_go, ties) for b in buckets]
    pairs = list(zip(buckets, candidates, strict=True))
    scores = torch.cat([b.scores[c] for b, c in pairs])
    gone = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    gone[lowest(scores, k, ties)] = True
    parts = torch.split(gone, [len(c) for c in candidates])
    return {b.name: b.alive[c[part]] for (b, c), part in zip(pairs, parts, strict=True)}


def ranked(
    groups: list[list[Bucket]], wanted: list[int], stretch: float, ties: torch.Generator
) -> tuple[list[tuple[str, int]], int]:
    """Put what may be dropped into one order.

    Within a group the order is by score. Groups are interleaved so that each has lost the same
    share of its wanted count at any point of the order.

    Args:
        groups: the buckets that are ranked together.
        wanted: how many each group should lose.
        stretch: the order goes on to so many times the wanted counts.

    Returns:
        The order as (name, position), and how long the wanted part of it is.
    """
    places: list[Tensor] = []
    names: list[str] = []
    positions: list[int] = []
    size = 0
    for group, k in zip(groups, wanted, strict=True):
        rows = _group_order(group, ties)
        k = min(k, len(rows))
        size += k
        longest = min(len(rows), math.ceil(k * stretch - 1e-9))
        names += [name for name, _ in rows[:longest]]
        positions += [position for _, position in rows[:longest]]
        places.append((torch.arange(longest, dtype=torch.float64) + 1) / max(k, 1))
    if not names:
        return [], 0
    # Equal places of equal layers are ties too: shuffle, then sort stably.
    shuffle = torch.randperm(len(names), generator=ties)
    order = shuffle[torch.argsort(torch.cat(places)[shuffle], stable=True)].tolist()
    if len(groups) == 1:
        order = list(range(len(names)))
    longest_in_all = max(size, int(size * stretch + 1e-9))
    return [(names[i], positions[i]) for i in order[:longest_in_all]], size


def _group_order(group: list[Bucket], ties: torch.Generator) -> list[tuple[str, int]]:
    """Return all positions of a group by score, ties shuffled, each bucket's floor respected."""
    scores = torch.cat([b.scores.cpu().double() for b in group])
    owner = torch.cat([torch.full((len(b.alive),), i) for i, b in enumerate(group)])
    where = torch.cat([b.alive.cpu() for b in group])
    shuffle = torch.randperm(len(scores), generator=ties)
    order = shuffle[torch.argsort(scores[shuffle], stable=True)]
    left = [b.may_go for b in group]
    rows = []
    for i, position in zip(owner[order].tolist(), where[order].tolist(), strict=True):
        if left[i] > 0:
            left[i] -= 1
            rows.append((group[i].name, position))
    return rows
