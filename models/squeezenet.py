"""SqueezeNet 1.1 as torchvision has it.

Iandola et al. 2016 (arXiv 1602.07360).
"""

from torch import nn
from torchvision import models

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.05, batch_size=64, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=224)
def squeezenet(num_classes: int, in_shape: Shape) -> nn.Module:
    """SqueezeNet 1.1 for 224x224 pictures; 727,626 parameters on CIFAR-10."""
    model: nn.Module = models.squeezenet1_1(weights=None, num_classes=num_classes)
    first = nn.Conv2d(in_shape[0], 64, 3, stride=2)
    # As torchvision draws the other convolutions.
    nn.init.kaiming_uniform_(first.weight)
    assert first.bias is not None
    nn.init.zeros_(first.bias)
    model.set_submodule("features.0", first)
    return model
