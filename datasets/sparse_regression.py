"""Synthetic regressions that depend on few of their inputs, drawn anew for every seed.

DropNeuron's first experiment (Pan, Dong & Guo 2016, arXiv 1606.07326; drawn as its released script does).
"""

from pathlib import Path
from typing import ClassVar

import torch

from bench.api import REGRESSION, Dataset, Images, Split, generator

INPUTS, RELEVANT, SPREAD = 20, 2, 10.0
TRAIN, TEST, VALIDATION = 500, 500, 100


class SparseRegression(Dataset):
    """y = Xw without noise; 2 of 20 weights are not 0; a new draw per seed: 500 / 100 / 500 samples.

    Inputs and weights are N(0, 10^2). The two places are drawn with replacement, as in the script: in
    one draw of twenty they are the same, and the truth has a single weight.
    """

    name = "sparse-regression"
    shape = (1, 1, INPUTS)
    classes = 1
    mean = (0.0,)
    std = (1.0,)
    stored_one = 1.0
    task = REGRESSION
    noise: ClassVar[float] = 0.0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        draws = generator(seed, "sparse-regression", "truth")
        self.weights = torch.zeros(INPUTS)
        places = torch.randint(INPUTS, (RELEVANT,), generator=draws)
        self.weights[places] = SPREAD * torch.randn(RELEVANT, generator=draws)
        self.relevant = self.weights != 0

    def for_seed(self, seed: int) -> Dataset:
        return type(self)(seed)

    def load(self, root: Path) -> Split:
        draws = generator(self.seed, "sparse-regression", "samples")
        # The script has no validation: its samples come after the others.
        x = SPREAD * torch.randn(TRAIN + TEST + VALIDATION, INPUTS, generator=draws)
        y = x @ self.weights + self.noise * torch.randn(len(x), generator=draws)
        parts = torch.split(torch.arange(len(x)), [TRAIN, TEST, VALIDATION])
        samples = Images(x.view(-1, *self.shape), y.unsqueeze(1))
        train, test, validation = (samples.take(part) for part in parts)
        return Split(train, validation, test)


class NoisyRegression(SparseRegression):
    """As sparse-regression, with noise N(0, 1) on the targets."""

    name = "sparse-regression-noisy"
    noise = 1.0
