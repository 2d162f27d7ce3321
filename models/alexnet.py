"""AlexNet as torchvision has it, and as TFLearn has it (DropNeuron's network for Oxford flowers).

Krizhevsky et al., NIPS 2012; Krizhevsky 2014 (arXiv 1404.5997) for torchvision's.
"""

from collections import OrderedDict

from torch import nn
from torchvision import models

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.01, batch_size=64, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=224)
def alexnet(num_classes: int, in_shape: Shape) -> nn.Module:
    """AlexNet for 224x224 pictures, torchvision's; 57,044,810 parameters on CIFAR-10."""
    model: nn.Module = models.alexnet(weights=None, num_classes=num_classes)
    first = nn.Conv2d(in_shape[0], 64, 11, stride=4, padding=2)
    model.set_submodule("features.0", first)
    return model


@network(recipe=_RECIPE, input_size=227)
def alexnet_tflearn(num_classes: int, in_shape: Shape) -> nn.Module:
    """AlexNet for 227x227 pictures, TFLearn's, tanh in its head; 87,711,121 parameters with 17 classes."""
    # At 227 pixels, TensorFlow's "same" padding is equal on all sides: 57, 29, 15, 8 pixels.
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], 96, 11, stride=4, padding=4),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, 2, padding=1),
            norm1=_normalisation(),
            conv2=nn.Conv2d(96, 256, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, 2, padding=1),
            norm2=_normalisation(),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, 2, padding=1),
            norm5=_normalisation(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(256 * 8 * 8, 4096),
            tanh1=nn.Tanh(),
            dropout1=nn.Dropout(0.5),
            fc2=nn.Linear(4096, 4096),
            tanh2=nn.Tanh(),
            dropout2=nn.Dropout(0.5),
            fc3=nn.Linear(4096, num_classes),
        )
    )


def _normalisation() -> nn.Module:
    """Return TensorFlow's normalisation: 5 channels on either side; alpha is not divided by their number."""
    return nn.LocalResponseNorm(11, alpha=11 * 1e-4, beta=0.75, k=1.0)
