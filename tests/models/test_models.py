"""The shipped networks are those of the papers, to the parameter."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bench.graph.trace import layout_of
from bench.models import dropnet, lenet
from bench.training.network import about

Build = Callable[..., nn.Module]
MNIST = (1, 28, 28)


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lenet.lenet_300_100, 266_610),
        (lenet.lenet_5, 431_080),
        (dropnet.fc_40_40, 33_450),
        (dropnet.fc_20_20, 16_330),
        (dropnet.conv_64_64, 68_938),
    ],
)
def test_a_network_has_the_published_number_of_parameters(build: Build, parameters: int) -> None:
    model = build(10, MNIST)
    assert sum(p.numel() for p in model.parameters()) == parameters


def sizes(build: Build) -> dict[str, tuple[int, ...]]:
    return {n: tuple(p.shape) for n, p in build(10, MNIST).named_parameters() if p.dim() > 1}


@pytest.mark.parametrize(
    ("build", "first", "second"),
    [(dropnet.fc_40_40, 40, 40), (dropnet.fc_20_40, 20, 40), (dropnet.fc_40_20, 40, 20),
     (dropnet.fc_20_20, 20, 20)],
)  # fmt: skip
def test_model_a_has_the_widths_in_its_name(build: Build, first: int, second: int) -> None:
    assert sizes(build) == {
        "fc1.weight": (first, 784), "fc2.weight": (second, first), "fc3.weight": (10, second)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("build", "first", "second"),
    [(dropnet.conv_64_64, 64, 64), (dropnet.conv_32_64, 32, 64), (dropnet.conv_64_32, 64, 32),
     (dropnet.conv_20_20, 20, 20)],
)  # fmt: skip
def test_model_b_has_the_widths_in_its_name(build: Build, first: int, second: int) -> None:
    assert sizes(build) == {
        "conv1.weight": (first, 1, 3, 3), "conv2.weight": (second, first, 3, 3),
        "fc1.weight": (10, second * 49),
    }  # fmt: skip


ALL = [
    lenet.lenet_300_100, lenet.lenet_5, dropnet.fc_40_40, dropnet.fc_20_40, dropnet.fc_40_20,
    dropnet.fc_20_20, dropnet.conv_64_64, dropnet.conv_32_64, dropnet.conv_64_32,
    dropnet.conv_20_20,
]  # fmt: skip


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("classes", [10, 7])
def test_a_network_takes_its_pictures_and_gives_one_logit_per_class(
    build: Build, classes: int
) -> None:
    size = about(build).input_size or 20
    shape = (3, size, size)
    model = build(classes, shape)
    assert model(torch.rand(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("build", "units"),
    [
        (lenet.lenet_300_100, {"input:fc1": 784, "fc1": 300, "fc2": 100}),
        (lenet.lenet_5, {"conv1": 20, "conv2": 50, "input:fc1": 800, "fc1": 500}),
        (dropnet.conv_64_64, {"conv1": 64, "conv2": 64, "input:fc1": 3136}),
    ],
)
def test_the_units_of_a_network_are_found(build: Build, units: dict[str, int]) -> None:
    layout = layout_of(build(10, MNIST), torch.zeros(1, *MNIST))
    assert {site.name: site.size for site in layout.sites} == units


@pytest.mark.parametrize("build", ALL)
def test_two_networks_of_one_seed_are_equal(build: Build) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(10, MNIST).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
