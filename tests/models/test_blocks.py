"""What the blocks of our own networks compute, and how initial weights are drawn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.models import (
    alexnet,
    cifar_resnet,
    dropnet,
    dropnet_deep,
    dropneuron,
    mobilenet,
    resnet,
    squeezenet,
    vgg,
)

Build = Callable[..., nn.Module]
CIFAR = (3, 32, 32)


@pytest.mark.parametrize(
    ("build", "name", "std", "has_bias"),
    [
        (resnet.resnet_18, "conv1", (2 / (64 * 9)) ** 0.5, False),
        (cifar_resnet.resnet_20, "stage3.0.conv1", (2 / (64 * 9)) ** 0.5, False),
        (vgg.vgg_16_bn, "conv1_1", (2 / (64 * 9)) ** 0.5, True),
        (squeezenet.squeezenet, "features.0", (2 / (3 * 9)) ** 0.5, True),
        (mobilenet.mobilenet_v2, "features.0.0", (2 / (32 * 9)) ** 0.5, False),
        (dropnet.conv_64_64_128_128, "conv1", (2 / ((3 + 64) * 9)) ** 0.5, True),
        (dropnet.conv_64_64_128_128, "fc1", (2 / (512 + 256)) ** 0.5, True),
        (dropnet_deep.dropnet_resnet_18, "stage2.block1.shortcut.conv", (2 / 1728) ** 0.5, True),
        (dropnet_deep.dropnet_vgg_19, "fc1", (2 / (512 + 256)) ** 0.5, True),
    ],
)
def test_initial_weights_have_the_spread_of_their_scheme_and_biases_are_zero(
    build: Build, name: str, std: float, has_bias: bool
) -> None:
    torch.manual_seed(0)
    module: Any = build(10, CIFAR).get_submodule(name)
    assert float(module.weight.detach().std()) == pytest.approx(std, rel=0.08)
    assert (module.bias is not None) == has_bias
    assert not has_bias or not module.bias.any()


def test_option_a_takes_every_second_pixel_between_channels_of_zeros() -> None:
    x = torch.randn(2, 16, 8, 8)
    expected = torch.zeros(2, 32, 4, 4)
    for channel in range(16):
        for row in range(4):
            for column in range(4):
                expected[:, 8 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    model = cifar_resnet.resnet_20_a(10, CIFAR)
    assert torch.equal(model.get_submodule("stage2.0.shortcut")(x), expected)


@pytest.mark.parametrize("name", ["stage1.0", "stage2.0", "stage2.1", "stage3.0"])
@pytest.mark.parametrize("build", [cifar_resnet.resnet_20, cifar_resnet.resnet_20_a])
def test_a_block_of_cifars_resnet_adds_its_shortcut_before_the_last_relu(
    build: Build, name: str
) -> None:
    block: Any = build(10, CIFAR).get_submodule(name)
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    nn.init.zeros_(block.conv2.weight)  # the branch adds nothing
    assert torch.equal(block(x), block.shortcut(x).clamp(min=0))


@pytest.mark.parametrize("name", ["stage1.block1", "stage2.block1", "stage4.block2"])
def test_a_block_of_dropnets_resnet_adds_two_relus_and_none_after(name: str) -> None:
    block: Any = dropnet_deep.dropnet_resnet_18(10, CIFAR).get_submodule(name)
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    branch = block.conv2(block.conv1(x).clamp(min=0)).clamp(min=0)
    shortcut = block.shortcut.conv(x).clamp(min=0) if name == "stage2.block1" else x
    assert torch.equal(block(x), branch + shortcut)


@pytest.mark.parametrize(
    ("build", "std", "biases"),
    [
        (dropneuron.dropneuron_lenet_5, 0.01, None),
        (dropneuron.dropneuron_convnet, 0.1, {"conv1": 0.0, "conv2": 0.1, "fc1": 0.1, "fc2": 0.1}),
    ],
)
def test_dropneurons_networks_are_drawn_within_two_standard_deviations(
    build: Build, std: float, biases: dict[str, float] | None
) -> None:
    torch.manual_seed(0)
    for name, value in build(10, (1, 28, 28)).state_dict().items():
        place, _, kind = name.partition(".")
        if biases is not None and kind == "bias":
            assert bool((value == biases[place]).all())
            continue
        assert 0 < float(value.abs().max()) <= 2 * std
        if value.numel() > 1000:  # cut at two, a normal keeps 0.88 of its standard deviation
            assert float(value.std()) == pytest.approx(0.88 * std, rel=0.05)


def test_tflearns_normalisation_divides_by_eleven_neighbouring_channels() -> None:
    with torch.device("meta"):
        norm = alexnet.alexnet_tflearn(17, (3, 227, 227)).get_submodule("norm1")
    x = torch.rand(1, 20, 2, 2, dtype=torch.float64) * 100
    expected: list[Tensor] = []
    for channel in range(20):
        around = x[:, max(0, channel - 5) : channel + 6]
        expected.append(x[:, channel] / (1 + 1e-4 * around.square().sum(1)) ** 0.75)
    torch.testing.assert_close(norm(x), torch.stack(expected, 1))
