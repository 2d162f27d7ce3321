"""Random: drop units or weights uniformly at random; the control that every score has to beat."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from bench.api import Fixture, Level, Retrain, Score, Scores, Start, Trial


@dataclass(frozen=True)
class Random(Score):
    """On its own: a mask drawn at initialisation, then one training.

    As a control it copies another trial: the same start, the same rounds with the same counts kept
    in every layer, the same retraining; only the scores are random.
    """

    colour: ClassVar[str] = "grey"
    marker: ClassVar[str] = "X"
    level: ClassVar[Level] = "any"

    unit: Literal["unit", "weight"] = "unit"
    start: Start = "init"
    step: float | None = None
    retrain: Retrain = "finetune"

    def prune(self, trial: Trial) -> None:
        if trial.reference is None:
            super().prune(trial)
            return
        if trial.reference.start == "pretrained":
            trial.pretrained()
        for counts in trial.reference.rounds:
            trial.masks.keep_counts(counts, random_scores(trial, tuple(counts)))
            if trial.reference.retrains:
                trial.train(lr_scale=trial.reference.lr_scale)
        if not trial.reference.rounds and trial.reference.start == "init":
            trial.train()  # the other dropped nothing

    def score(self, trial: Trial) -> Scores:
        sites = tuple(s.name for s in trial.layout.sites if not s.is_input)
        return random_scores(trial, sites if self.unit == "unit" else tuple(trial.layout.weights))

    def impossible(self, on: Fixture) -> str:
        if self.unit == "unit" and not on.has_sites:
            return "it drops units, and the network has none; random.unit=weight drops weights"
        return super().impossible(on)


def random_scores(trial: Trial, names: tuple[str, ...]) -> Scores:
    """Return a uniform random score for every unit or weight; the same for every round and target."""
    return {
        name: torch.rand(trial.masks[name].shape, generator=trial.rng(f"random/{name}"))
        for name in names
    }
