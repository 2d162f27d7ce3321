"""A data set and networks small enough to train inside a test."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.dataset import Dataset
from bench.data.images import Images
from bench.data.splits import Split
from bench.training.trial import RunningTrial

MakeTrial = Callable[..., RunningTrial]


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


class Residual(nn.Module):
    """A stream that branches are added to and joined with."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.deep, self.deep_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 4, 1)
        self.last, self.head = nn.Conv2d(10, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.deep_norm(self.deep(x)) + x)
        x = torch.cat([x, F.relu(self.side(x))], 1)
        return self.head(F.relu(self.last(x)).mean([2, 3]))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 16, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 4),
    )  # fmt: skip
