"""The small networks of the DropNet paper (Tan & Motani, ICML 2020): models A, B and C."""

from collections import OrderedDict

from torch import nn

from bench.api import Recipe, Shape, network

_RECIPE_A = Recipe(lr=0.05)
_RECIPE_B = Recipe(lr=0.025)
_RECIPE_C = Recipe(lr=0.025)  # not held against half and double


@network(recipe=_RECIPE_A)
def fc_40_40(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model A: two hidden layers of 40 units; 33,450 parameters on MNIST."""
    return _fc(40, 40, num_classes, in_shape)


@network(recipe=_RECIPE_A)
def fc_20_40(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model A with 20 and 40 units."""
    return _fc(20, 40, num_classes, in_shape)


@network(recipe=_RECIPE_A)
def fc_40_20(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model A with 40 and 20 units."""
    return _fc(40, 20, num_classes, in_shape)


@network(recipe=_RECIPE_A)
def fc_20_20(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model A with 20 and 20 units; 16,330 parameters on MNIST."""
    return _fc(20, 20, num_classes, in_shape)


@network(recipe=_RECIPE_B, input_size=28)
def conv_64_64(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model B: two 3x3 layers of 64 filters; 68,938 parameters on MNIST."""
    return _conv(64, 64, num_classes, in_shape)


@network(recipe=_RECIPE_B, input_size=28)
def conv_32_64(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model B with 32 and 64 filters."""
    return _conv(32, 64, num_classes, in_shape)


@network(recipe=_RECIPE_B, input_size=28)
def conv_64_32(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model B with 64 and 32 filters."""
    return _conv(64, 32, num_classes, in_shape)


@network(recipe=_RECIPE_B, input_size=28)
def conv_20_20(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model B with 20 and 20 filters."""
    return _conv(20, 20, num_classes, in_shape)


@network(recipe=_RECIPE_C, input_size=32)
def conv_64_64_128_128(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model C: four 3x3 layers of 64, 64, 128, 128 filters; 394,058 parameters on CIFAR-10."""
    return _four_conv((64, 64, 128, 128), num_classes, in_shape)


@network(recipe=_RECIPE_C, input_size=32)
def conv_128_128_256_256(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model C with 128, 128, 256 and 256 filters."""
    return _four_conv((128, 128, 256, 256), num_classes, in_shape)


@network(recipe=_RECIPE_C, input_size=32)
def conv_128_128_128_128(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model C with 128 filters in every layer."""
    return _four_conv((128, 128, 128, 128), num_classes, in_shape)


@network(recipe=_RECIPE_C, input_size=32)
def conv_128_128_64_64(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's model C with 128, 128, 64 and 64 filters."""
    return _four_conv((128, 128, 64, 64), num_classes, in_shape)


def _fc(first: int, second: int, num_classes: int, in_shape: Shape) -> nn.Module:
    channels, height, width = in_shape
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * height * width, first),
            relu1=nn.ReLU(),
            fc2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            fc3=nn.Linear(second, num_classes),
        )
    )


def _conv(first: int, second: int, num_classes: int, in_shape: Shape) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], first, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * 7 * 7, num_classes),
        )
    )


def _four_conv(widths: tuple[int, ...], num_classes: int, in_shape: Shape) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_shape[0]
    for i, width in enumerate(widths, start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 3, padding=1)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        channels = width
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * 2 * 2, 256)
    layers["relu5"] = nn.ReLU()
    layers["fc2"] = nn.Linear(256, num_classes)
    for layer in layers.values():  # drawn as Keras does, which the paper's results rest on
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)
