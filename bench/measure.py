"""What is reported of a trial: sizes from its masks, accuracy from one pass over the test images."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from bench.counting import count, count_effective, output_side_share
from bench.data import Part
from bench.errors import TrialFailed
from bench.evaluation import Evaluation, evaluation_of, logits_of
from bench.layout import Layout

COLLAPSE_MARGIN = 0.5  # points within chance


def sizes(layout: Layout, masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return parameters, rates and multiply-adds under masks, all from closed forms."""
    plain, effective = count(layout, masks), count_effective(layout, masks)
    units = {s.name: s.size for s in layout.sites if not s.is_input or s.name in masks}
    kept = {name: int(masks[name].sum()) if name in masks else n for name, n in units.items()}
    removed = sum(units.values()) - sum(kept.values())
    return {
        "params_dense": plain.params_dense,
        "params_masked": plain.params_masked,
        "params_kept": plain.params_kept,
        "params_effective": effective.params_kept,
        "pruning_rate": 1 - effective.params_kept / plain.params_dense,
        "pruning_rate_prunable": 1 - effective.weights_kept / plain.weights_dense,
        "compression": plain.params_dense / effective.params_kept,
        "units_removed": removed,
        "units_kept_share": 1 - removed / max(1, sum(units.values())),
        "kept_output_side": output_side_share(layout, masks),
        "macs_dense": plain.macs_dense,
        "macs_effective": effective.macs_kept,
        "speedup_theoretical": plain.macs_dense / max(1, effective.macs_kept),
        "units": {name: {"kept": kept[name], "of": n} for name, n in units.items()},
    }


def accuracy(
    model: nn.Module, test: Part, validation: Part
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Evaluate a finished network: the one place that reads test images, in one pass.

    Returns:
        The columns, and the logits (n, classes) of both parts by name.
    """
    predictions = {"test": logits_of(model, test), "validation": logits_of(model, validation)}
    on_test = evaluation_of(predictions["test"], test.y)
    on_validation = evaluation_of(predictions["validation"], validation.y)
    if not math.isfinite(on_test.loss + on_validation.loss):
        raise TrialFailed("the network's outputs are not finite: its training diverged")
    return _columns(on_test, on_validation, predictions["test"].shape[1]), predictions


def _columns(test: Evaluation, validation: Evaluation, classes: int) -> dict[str, Any]:
    columns = asdict(test)
    return {
        "top1": columns["top1"],
        "top3": columns["top3"],
        "top5": columns["top5"],
        "test_loss": columns["loss"],
        "n_test": columns["n"],
        "validation_top1": validation.top1,
        "validation_loss": validation.loss,
        "collapsed": test.top1 <= 100 / classes + COLLAPSE_MARGIN,
    }
