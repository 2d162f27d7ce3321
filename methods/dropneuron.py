"""DropNeuron: train under penalties on what enters and what leaves each neuron, drop small weights.

Pan, Dong & Guo, "DropNeuron: Simplifying the Structure of Deep Neural Networks", 2016 (arXiv 1606.07326).
The paper's equations were not at hand: this follows the released code, whose faults
docs/methods/dropneuron.md lists. The two regularisers also serve in a training loop of your own:

    from bench.methods.dropneuron import in_groups, out_groups
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.api import Fixture, Layer, Level, Method, Rate, Trial, UsageError
from bench.methods._dropout import without_own_dropout
from bench.methods._groups import in_groups, out_groups
from bench.methods._penalty import Families, Penalty
from bench.methods._thresholds import absolutes, around, curve

__all__ = ["DropNeuron", "in_groups", "out_groups"]

SCRIPTS_THRESHOLD = 0.01
SMALLEST = torch.finfo(torch.float32).tiny  # what is exactly 0 goes at any threshold


@dataclass(frozen=True)
class DropNeuron(Method):
    """The five arguments of the original's scripts are l1, l2, group, keep_prob and threshold.

    Attributes:
        l1, l2, group: coefficients, each times `scale`, of the sum of absolutes, of half the sum of
            squares (both of weights and biases) and of in-groups plus out-groups (weights).
        keep_prob: of dropout on hidden linear units, in the place of the network's own dropout;
            none: the network's own stays.
        threshold: smaller weights are dropped. None: ten times the learning rate under Adam, whose
            steps are about that long; the scripts' 0.01 under others; 0 after proximal steps.
        families: which groups are penalised.
        proximal: take the penalty's proximal step after each gradient step, not its gradient.
        layers: whose groups count: `linear`, names joined by +, or `all`: convolutions too, which
            is an extension of ours, in all terms.
        size_weighted: every group's norm times the root of its size, as group lasso has it.
        to_target: drop the smallest weights until the target is reached; the threshold is unused.
        finetune: train once more under the masks.
    """

    colour: ClassVar[str] = "green"
    marker: ClassVar[str] = "^"
    rate: ClassVar[Rate] = "emergent"
    level: ClassVar[Level] = "weight"

    l1: float = 1e-4
    l2: float = 0.0
    group: float = 5e-4
    keep_prob: float | None = None
    threshold: float | None = None
    families: Families = "both"
    proximal: bool = False
    layers: str = "linear"
    size_weighted: bool = False
    to_target: bool = False
    finetune: bool = False
    scale: float = 0.1

    def prune(self, trial: Trial) -> None:
        penalty = self.penalty(trial)
        with without_own_dropout(trial, self.keep_prob is not None):
            trial.train(callback=penalty if penalty.does_anything else None)
        trial.keep("before_pruning", masked=False)
        threshold = self.threshold_here(trial)
        if threshold:
            rows = trial.once(curve, penalty.pruned, around(threshold))
            trial.curve(rows, marked=None if self.to_target else threshold)
        small = absolutes(trial, penalty.pruned)
        if self.to_target:
            trial.masks.drop_to(small, scope="global")
        else:
            trial.masks.drop_below(small, max(threshold, SMALLEST))
        trial.log(event="thresholded", threshold=threshold, kept=trial.masks.counts())
        if self.finetune:
            trial.train()

    def penalty(self, trial: Trial) -> Penalty:
        """Say which layers each term is about."""
        layers = {la.name: la for la in trial.layout.own_layers}
        linear = tuple(name for name, la in layers.items() if not la.is_convolution)
        if wrong := self._unknown_layers(tuple(layers), linear):
            raise UsageError(wrong)
        grouped = [layers[name] for name in self._grouped(tuple(layers), linear)]
        with_convolutions = any(la.is_convolution for la in grouped)
        return Penalty(
            self.scale * self.l1, self.scale * self.l2, self.scale * self.group,
            tuple(la.name for la in grouped),
            tuple(_columns(la) if with_convolutions else 1 for la in grouped),
            tuple(la.groups for la in grouped),
            tuple(layers) if self.layers == "all" else linear,
            tuple(la.name for la in grouped if not la.is_removable_output),
            self.families, self.size_weighted, self.proximal, self.keep_prob,
        )  # fmt: skip

    def threshold_here(self, trial: Trial) -> float:
        """Return the threshold below which what a penalty holds down cannot be told from 0."""
        recipe = trial.recipe
        if self.threshold is not None:
            return self.threshold
        if self.proximal:
            return 0.0
        return 10 * recipe.lr if recipe.optimizer == "adam" else SCRIPTS_THRESHOLD

    def rate_here(self) -> Rate:
        return "target" if self.to_target else "emergent"

    def impossible(self, on: Fixture) -> str:
        for name in ("l1", "l2", "group", "scale", "threshold"):
            value = getattr(self, name)
            if value is not None and value < 0:
                return f"{name} is {value}, but must be 0 or more"
        if self.keep_prob is not None and not 0 < self.keep_prob <= 1:
            return f"keep_prob is {self.keep_prob}, but is a probability above 0 and up to 1"
        if on.layers and (wrong := self._unknown_layers(on.layers, on.linear_layers)):
            return wrong
        if self.proximal and on.recipe.optimizer != "sgd":
            return (
                f"a proximal step belongs to plain gradient steps, not to {on.recipe.optimizer}'s, "
                "which have another length for every weight; --set recipe.optimizer=sgd"
            )
        return super().impossible(on)

    def _grouped(self, every: tuple[str, ...], linear: tuple[str, ...]) -> tuple[str, ...]:
        known = {"linear": linear, "all": every}
        return tuple(dict.fromkeys(known.get(self.layers, self.layers.split("+"))))

    def _unknown_layers(self, every: tuple[str, ...], linear: tuple[str, ...]) -> str:
        if self.layers == "linear" and not linear:
            return "it penalises linear layers, and the network has none; layers=all takes convolutions too"
        for name in self._grouped(every, linear):
            if name not in every:
                return f"layers names {name!r}, but the network's are {', '.join(every)}"
        return ""


def _columns(layer: Layer) -> int:
    """Return the number of inputs in a row that are one unit of a layer: positions of a flattened map."""
    if any(name == "" for segment in layer.inputs for name, _ in segment.sources):
        return 1  # pixels are units of their own
    repeats = {segment.repeat for segment in layer.inputs}
    return repeats.pop() if len(repeats) == 1 else 1
