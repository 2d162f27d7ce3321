"""Small networks with every way in which channels meet and part; 8x8 pictures of one channel."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, normalised, as residual networks have it."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, groups=groups)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """A stem, two blocks, a projection: the streams of ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(1, 6), conv(6, 5), conv(5, 6)
        self.c, self.d, self.short = conv(6, 7), conv(7, 8), conv(6, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.b(F.relu(self.a(x))) + x)
        x = F.relu(self.d(F.relu(self.c(x))) + self.short(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class OptionA(nn.Module):
    """Shortcuts that pad channels with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(1, 4), conv(4, 4), conv(4, 8), conv(8, 8)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.a(x) + x)
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        x = F.relu(F.max_pool2d(self.b(x), 2) + short)
        return self.head(F.relu(self.c(x) + x).flatten(1))


class Concatenated(nn.Module):
    """Two branches joined, normalised together, and the joined map read twice (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 3, 3, padding=1), conv(1, 4), nn.Conv2d(7, 5, 1)
        self.norm, self.last = nn.BatchNorm2d(12), nn.Linear(12 * 64, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.a(x), F.relu(self.b(x))], 1)
        x = F.relu(self.norm(torch.cat([both, self.c(both)], dim=1)))
        return self.head(torch.tanh(self.last(torch.flatten(x, 1))))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, projection, addition: MobileNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.project = conv(1, 4), conv(4, 9, 1), conv(9, 4, 1)
        self.depthwise = nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.norm, self.act, self.head = nn.BatchNorm2d(9), nn.ReLU6(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        y = self.act(self.norm(self.depthwise(self.act(self.expand(x)))))
        return self.head((x + self.project(y)).mean([2, 3]))


class Parted(nn.Module):
    """One map split into two that go their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(1, 8), conv(4, 5), conv(4, 5)
        self.head = nn.Linear(5 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(F.relu(self.a(x)), 2, dim=1)
        return self.head(F.relu(self.b(first) + self.c(second)).flatten(1))


class Squeezed(nn.Module):
    """Squeeze-and-excitation: what is multiplied cannot be dropped, the layers around it can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(1, 6), conv(6, 5)
        self.down, self.up = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        scale = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(F.adaptive_avg_pool2d(F.relu(self.b(x * scale)), 1).flatten(1))


class Grouped(nn.Module):
    """A grouped convolution between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(1, 4), conv(4, 4, groups=2), conv(4, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recalled(nn.Module):
    """A layer that is used twice, and others around it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(1, 4), nn.Conv2d(4, 4, 3, padding=1), conv(4, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.b(F.relu(self.a(x))))))
        return self.head(F.adaptive_avg_pool2d(F.relu(self.c(x)), 1).flatten(1))


class Neighbours(nn.Module):
    """A normalisation over neighbouring channels, as AlexNet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.lrn, self.b = conv(1, 6), nn.LocalResponseNorm(3), conv(6, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(self.lrn(F.relu(self.a(x)))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


BRANCHING: list[Callable[[], nn.Module]] = [
    Residual, OptionA, Concatenated, Inverted, Parted, Squeezed, Grouped, Recalled, Neighbours,
]  # fmt: skip
