"""Torchvision's ResNets with a stem for 32x32 pictures: a 3x3 convolution and no pooling.

He et al., CVPR 2016 (arXiv 1512.03385); the stride of a bottleneck sits in its 3x3 convolution.
"""

from torch import nn
from torchvision import models

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.1, batch_size=128, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=32)
def resnet_18(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-18 for 32x32 pictures; 11,173,962 parameters on CIFAR-10."""
    return _with_small_stem(models.resnet18(weights=None, num_classes=num_classes), in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_34(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-34 for 32x32 pictures; 21,282,122 parameters on CIFAR-10."""
    return _with_small_stem(models.resnet34(weights=None, num_classes=num_classes), in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_50(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-50 for 32x32 pictures; 23,520,842 parameters on CIFAR-10."""
    return _with_small_stem(models.resnet50(weights=None, num_classes=num_classes), in_shape)


@network(recipe=_RECIPE, input_size=32)
def resnet_101(num_classes: int, in_shape: Shape) -> nn.Module:
    """ResNet-101 for 32x32 pictures; 42,512,970 parameters on CIFAR-10."""
    return _with_small_stem(models.resnet101(weights=None, num_classes=num_classes), in_shape)


def _with_small_stem(model: nn.Module, in_shape: Shape) -> nn.Module:
    stem = nn.Conv2d(in_shape[0], 64, 3, padding=1, bias=False)
    # As torchvision draws the other convolutions.
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule("conv1", stem)
    model.set_submodule("maxpool", nn.Identity())
    return model
