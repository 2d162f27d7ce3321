"""A data set and networks small enough to train inside a test."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bench.data import Dataset, Images, Split
from bench.trial import Trial

MakeTrial = Callable[..., Trial]


class Blobs(Dataset):
    """Four classes of noisy 8x8 pictures, drawn from a fixed seed."""

    name = "blobs"
    shape = (1, 8, 8)
    classes = 4
    mean = (0.5,)
    std = (0.25,)

    def load(self, root: Path) -> Split:
        g = torch.Generator().manual_seed(5)
        centres = torch.rand(4, 1, 8, 8, generator=g)

        def images(n: int) -> Images:
            y = torch.randint(4, (n,), generator=g)
            noise = 0.25 * torch.randn(n, 1, 8, 8, generator=g)
            x = ((centres[y] + noise).clamp(0, 1) * 255).to(torch.uint8)
            return Images(x, y)

        return Split(images(192), images(64), images(64))


def small_mlp() -> nn.Module:
    """Two hidden layers of 16 and 12 units on 8x8 pictures."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 16), relu1=nn.ReLU(),
            fc2=nn.Linear(16, 12), relu2=nn.ReLU(), fc3=nn.Linear(12, 4),
        )
    )  # fmt: skip


def small_conv() -> nn.Module:
    """Two convolutions with BatchNorm, one linear layer; what kill tests and mask tests use."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1), bn1=nn.BatchNorm2d(6), relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 8, 3, padding=1), bn2=nn.BatchNorm2d(8), relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2), flatten=nn.Flatten(), fc1=nn.Linear(32, 4),
        )
    )  # fmt: skip


def randomise_norms(model: nn.Module, seed: int = 0) -> None:
    """Give every BatchNorm statistics and an affine that are nothing like the initial ones."""
    g = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=g))
            module.running_var.copy_(torch.rand(shape, generator=g) + 0.5)
            module.weight.data.copy_(torch.randn(shape, generator=g))
            module.bias.data.copy_(torch.randn(shape, generator=g))
