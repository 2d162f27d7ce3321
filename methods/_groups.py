"""Penalties on groups of weights and their proximal steps: arithmetic of one tensor at a time.

A weight is a linear layer's (outputs, inputs) or a convolution's (outputs, inputs, height, width), as
torch has it. The in-group of an output unit are all weights that enter it, the out-group of an input
unit all that leave it (Pan, Dong & Guo 2016, arXiv 1606.07326: `li` and `lo` of the released code; some
other libraries swap the two names). No weight of the group's size is put on it unless asked for.
"""

import math

import torch
from torch import Tensor

ROUNDS = 5  # of the alternating scheme: exact to rounding for steps up to 0.1, to 3e-8 at 1


def in_groups(weight: Tensor, *, size_weighted: bool = False) -> Tensor:
    """Return the sum over output units of the Euclidean norm of what enters each: a scalar.

    Args:
        weight: (outputs, inputs) or (outputs, inputs, height, width).
        size_weighted: times the root of the number of weights in a group, as group lasso has it.
    """
    return _sum_of_norms(weight.flatten(1), 1, size_weighted)


def out_groups(
    weight: Tensor, *, size_weighted: bool = False, columns: int = 1, parts: int = 1
) -> Tensor:
    """Return the sum over input units of the Euclidean norm of what leaves each: a scalar.

    Args:
        weight: (outputs, inputs) or (outputs, inputs, height, width).
        columns: inputs in a row that belong to one unit: height x width of a flattened map.
        parts: of a grouped convolution: its `groups`.
    """
    return _sum_of_norms(_by_input(weight, columns, parts), (1, 3), size_weighted)


def prox_l1(weight: Tensor, step: float) -> Tensor:
    """Shrink every weight towards zero by `step`: the proximal map of step x sum of absolutes."""
    return weight.sign() * (weight.abs() - step).clamp_(min=0)


def prox_in_groups(weight: Tensor, step: float, *, size_weighted: bool = False) -> Tensor:
    """Shrink every in-group by `step` in norm; exact, for the groups are disjoint."""
    return _shrunk(weight.flatten(1), 1, step, size_weighted).view_as(weight)


def prox_out_groups(
    weight: Tensor, step: float, *, size_weighted: bool = False, columns: int = 1, parts: int = 1
) -> Tensor:
    """Shrink every out-group by `step` in norm; exact, for the groups are disjoint."""
    groups = _by_input(weight, columns, parts)
    return _shrunk(groups, (1, 3), step, size_weighted).view_as(weight)


def prox_both(
    weight: Tensor,
    step: float,
    step_l1: float = 0.0,
    *,
    size_weighted: bool = False,
    columns: int = 1,
    parts: int = 1,
    rounds: int = ROUNDS,
) -> Tensor:
    """Shrink in-groups and out-groups together, and single weights by `step_l1`.

    Every weight lies in one group of each family, so one step after the other is not the proximal
    map of the sum and may empty a group that should live. Here both are repeated, each getting back
    what it took away before, which converges to that map (Bauschke & Combettes 2008).
    """
    x, held_in, held_out = weight, torch.zeros_like(weight), torch.zeros_like(weight)
    for _ in range(rounds):
        # Single weights, then groups: that order is exact for one family.
        y = prox_in_groups(prox_l1(x + held_in, step_l1), step, size_weighted=size_weighted)
        held_in = x + held_in - y
        x = prox_out_groups(
            y + held_out, step, size_weighted=size_weighted, columns=columns, parts=parts
        )
        held_out = y + held_out - x
    return torch.where(y == 0, y, x)  # in the limit x is y: what one family emptied stays empty


Dims = int | tuple[int, int]


def _by_input(weight: Tensor, columns: int, parts: int) -> Tensor:
    """View a weight as (parts, outputs of a part, its input units, weights between the two)."""
    outputs, inputs = weight.shape[:2]
    return weight.reshape(parts, outputs // parts, inputs // columns, -1)


def _sum_of_norms(weight: Tensor, dims: Dims, size_weighted: bool) -> Tensor:
    # vector_norm has the gradient 0 where all weights of a group are 0; a root of squares has NaN.
    total: Tensor = torch.linalg.vector_norm(weight, dim=dims).sum()
    return total * _root_of_size(weight, dims) if size_weighted else total


def _shrunk(weight: Tensor, dims: Dims, step: float, size_weighted: bool) -> Tensor:
    """Return w_g <- max(0, 1 - step / |w_g|) w_g, and 0 where w_g is 0."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    step *= _root_of_size(weight, dims) if size_weighted else 1.0
    return weight * (norms - step).clamp_(min=0).div_(
        norms.clamp(min=torch.finfo(norms.dtype).tiny)
    )


def _root_of_size(weight: Tensor, dims: Dims) -> float:
    inside = (dims,) if isinstance(dims, int) else dims
    return math.sqrt(math.prod(weight.shape[d] for d in inside))
