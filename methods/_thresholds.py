"""Pruning single weights at a threshold, and what other thresholds would have done."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.api import Scores, Trial, validated_with

_STEPS = 4  # points of the curve per factor of ten


def absolutes(trial: Trial, layers: Sequence[str]) -> Scores:
    """Return the absolute weights of layers, by parameter name."""
    return {f"{n}.weight": trial.model.get_parameter(f"{n}.weight").detach().abs() for n in layers}


def around(threshold: float) -> tuple[float, ...]:
    """Return thresholds from a hundredth to a hundred times the given one, which is among them."""
    return tuple(threshold * 10 ** (k / _STEPS) for k in range(-2 * _STEPS, 2 * _STEPS + 1))


def curve(
    trial: Trial, layers: tuple[str, ...], thresholds: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Return the share of weights kept and the quality on validation images at each threshold.

    For `Trial.once`: the network stays as it is.
    """
    scores = absolutes(trial, layers)
    rows = []
    for threshold in thresholds:
        keep = {name: score >= threshold for name, score in scores.items()}
        kept = {n: trial.model.get_parameter(n).detach() * mask for n, mask in keep.items()}
        found = validated_with(trial, kept)
        rows.append({
            "threshold": threshold,
            "density": _share(keep),
            trial.task.validation: found.values[trial.task.headline.column],
        })  # fmt: skip
    return rows


def _share(keep: dict[str, Tensor]) -> float:
    kept = torch.cat([mask.flatten() for mask in keep.values()])
    return float(kept.double().mean())
