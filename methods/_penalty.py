"""L1, L2 and group penalties on a network's layers, as terms of the loss or as proximal steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from bench.api import Callback, Trial
from bench.methods._dropout import hidden_dropout, reading_linear_units
from bench.methods._groups import (
    in_groups,
    out_groups,
    prox_both,
    prox_in_groups,
    prox_l1,
    prox_out_groups,
)

Families = Literal["both", "in", "out"]


class _Shape(TypedDict):
    columns: int
    parts: int
    size_weighted: bool


@dataclass
class Penalty(Callback):
    """L1, L2 and group terms in the loss; or L1 and groups as a proximal step after each step.

    Attributes:
        l1, l2, group: coefficients as they multiply the terms.
        grouped: layers whose groups count; of each, `columns`: inputs in a row that are one unit,
            and `parts`: of a grouped convolution.
        single: layers whose weights and biases are in the L1 and L2 terms.
        kept_outputs: layers whose outputs cannot go; no proximal step empties their in-groups.
        keep_prob: of dropout on hidden linear units, where linear layers read them; None: there is none.
    """

    l1: float
    l2: float
    group: float
    grouped: tuple[str, ...]
    columns: tuple[int, ...]
    parts: tuple[int, ...]
    single: tuple[str, ...]
    kept_outputs: tuple[str, ...]
    families: Families
    size_weighted: bool
    proximal: bool
    keep_prob: float | None

    @property
    def does_anything(self) -> bool:
        """True where the training is another one than the dense network's."""
        return bool(self.l1 or self.l2 or self.group) or self.keep_prob is not None

    @property
    def pruned(self) -> tuple[str, ...]:
        """The layers that are penalised; all linear ones where no term has a coefficient."""
        singles = self.single if self.l1 or self.l2 or not self.group else ()
        return tuple(dict.fromkeys((*singles, *self.grouped)))

    def inputs(self, trial: Trial) -> tuple[str, ...]:
        return () if self.keep_prob is None else reading_linear_units(trial)

    def input(self, trial: Trial, module: str, x: Tensor) -> Tensor:
        assert self.keep_prob is not None
        return hidden_dropout(trial, module, x, self.keep_prob)

    def penalty(self, trial: Trial) -> Tensor | None:
        terms: list[Tensor] = []
        for parameter in self._single_parameters(trial):
            if self.l1 and not self.proximal:
                terms.append(self.l1 * parameter.abs().sum())
            if self.l2:
                terms.append(self.l2 / 2 * parameter.square().sum())
        if self.group and not self.proximal:
            for name, shape in self._shapes().items():
                weight = trial.model.get_parameter(f"{name}.weight")
                if self.families != "out":
                    terms.append(self.group * in_groups(weight, size_weighted=self.size_weighted))
                if self.families != "in":
                    terms.append(self.group * out_groups(weight, **shape))
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def step(self, trial: Trial, lr: float) -> None:
        if not self.proximal:
            return
        # Momentum makes gradient steps 1 / (1 - m) times as long in the end, but not this one.
        size = lr / (1 - trial.recipe.momentum)
        grouped = self._shapes() if self.group else {}
        for name in self.pruned:
            weight = trial.model.get_parameter(f"{name}.weight")
            l1 = size * self.l1 if name in self.single else 0.0
            if name in grouped:
                weight.copy_(self._shrunk(name, weight, size * self.group, l1, grouped[name]))
            else:
                weight.copy_(prox_l1(weight, l1))
            bias = getattr(trial.model.get_submodule(name), "bias", None)
            if bias is not None and l1:
                bias.copy_(prox_l1(bias, l1))

    def _shrunk(self, name: str, weight: Tensor, step: float, l1: float, shape: _Shape) -> Tensor:
        """Return the proximal map of a layer's own terms; exact for one family."""
        with_in = self.families != "out" and name not in self.kept_outputs
        if with_in and self.families == "both":
            return prox_both(weight, step, l1, **shape)
        weight = prox_l1(weight, l1)  # single weights before groups
        if with_in:
            return prox_in_groups(weight, step, size_weighted=self.size_weighted)
        return weight if self.families == "in" else prox_out_groups(weight, step, **shape)

    def _shapes(self) -> dict[str, _Shape]:
        """Return how each layer's inputs form units."""
        return {
            name: {"columns": columns, "parts": parts, "size_weighted": self.size_weighted}
            for name, columns, parts in zip(self.grouped, self.columns, self.parts, strict=True)
        }

    def _single_parameters(self, trial: Trial) -> Iterator[nn.Parameter]:
        for name in self.single if self.l1 or self.l2 else ():
            yield from trial.model.get_submodule(name).parameters()
