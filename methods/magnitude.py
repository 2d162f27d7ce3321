"""Magnitude: drop the smallest weights, retrain, repeat.

Han, Pool, Tran & Dally, NIPS 2015 (arXiv 1506.02626). Retraining with the whole schedule again, the
default here, is learning-rate rewinding (Renda, Frankle & Carbin, ICLR 2020, arXiv 2003.02389);
`lr_scale=0.1` is Han's, `retrain=rewind` the lottery ticket's (Frankle & Carbin, ICLR 2019).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.api import Level, Score, Scores, Trial


@dataclass(frozen=True)
class Magnitude(Score):
    """Per layer or over all layers; in one round (`step=none`) or in rounds."""

    level: ClassVar[Level] = "weight"

    def prune(self, trial: Trial) -> None:
        if trial.reference is None:
            super().prune(trial)
            return
        # As a control: one round to the final counts of another method, from a trained network.
        trial.pretrained()
        counts = trial.reference.rounds[-1]
        trial.masks.keep_counts(counts, trial.once(self.score_of, tuple(counts)))
        trial.train(lr_scale=self.lr_scale)

    def score(self, trial: Trial) -> Scores:
        """Absolute weights (sec. 3); biases are never pruned."""
        return self.score_of(trial, tuple(trial.layout.weights))

    def score_of(self, trial: Trial, names: tuple[str, ...]) -> Scores:
        """Absolute weights, or for a site the L1 norm of each unit's own weights."""
        scores = {}
        for name in names:
            if name in trial.layout.weights:
                scores[name] = trial.model.get_parameter(name).detach().abs()
                continue
            site = trial.layout.site(name)
            weights = [trial.model.get_parameter(f"{m}.weight").detach() for m in site.modules]
            units = [(w.transpose(0, 1) if site.is_input else w).flatten(1) for w in weights]
            scores[name] = torch.stack([u.abs().sum(1) for u in units]).sum(0)
        return scores
