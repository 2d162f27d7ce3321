"""Magnitude: drop the smallest weights, retrain, repeat.

Han, Pool, Tran & Dally, NIPS 2015 (arXiv 1506.02626). Retraining with the whole schedule again, the
default here, is learning-rate rewinding (Renda, Frankle & Carbin, ICLR 2020, arXiv 2003.02389);
`lr_scale=0.1` is Han's, `retrain=rewind` the lottery ticket's (Frankle & Carbin, ICLR 2019).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from bench.api import TASKS, Fixture, Level, Rate, Score, Scores, Trial
from bench.methods._dropout import adjusted_dropout
from bench.methods._sensitivity import densities_of, scan, wrong_shares
from bench.methods._thresholds import absolutes


@dataclass(frozen=True)
class Magnitude(Score):
    """To targets, per layer or over all layers, in rounds or in one (`step=none`); or by a rule.

    Attributes:
        quality: Han's rule: a layer's threshold is this times the standard deviation of what is left
            of its weights (sec. 3.1).
        threshold: the same for all layers.
        densities: share of each layer's weights that stays, joined by +; or a network of Han's
            tables (lenet-300-100, lenet-5, alexnet, vgg-16); or `scan`: what a scan of one layer at
            a time allows.
        tolerance: points that one layer may cost in the scan.
        rounds: of pruning and retraining to a rule.
        freeze: `alternate`: linear layers are pruned and retrained with convolutions fixed, then
            the other way round (sec. 3.3).
        dropout: in retraining, times the root of the share of connections left (sec. 3.2).
    """

    colour: ClassVar[str] = "orange"
    marker: ClassVar[str] = "D"
    level: ClassVar[Level] = "weight"

    quality: float | None = None
    threshold: float | None = None
    densities: str | float | None = None
    tolerance: float = 1.0
    rounds: int = 1
    freeze: Literal["none", "alternate"] = "none"
    dropout: bool = False

    def prune(self, trial: Trial) -> None:
        if trial.reference is not None:
            self._follow(trial)
        elif self.rate_here() == "target":
            super().prune(trial)
        else:
            self._prune_to_rule(trial)

    def score(self, trial: Trial) -> Scores:
        """Return the absolute weights (sec. 3); biases are never pruned."""
        return self.score_of(trial, tuple(trial.layout.weights))

    def score_of(self, trial: Trial, names: tuple[str, ...]) -> Scores:
        """Return the absolute weights, or for a site the L1 norm of each unit's own weights."""
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

    def rate_here(self) -> Rate:
        return "emergent" if self._rules else "target"

    def impossible(self, on: Fixture) -> str:
        return self._impossible_rule(on) or super().impossible(on)

    def _impossible_rule(self, on: Fixture) -> str:
        if len(self._rules) > 1:
            return f"{' and '.join(self._rules)} are two rules for one cut; choose one"
        if not self._rules and (self.rounds > 1 or self.freeze != "none" or self.dropout):
            return "rounds, freeze and dropout go with quality, threshold or densities"
        if self._rules and (self.scope != "layer" or self.step != Magnitude.step):
            return f"scope and step are for targets, and {self._rules[0]} is a rule of its own"
        if self.freeze != "none" and self.retrain != "finetune":
            return "freeze=alternate retrains what is left; it goes with retrain=finetune"
        if self.quality is not None and self.quality <= 0:
            return f"quality is {self.quality}, but is a factor above 0"
        if self.threshold is not None and self.threshold < 0:
            return f"threshold is {self.threshold}, but must be 0 or more"
        if self.rounds < 1:
            return f"rounds is {self.rounds}, but there is at least one"
        if self.tolerance < 0 or (
            self.tolerance != Magnitude.tolerance and self.densities != "scan"
        ):
            return "tolerance is 0 or more, and goes with densities=scan"
        if self.densities == "scan" and not TASKS[on.task].headline.is_percent:
            return "densities=scan allows points of top-1, and this task is measured by an error"
        return (
            "" if self.densities in (None, "scan") else wrong_shares(str(self.densities), on.layers)
        )

    @property
    def _rules(self) -> list[str]:
        return [n for n in ("quality", "threshold", "densities") if getattr(self, n) is not None]

    def _follow(self, trial: Trial) -> None:
        """Follow another method as a control: one round to its final counts, from a trained network."""
        assert trial.reference is not None
        trial.pretrained()
        if not trial.reference.rounds:
            return  # it dropped nothing
        counts = trial.reference.rounds[-1]
        trial.masks.keep_counts(counts, trial.once(self.score_of, tuple(counts)))
        trial.train(lr_scale=self.lr_scale)

    def _prune_to_rule(self, trial: Trial) -> None:
        theta0 = trial.snapshot()
        if self.start == "pretrained":
            trial.pretrained()
        wanted: dict[str, float] = {}
        if self.densities is not None:
            wanted = densities_of(trial, str(self.densities), self.tolerance)
        if self.densities == "scan":
            rows = trial.once(scan)
            trial.curve([{k: v for k, v in r.items() if not k.startswith("score/")} for r in rows])
        for done in range(1, self.rounds + 1):
            for layers in self._turns(trial):
                self._cut(trial, layers, {n: d ** (done / self.rounds) for n, d in wanted.items()})
                if self.retrain == "rewind":
                    trial.restore(theta0)
                if self.retrain != "none":
                    moving = None if self.freeze == "none" else tuple(f"{n}." for n in layers)
                    with adjusted_dropout(trial, self.dropout):
                        trial.train(lr_scale=self.lr_scale, trainable=moving)

    def _turns(self, trial: Trial) -> Iterator[tuple[str, ...]]:
        """Return the layers that are pruned together: all, or linear ones and then convolutions."""
        layers = trial.layout.own_layers
        if self.freeze == "none":
            yield tuple(la.name for la in layers)
            return
        for is_convolution in (False, True):
            if names := tuple(la.name for la in layers if la.is_convolution == is_convolution):
                yield names

    def _cut(self, trial: Trial, layers: tuple[str, ...], densities: dict[str, float]) -> None:
        scores = absolutes(trial, layers)
        if densities:
            counts = {n: max(1, round(densities[n] * s.numel())) for n, s in scores.items()}
            trial.masks.keep_counts(counts, scores)
            trial.log(event="cut", kept=counts)
            return
        limits = {name: self._limit(trial, name) for name in scores}
        for name, score in scores.items():
            trial.masks.drop_below({name: score}, limits[name])
        trial.log(event="cut", thresholds=limits, kept=trial.masks.counts())

    def _limit(self, trial: Trial, name: str) -> float:
        """Return Han's threshold of a layer, or the one for all."""
        if self.quality is None:
            assert self.threshold is not None
            return self.threshold
        left = trial.model.get_parameter(name).detach()[trial.masks[name]]
        return self.quality * float(left.std(correction=0))
