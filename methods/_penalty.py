"""L1, L2 and group penalties on a network's layers, as terms of the loss or as proximal steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.api import Callback, Trial
from bench.methods._groups import (
    in_groups,
    out_groups,
    prox_both,
    prox_in_groups,
    prox_l1,
    prox_out_groups,
)

Families = Literal["both", "in", "out"]


@dataclass
class Penalty(Callback):
    """L1, L2 and group terms in the loss; or L1 and groups as a proximal step after each step.

    Attributes:
        l1, l2, group: coefficients as they multiply the terms.
        grouped: layers whose groups count; `columns`: inputs in a row of each that are one unit.
        single: layers whose weights and biases are in the L1 and L2 terms.
        kept_outputs: layers whose outputs cannot go; no proximal step empties their in-groups.
        keep_prob: of the dropout around this training: it is not done here, but is part of what the
            training is.
    """

    l1: float
    l2: float
    group: float
    grouped: tuple[str, ...]
    columns: tuple[int, ...]
    single: tuple[str, ...]
    kept_outputs: tuple[str, ...]
    families: Families
    size_weighted: bool
    proximal: bool
    keep_prob: float | None

    @property
    def does_anything(self) -> bool:
        """Whether the training is another one than the dense network's."""
        return bool(self.l1 or self.l2 or self.group) or self.keep_prob is not None

    @property
    def pruned(self) -> tuple[str, ...]:
        """The layers that are penalised; all linear ones where no term has a coefficient."""
        singles = self.single if self.l1 or self.l2 or not self.group else ()
        return tuple(dict.fromkeys((*singles, *self.grouped)))

    def penalty(self, trial: Trial) -> Tensor | None:
        terms: list[Tensor] = []
        for parameter in self._single_parameters(trial):
            if self.l1 and not self.proximal:
                terms.append(self.l1 * parameter.abs().sum())
            if self.l2:
                terms.append(self.l2 / 2 * parameter.square().sum())
        if self.group and not self.proximal:
            for name, columns in zip(self.grouped, self.columns, strict=True):
                weight = trial.model.get_parameter(f"{name}.weight")
                if self.families != "out":
                    terms.append(self.group * in_groups(weight, size_weighted=self.size_weighted))
                if self.families != "in":
                    terms.append(self.group * out_groups(
                        weight, size_weighted=self.size_weighted, columns=columns))  # fmt: skip
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def step(self, trial: Trial, lr: float) -> None:
        if not self.proximal:
            return
        # Momentum makes a gradient 1 / (1 - m) times as long in the end, but not this step.
        size = lr / (1 - trial.setting.recipe.momentum)
        grouped = dict(zip(self.grouped, self.columns, strict=True)) if self.group else {}
        for name in self.pruned:
            weight = trial.model.get_parameter(f"{name}.weight")
            l1 = size * self.l1 if name in self.single else 0.0
            columns = grouped.get(name)
            weight.copy_(prox_l1(weight, l1) if columns is None
                         else self._shrunk(name, weight, size * self.group, l1, columns))  # fmt: skip
            bias = getattr(trial.model.get_submodule(name), "bias", None)
            if bias is not None and l1:
                bias.copy_(prox_l1(bias, l1))

    def _shrunk(self, name: str, weight: Tensor, step: float, l1: float, columns: int) -> Tensor:
        """The proximal map of a layer's own terms; exact for one family."""
        with_in = self.families != "out" and name not in self.kept_outputs
        sized = self.size_weighted
        if with_in and self.families == "both":
            return prox_both(weight, step, l1, size_weighted=sized, columns=columns)
        weight = prox_l1(weight, l1)  # single weights before groups
        if with_in:
            return prox_in_groups(weight, step, size_weighted=sized)
        if self.families == "in":
            return weight
        return prox_out_groups(weight, step, size_weighted=sized, columns=columns)

    def _single_parameters(self, trial: Trial) -> Iterator[nn.Parameter]:
        for name in self.single if self.l1 or self.l2 else ():
            yield from trial.model.get_submodule(name).parameters()
