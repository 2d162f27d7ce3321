"""The two LeNets of the pruning literature."""

from collections import OrderedDict

from torch import nn

from bench.api import Recipe, Shape, network


@network(recipe=Recipe(lr=0.1))
def lenet_300_100(num_classes: int, in_shape: Shape) -> nn.Module:
    """LeNet-300-100: hidden layers of 300 and 100 ReLU units; 266,610 parameters on MNIST."""
    channels, height, width = in_shape
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * height * width, 300),
            relu1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            fc3=nn.Linear(100, num_classes),
        )
    )


@network(recipe=Recipe(lr=0.025), input_size=28)
def lenet_5(num_classes: int, in_shape: Shape) -> nn.Module:
    """LeNet-5 as Caffe has it: 20 and 50 5x5 filters, 500 units; 431,080 parameters on MNIST."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_shape[0], 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, num_classes),
        )
    )
