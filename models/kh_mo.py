"""The three small networks of the kh-mo/research collection, for MNIST and Fashion-MNIST."""

from collections import OrderedDict

from torch import nn

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(lr=0.025)


@network(recipe=_RECIPE, input_size=28)
def lenet_5_khmo(num_classes: int, in_shape: Shape) -> nn.Module:
    """The LeNet-5 of kh-mo/research: 6 and 6 3x3 filters, 128 units; 29,456 parameters on MNIST."""
    features = _features(
        nn.Conv2d(in_shape[0], 6, 3), nn.Conv2d(6, 6, 3), nn.MaxPool2d(2, padding=1)
    )
    return nn.Sequential(features | _classifier(6 * 6 * 6, 128, num_classes))


@network(recipe=_RECIPE, input_size=28)
def scnn(num_classes: int, in_shape: Shape) -> nn.Module:
    """The SCNN of kh-mo/research: 6 and 16 3x3 filters, 120 units; 50,270 parameters on MNIST."""
    features = _features(nn.Conv2d(in_shape[0], 6, 3), nn.Conv2d(6, 16, 3), nn.MaxPool2d(2))
    return nn.Sequential(features | _classifier(16 * 5 * 5, 120, num_classes))


@network(recipe=_RECIPE, input_size=28)
def lenet_khmo(num_classes: int, in_shape: Shape) -> nn.Module:
    """The LeNet of kh-mo/research: 6 3x3 and 16 5x5 filters, 120 and 84 units; 61,610 parameters on MNIST."""
    features = _features(
        nn.Conv2d(in_shape[0], 6, 3, padding=1), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
    )
    return nn.Sequential(features | _classifier(16 * 5 * 5, 120, 84, num_classes))


def _features(conv1: nn.Module, conv2: nn.Module, pool2: nn.Module) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=conv1,
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=conv2,
        relu2=nn.ReLU(),
        pool2=pool2,
        flatten=nn.Flatten(),
    )


def _classifier(*sizes: int) -> OrderedDict[str, nn.Module]:
    """Build linear layers between the given sizes, Dropout before each, ReLU after all but the last."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
        if i > 1:
            layers[f"relu{i + 1}"] = nn.ReLU()
        layers[f"dropout{i}"] = nn.Dropout(0.5)
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
    return layers
