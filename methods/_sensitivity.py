"""Densities of layers: published ones, ones in words, and a scan of one layer at a time."""

from typing import Any

import torch
from torch import Tensor

from bench.api import Trial, TrialFailed, validated_with

# Han et al. 2015, tables 2-5: share of the weights that stays, layer by layer.
HAN = {
    "lenet-300-100": (0.08, 0.09, 0.26),
    "lenet-5": (0.66, 0.12, 0.08, 0.19),
    "alexnet": (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25),
    "vgg-16": (0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36,
               0.04, 0.04, 0.23),
}  # fmt: skip
SCANNED = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02)


def densities_of(trial: Trial, said: str, tolerance: float) -> dict[str, float]:
    """Return the share of each layer's weights that stays, by parameter name.

    Args:
        said: a network of `HAN`, `scan`, or shares joined by +, in the order of the layers.
        tolerance: of a scan: points of the task's score that one layer may cost.

    Raises:
        TrialFailed: there are not as many shares as layers.
    """
    names = list(trial.layout.weights)
    if said == "scan":
        rows = trial.once(scan)
        return {name: tolerated(rows, name, tolerance) for name in names}
    if wrong := wrong_shares(said, tuple(names)):
        raise TrialFailed(wrong)
    return dict(zip(names, _shares(said), strict=True))


def wrong_shares(said: str, layers: tuple[str, ...]) -> str:
    """Return what is wrong with shares in words; empty where nothing is, or layers are not known."""
    try:
        shares = _shares(said)
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        return (
            f"densities is {said!r}, but is scan, one of {', '.join(HAN)}, or shares above 0 and up to "
            "1 joined by +, such as 0.08+0.09+0.26"
        )
    if layers and len(shares) != len(layers):
        return (
            f"densities={said} speaks of {len(shares)} layers, but the network has {len(layers)}: "
            f"{', '.join(layers)}"
        )
    return ""


def _shares(said: str) -> tuple[float, ...]:
    return HAN.get(said) or tuple(float(part) for part in said.split("+"))


def scan(trial: Trial) -> list[dict[str, Any]]:
    """Return the quality on validation images with one layer pruned at a time, not retrained.

    For `Trial.once`. Rows hold `density` and, for each layer, the task's headline under a name for the
    figure, and `score/` before its name: the same with its sign such that higher is better.
    """
    headline = trial.task.headline
    rows: list[dict[str, Any]] = [{"density": density} for density in SCANNED]
    for name in trial.layout.weights:
        weight = trial.model.get_parameter(name).detach()
        for row in rows:
            found = validated_with(trial, {name: weight * largest(weight, row["density"])})
            row[f"score/{name}"] = found.score
            shown = f"validation {headline.title}, {name.removesuffix('.weight')} pruned alone"
            row[shown] = found.values[headline.column]
    return rows


def tolerated(rows: list[dict[str, Any]], name: str, tolerance: float) -> float:
    """Return the lowest density at which a layer costs no more than the tolerance."""
    best = rows[0][f"score/{name}"]
    lowest = 1.0
    for row in rows:
        if not row[f"score/{name}"] >= best - tolerance:  # nan, too
            break
        lowest = row["density"]
    return lowest


def largest(weight: Tensor, density: float) -> Tensor:
    """Mark the largest absolute weights: exactly round(density x size) of them, at least one."""
    count = max(1, round(density * weight.numel()))
    order = weight.abs().flatten().sort(descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:count]] = True
    return mask.view_as(weight)
