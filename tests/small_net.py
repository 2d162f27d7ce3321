"""A user's own network file: two convolutions with BatchNorm, and one that cannot be pruned by unit."""

import torch
from torch import nn


def build(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """Two 3x3 convolutions with BatchNorm, pooled to 7x7."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (in_shape[1] // 4) ** 2, num_classes),
    )


class _Residual(nn.Module):
    def __init__(self, num_classes: int, in_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = nn.Linear(in_shape[0] * in_shape[1] * in_shape[2], 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        return self.last(x + torch.relu(self.second(x)))


def residual(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """A network that adds one layer to another."""
    return _Residual(num_classes, in_shape)


def bent(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """A network whose only hidden units end in a sigmoid, which is not 0 at 0."""
    pixels = in_shape[0] * in_shape[1] * in_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 8), nn.Sigmoid(), nn.Linear(8, num_classes)
    )


def linear(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """A network without hidden units."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_shape[0] * in_shape[1] * in_shape[2], num_classes)
    )


def broken(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """A network whose layers do not fit together."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3, num_classes))
