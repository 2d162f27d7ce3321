"""The deep networks of the DropNet paper (Tan & Motani, ICML 2020): its ResNet18 and VGG19.

Built as the released code builds them: the paper's figure draws fewer layers.
"""

from collections import OrderedDict

from torch import Tensor, nn

from bench.api import Recipe, Shape, network

# The learning rate was not held against half and double.
_RECIPE = Recipe(
    lr=0.01, batch_size=128, weight_decay=5e-4, epochs=30, full_epochs=200, precision="bf16"
)


@network(recipe=_RECIPE, input_size=32)
def dropnet_resnet_18(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's ResNet18, without BatchNorm or strides; 12,545,418 parameters on CIFAR-10."""
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], 64, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            stage1=_stage(64, 64),
            pool2=nn.MaxPool2d(2),
            stage2=_stage(64, 128),
            pool3=nn.MaxPool2d(2),
            stage3=_stage(128, 256),
            pool4=nn.MaxPool2d(2),
            stage4=_stage(256, 512),
            pool5=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(512, num_classes),
        )
    )
    return _drawn_as_keras_does(model)


@network(recipe=_RECIPE, input_size=32)
def dropnet_vgg_19(num_classes: int, in_shape: Shape) -> nn.Module:
    """DropNet's VGG19, BatchNorm at the end of each group; 20,161,226 parameters on CIFAR-10."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_shape[0]
    groups = [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)]
    for group, (width, depth) in enumerate(groups, start=1):
        for i in range(1, depth + 1):
            layers[f"conv{group}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
            layers[f"relu{group}_{i}"] = nn.ReLU()
            channels = width
        layers[f"bn{group}"] = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)  # Keras's defaults
        layers[f"pool{group}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels, 256)
    layers["relu1"] = nn.ReLU()
    layers["fc2"] = nn.Linear(256, num_classes)
    return _drawn_as_keras_does(nn.Sequential(layers))


class Block(nn.Module):
    """Two 3x3 convolutions with a ReLU each, added to the shortcut; nothing follows the addition."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Identity() if inputs == outputs else _widened(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.conv1(x))
        out: Tensor = self.relu2(self.conv2(inner)) + self.shortcut(x)
        return out


def _widened(inputs: int, outputs: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(OrderedDict(conv=convolution, relu=nn.ReLU()))


def _stage(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(OrderedDict(block1=Block(inputs, outputs), block2=Block(outputs, outputs)))


def _drawn_as_keras_does(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model
