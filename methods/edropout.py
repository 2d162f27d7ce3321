"""EDropout: evolve a population of sub-networks by an energy while training the best of them.

Salehinejad & Valaee, TNNLS 2022 (arXiv 2006.04270). Where paper and released code disagree, the
paper's reading is the default and `operator=code` the other one; docs/methods/edropout.md lists them.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from bench.api import (
    TASKS,
    Callback,
    Fixture,
    Gates,
    Method,
    Rate,
    Trial,
    reconnected,
    scoring,
)
from bench.methods import _population as evolve
from bench.methods._population import Operator


@dataclass(frozen=True)
class EDropout(Method):
    """Units are filters and the inputs of linear layers; the rate is what evolution arrives at.

    Attributes:
        population: S, number of states (at least 4: a child has three other parents).
        p: probability that a unit is on in the first population.
        mutation, crossover: F and C of the evolution.
        operator: `diff` (the paper's) or `code` (the released code's; F 0.9, C 0.9 there).
        freeze: share of the training after which the best state is final.
        converged: mean pairwise Hamming distance below which it is final earlier.
        rescore: score parents again on every batch: twice the passes.
    """

    colour: ClassVar[str] = "vermilion"
    marker: ClassVar[str] = "o"
    rate: ClassVar[Rate] = "emergent"

    population: int = 8
    p: float = 0.5
    mutation: float = 0.9
    crossover: float = 0.5
    operator: Operator = "diff"
    freeze: float = 0.5
    converged: float = 0.01
    rescore: bool = False

    def prune(self, trial: Trial) -> None:
        sites = tuple(site.name for site in trial.layout.sites)
        sizes = tuple(site.size for site in trial.layout.sites)
        generator = trial.rng("edropout")
        states = evolve.first_population(self.population, sum(sizes), self.p, generator)
        evolution = Evolution(
            sites, sizes, self.mutation, self.crossover, self.operator, self.rescore,
            round(self.freeze * trial.epochs), self.converged, generator,
            evolve.repair(states, list(sizes), generator),
            torch.full((self.population,), torch.inf),
        )  # fmt: skip
        trial.train(mode="gate", callback=evolution)
        trial.log(event="evolution ended", rule=evolution.rule, generations=evolution.generations,
                  hamming=evolve.mean_hamming(evolution.states))  # fmt: skip
        trial.keep("full", masked=False)  # the papers' (F): the same weights, every unit on

    def impossible(self, on: Fixture) -> str:
        if self.population < 4:
            return (
                f"edropout.population is {self.population}, but a child needs three other parents"
            )
        if not 0 < self.p < 1:
            return f"edropout.p is {self.p}, but is a probability between 0 and 1"
        for name in ("mutation", "crossover", "freeze"):
            if not 0 < getattr(self, name) <= 1:
                return (
                    f"edropout.{name} is {getattr(self, name)}, but is a share above 0 and up to 1"
                )
        if not TASKS[on.task].picks_class:
            return "its energy compares the label with other classes, and there are no labels here"
        if on.classes < 2:
            return "its energy compares the label with other classes, and there is only one class"
        return super().impossible(on)


@dataclass
class Evolution(Callback):
    """One generation per batch, then a gradient step on the best state."""

    sites: tuple[str, ...]
    sizes: tuple[int, ...]
    mutation: float
    crossover: float
    operator: Operator
    rescore: bool
    freeze_epoch: int
    converged: float
    generator: Generator
    states: Tensor
    energies: Tensor
    generations: int = 0
    rule: str = field(default="")  # which rule ended the evolution

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        if self.rule:
            return
        if self.rescore or not self.generations:
            self.energies = self._score(trial, self.states, x, y)
        children = evolve.offspring(
            self.states, self.operator, self.mutation, self.crossover, self.generator
        )
        children = evolve.repair(children, list(self.sizes), self.generator)
        scored = self._score(trial, children, x, y)
        self.states, self.energies = evolve.select(self.states, self.energies, children, scored)
        self.generations += 1
        best = self.states[int(self.energies.argmin())]
        for name, mask in self._masks(trial, best).items():
            trial.masks[name] = mask

    def epoch(self, trial: Trial, done: int) -> None:
        if self.rule:
            return
        if done >= self.freeze_epoch:
            self.rule = f"epoch {done}"
        elif evolve.mean_hamming(self.states) < self.converged:
            self.rule = f"population converged at epoch {done}"

    def _score(self, trial: Trial, states: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the energies (states,) of the batch under each state: batch statistics, no Dropout."""
        energies = []
        with Gates(trial.model, trial.layout) as gates, scoring(trial.model):
            for state in states:
                gates.set_masks(self._masks(trial, state.to(x.device)))
                energies.append(evolve.energy(trial.model(x).float(), y))
        return torch.stack(energies).cpu()

    def _masks(self, trial: Trial, state: Tensor) -> dict[str, Tensor]:
        bits = dict(zip(self.sites, torch.split(state, list(self.sizes)), strict=True))
        return reconnected(trial.layout, bits)
