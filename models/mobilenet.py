"""MobileNetV2 as torchvision has it.

Sandler et al., CVPR 2018 (arXiv 1801.04381).
"""

from torch import nn
from torchvision import models

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.05, batch_size=64, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=224)
def mobilenet_v2(num_classes: int, in_shape: Shape) -> nn.Module:
    """MobileNetV2 for 224x224 pictures; 3,504,872 parameters with 1,000 classes."""
    model: nn.Module = models.mobilenet_v2(weights=None, num_classes=num_classes)
    first = nn.Conv2d(in_shape[0], 32, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out")  # as torchvision draws the others
    model.set_submodule("features.0.0", first)
    return model
