"""The thin ResNets for CIFAR: three stages of 16, 32 and 64 channels, 6n + 2 layers.

He et al., CVPR 2016 (arXiv 1512.03385), section 4.2. Where the shape changes, the shortcut is a
1x1 projection with BatchNorm (the paper's option B); networks ending in `-a` have option A, which
takes every second pixel and pads with channels of zeros.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.1, batch_size=128, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=32)
def resnet_20(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-20 for CIFAR with 1x1 projections; 272,474 parameters on CIFAR-10."""
    return _resnet(20, _projection, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_32(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-32 for CIFAR with 1x1 projections; 466,906 parameters on CIFAR-10."""
    return _resnet(32, _projection, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_56(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-56 for CIFAR with 1x1 projections; 855,770 parameters on CIFAR-10."""
    return _resnet(56, _projection, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_110(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-110 for CIFAR with 1x1 projections; 1,730,714 parameters on CIFAR-10."""
    return _resnet(110, _projection, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_20_a(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-20 for CIFAR with zero-padded shortcuts; 269,722 parameters on CIFAR-10."""
    return _resnet(20, ZeroPadded, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_32_a(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-32 for CIFAR with zero-padded shortcuts; 464,154 parameters on CIFAR-10."""
    return _resnet(32, ZeroPadded, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_56_a(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-56 for CIFAR with zero-padded shortcuts; 853,018 parameters on CIFAR-10."""
    return _resnet(56, ZeroPadded, num_classes, in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_110_a(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-110 for CIFAR with zero-padded shortcuts; 1,727,962 parameters on CIFAR-10."""
    return _resnet(110, ZeroPadded, num_classes, in_shape)


class ZeroPadded(nn.Module):
    """Option A: every second row and column, between equally many new channels of zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the shortcut before the last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return out


def _projection(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 1, stride=2, bias=False),
            bn=nn.BatchNorm2d(outputs),
        )
    )


def _stage(
    inputs: int, outputs: int, blocks: int, shortcut: Callable[[int, int], nn.Module]
) -> nn.Module:
    if inputs == outputs:
        first = Block(inputs, outputs, 1, nn.Identity())
    else:
        first = Block(inputs, outputs, 2, shortcut(inputs, outputs))
    others = (Block(outputs, outputs, 1, nn.Identity()) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


def _resnet(
    depth: int,
    shortcut: Callable[[int, int], nn.Module],
    num_classes: int,
    in_shape: Shape,
) -> nn.Module:
    blocks = (depth - 2) // 6
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            stage1=_stage(16, 16, blocks, shortcut),
            stage2=_stage(16, 32, blocks, shortcut),
            stage3=_stage(32, 64, blocks, shortcut),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
