"""DropNeuron's networks: for regression, autoencoding, and MNIST dense and convolutional.

Pan, Dong & Guo 2016 (arXiv 1606.07326); sizes and initial weights are those of the released scripts.
"""

import math
from collections import OrderedDict
from dataclasses import replace

from torch import Tensor, nn

from bench.api import Recipe, Shape, network

# Neither learning rate was held against half and double over several seeds. From the wide draw of
# the ConvNet, 0.025 ends at chance.
_RECIPE_NARROW = Recipe(lr=0.025)
_RECIPE_WIDE = Recipe(lr=0.005)


@network(recipe=_RECIPE_NARROW, input_size=28)
def dropneuron_lenet_5(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNeuron's LeNet-5-like network, drawn narrowly (0.01); 1,663,370 parameters on MNIST."""
    model = _layers(num_classes, in_shape)
    for parameter in model.parameters():  # biases too
        _truncated_normal(parameter, 0.01)
    return model


@network(recipe=_RECIPE_WIDE, input_size=28)
def dropneuron_convnet(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNeuron's ConvNet, drawn as TensorFlow's tutorial did (0.1); 1,663,370 parameters on MNIST."""
    model = _layers(num_classes, in_shape)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            _truncated_normal(parameter, 0.1)
        else:
            nn.init.constant_(parameter, 0.0 if name == "conv1.bias" else 0.1)
    return model


# The released scripts' training, but for the order of images: Adam, constant rate, no weight decay.
_ADAM = Recipe(
    optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant", batch_size=256,
    epochs=100, full_epochs=100,
)  # fmt: skip


@network(recipe=replace(_ADAM, batch_size=1))
def dropneuron_regression(num_outputs: int, in_shape: Shape) -> nn.Module:
    """DropNeuron's linear network for sparse regression: 5 hidden units, drawn widely (1); 111 parameters."""
    return _drawn(1.0, fc1=nn.Linear(math.prod(in_shape), 5), fc2=nn.Linear(5, num_outputs))


@network(recipe=replace(_ADAM, epochs=50, full_epochs=50))
def dropneuron_autoencoder(num_outputs: int, in_shape: Shape) -> nn.Module:
    """DropNeuron's autoencoder 784-128-64-128-784, sigmoid, drawn widely (1); 218,192 parameters on MNIST."""
    return _drawn(
        1.0,
        encode1=nn.Linear(math.prod(in_shape), 128),
        sigmoid1=nn.Sigmoid(),
        encode2=nn.Linear(128, 64),
        sigmoid2=nn.Sigmoid(),
        decode1=nn.Linear(64, 128),
        sigmoid3=nn.Sigmoid(),
        decode2=nn.Linear(128, num_outputs),
        sigmoid4=nn.Sigmoid(),
    )


@network(recipe=_ADAM)
def dropneuron_lenet_300_100(num_classes: int, in_shape: Shape) -> nn.Module:
    """LeNet-300-100 as DropNeuron draws and trains it (0.01, Adam); 266,610 parameters on MNIST."""
    return _drawn(
        0.01,
        fc1=nn.Linear(math.prod(in_shape), 300),
        relu1=nn.ReLU(),
        fc2=nn.Linear(300, 100),
        relu2=nn.ReLU(),
        fc3=nn.Linear(100, num_classes),
    )


def _drawn(std: float, **layers: nn.Module) -> nn.Module:
    """Build a chain on flattened images whose weights and biases are all N(0, std^2)."""
    model = nn.Sequential(OrderedDict(flatten=nn.Flatten(), **layers))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model


def _layers(num_classes: int, in_shape: Shape) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * 7 * 7, 512),
            relu3=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            fc2=nn.Linear(512, num_classes),
        )
    )


def _truncated_normal(parameter: Tensor, std: float) -> None:
    """Draw as TensorFlow does: nothing beyond two standard deviations."""
    nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)
