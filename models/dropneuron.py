"""DropNeuron's two convolutional networks for MNIST: one shape, two ways to draw its weights.

Pan, Dong & Guo 2016 (arXiv 1606.07326); sizes and initial weights are those of the released scripts.
"""

from collections import OrderedDict

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
