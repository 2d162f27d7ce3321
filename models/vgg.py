"""VGG: for 32x32 pictures with BatchNorm and one linear layer, and as published for 224x224.

Simonyan & Zisserman, ICLR 2015 (arXiv 1409.1556), configurations D and E.
"""

from collections import OrderedDict

from torch import nn
from torchvision import models

from bench.api import Recipe, Shape, network

# Neither learning rate was held against half and double. With BatchNorm 0.1 was at chance on CIFAR-10
# after two epochs, and 0.05 had hardly begun to learn after 100 steps; 0.02 had.
_RECIPE_BN = Recipe(
    lr=0.02, batch_size=128, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)
_RECIPE = Recipe(
    lr=0.01, batch_size=64, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)
_WIDTHS = (64, 128, 256, 512, 512)


@network(recipe=_RECIPE_BN, input_size=32)
def vgg_16_bn(num_classes: int, in_shape: Shape) -> nn.Module:
    """VGG-16 with BatchNorm for 32x32 pictures; 14,728,266 parameters on CIFAR-10."""
    return _small((2, 2, 3, 3, 3), num_classes, in_shape)


@network(recipe=_RECIPE_BN, input_size=32)
def vgg_19_bn(num_classes: int, in_shape: Shape) -> nn.Module:
    """VGG-19 with BatchNorm for 32x32 pictures; 20,040,522 parameters on CIFAR-10."""
    return _small((2, 2, 4, 4, 4), num_classes, in_shape)


@network(recipe=_RECIPE, input_size=224)
def vgg_16(num_classes: int, in_shape: Shape) -> nn.Module:
    """VGG-16 for 224x224 pictures; 138,357,544 parameters with 1,000 classes."""
    model: nn.Module = models.vgg16(weights=None, num_classes=num_classes)
    model.set_submodule("features.0", _convolution(in_shape[0], 64))
    return model


def _small(depths: tuple[int, ...], num_classes: int, in_shape: Shape) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_shape[0]
    for group, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
        for i in range(1, depth + 1):
            layers[f"conv{group}_{i}"] = _convolution(channels, width)
            layers[f"bn{group}_{i}"] = nn.BatchNorm2d(width)
            layers[f"relu{group}_{i}"] = nn.ReLU()
            channels = width
        layers[f"pool{group}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution, drawn as torchvision draws VGG's."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
