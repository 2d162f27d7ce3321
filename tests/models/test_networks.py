"""The networks of the literature have its sizes, can be traced and start equal from one seed.

Sizes and shapes are checked on torch's meta device, which allocates and computes nothing.
"""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.models import (
    alexnet,
    cifar_resnet,
    dropnet,
    dropnet_deep,
    dropneuron,
    kh_mo,
    mobilenet,
    resnet,
    squeezenet,
    vgg,
)
from bench.training.network import About, about

Build = Callable[..., nn.Module]
FAMILIES = [
    alexnet, cifar_resnet, dropnet, dropnet_deep, dropneuron, kh_mo, mobilenet, resnet, squeezenet,
    vgg,
]  # fmt: skip
NETWORKS: list[Build] = [
    thing
    for family in FAMILIES
    for thing in vars(family).values()
    if isinstance(getattr(thing, "about", None), About)
]
HEAVY = {
    alexnet.alexnet, alexnet.alexnet_tflearn, mobilenet.mobilenet_v2, squeezenet.squeezenet,
    vgg.vgg_16, resnet.resnet_34, resnet.resnet_50, resnet.resnet_101, cifar_resnet.resnet_110,
    cifar_resnet.resnet_110_a,
}  # fmt: skip
COMPUTED = [
    pytest.param(build, marks=[pytest.mark.slow] if build in HEAVY else []) for build in NETWORKS
]


def shape_for(build: Build, channels: int) -> tuple[int, int, int]:
    size = about(build).input_size or 28
    return channels, size, size


def sketch(build: Build, classes: int = 10, channels: int = 3) -> nn.Module:
    """The network without numbers in it."""
    with torch.device("meta"):
        return build(classes, shape_for(build, channels)).eval()


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolutions_of(model: nn.Module) -> list[nn.Conv2d]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("build", "sizes"),  # gray with 10 classes; RGB with 10, 100 and 102
    [
        (resnet.resnet_18, (11_172_810, 11_173_962, 11_220_132, 11_221_158)),
        (resnet.resnet_34, (21_280_970, 21_282_122, 21_328_292, 21_329_318)),
        (resnet.resnet_50, (23_519_690, 23_520_842, 23_705_252, 23_709_350)),
        (resnet.resnet_101, (42_511_818, 42_512_970, 42_697_380, 42_701_478)),
        (alexnet.alexnet, (57_029_322, 57_044_810, 57_413_540, 57_421_734)),
        (squeezenet.squeezenet, (726_474, 727_626, 773_796, 774_822)),
    ],
)
def test_a_network_of_four_data_sets_has_the_published_sizes(
    build: Build, sizes: tuple[int, ...]
) -> None:
    data = [(10, 1), (10, 3), (100, 3), (102, 3)]
    assert tuple(parameters_of(sketch(build, *d)) for d in data) == sizes


@pytest.mark.parametrize(
    ("build", "classes", "channels", "parameters"),
    [
        (vgg.vgg_16, 1000, 3, 138_357_544),
        (mobilenet.mobilenet_v2, 1000, 3, 3_504_872),
        (dropnet.conv_64_64_128_128, 10, 3, 394_058),
        (dropnet_deep.dropnet_resnet_18, 10, 3, 12_545_418),
        (dropnet_deep.dropnet_vgg_19, 10, 3, 20_161_226),
        (kh_mo.lenet_5_khmo, 10, 1, 29_456),
        (kh_mo.scnn, 10, 1, 50_270),
        (kh_mo.lenet_khmo, 10, 1, 61_610),
        # 1,610,752 weights in the two linear layers, 52,000 in the convolutions, and the biases
        (dropneuron.dropneuron_lenet_5, 10, 1, 1_610_752 + 52_000 + 32 + 64 + 512 + 10),
        (dropneuron.dropneuron_convnet, 10, 1, 1_610_752 + 52_000 + 32 + 64 + 512 + 10),
    ],
)
def test_a_network_has_the_published_number_of_parameters(
    build: Build, classes: int, channels: int, parameters: int
) -> None:
    assert parameters_of(sketch(build, classes, channels)) == parameters


def layer(inputs: int, outputs: int, kernel: int = 1) -> int:
    """Parameters of a convolution or linear layer with a bias."""
    return (inputs * kernel**2 + 1) * outputs


@pytest.mark.parametrize(
    ("build", "depths", "known"),
    [
        (vgg.vgg_16_bn, (2, 2, 3, 3, 3), 14_728_266),
        (vgg.vgg_19_bn, (2, 2, 4, 4, 4), 20_040_522),
    ],
)
def test_a_small_vgg_has_its_convolutions_their_norms_and_one_linear_layer(
    build: Build, depths: tuple[int, ...], known: int
) -> None:
    widths = [w for w, n in zip((64, 128, 256, 512, 512), depths, strict=True) for _ in range(n)]
    inputs = [3, *widths[:-1]]
    convolutions = sum(layer(i, o, 3) + 2 * o for i, o in zip(inputs, widths, strict=True))
    assert parameters_of(sketch(build)) == convolutions + layer(512, 10) == known


def test_tflearns_alexnet_has_the_parameters_of_its_eight_layers() -> None:
    convolutions = (
        layer(3, 96, 11) + layer(96, 256, 5) + layer(256, 384, 3) + layer(384, 384, 3)
        + layer(384, 256, 3)
    )  # fmt: skip
    # "Same" padding: 227 pixels become 57, 29, 15 and 8, each half the last, rounded up.
    linear = layer(256 * 8 * 8, 4096) + layer(4096, 4096) + layer(4096, 17)
    assert parameters_of(sketch(alexnet.alexnet_tflearn, 17)) == convolutions + linear == 87_711_121


@pytest.mark.parametrize(
    ("depth", "build", "padded", "macs"),
    [
        (20, cifar_resnet.resnet_20, cifar_resnet.resnet_20_a, 40_551_040),
        (32, cifar_resnet.resnet_32, cifar_resnet.resnet_32_a, 68_862_592),
        (56, cifar_resnet.resnet_56, cifar_resnet.resnet_56_a, 125_485_696),
        (110, cifar_resnet.resnet_110, cifar_resnet.resnet_110_a, 252_887_680),
    ],
)
def test_a_resnet_for_cifar_has_6n_plus_2_layers_and_the_known_macs(
    depth: int, build: Build, padded: Build, macs: int
) -> None:
    stem, classifier = 3 * 16 * 9 + 2 * 16, layer(64, 10)
    doubled = depth // 6 * 2  # convolutions of a stage, the one that doubles the width included
    stages = sum(
        c * before * 9 + (doubled - 1) * c * c * 9 + doubled * 2 * c
        for before, c in ((16, 16), (16, 32), (32, 64))
    )
    plain, projected = sketch(padded), sketch(build)
    assert len(convolutions_of(plain)) + 1 == depth
    assert parameters_of(plain) == stem + stages + classifier
    assert parameters_of(projected) == parameters_of(plain) + 16 * 32 + 64 + 32 * 64 + 128
    assert macs_of(plain, padded) == macs
    assert macs_of(projected, build) == macs + 16 * 32 * 16 * 16 + 32 * 64 * 8 * 8


def macs_of(model: nn.Module, build: Build) -> float:
    picture = torch.zeros(1, *shape_for(build, 3), device="meta")
    with FlopCounterMode(display=False) as counter:
        model(picture)
    return float(counter.get_total_flops()) / 2


@pytest.mark.parametrize(
    ("build", "classes", "low", "high"),
    [
        (resnet.resnet_18, 10, 555.4e6, 556.7e6),
        (mobilenet.mobilenet_v2, 1000, 300.75e6, 300.85e6),
        (dropnet_deep.dropnet_resnet_18, 10, 152.75e6, 152.85e6),
    ],
)
def test_a_network_has_the_published_macs(
    build: Build, classes: int, low: float, high: float
) -> None:
    assert low <= macs_of(sketch(build, classes), build) <= high


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_gives_one_logit_per_class_in_gray_and_in_colour(
    build: Build, channels: int
) -> None:
    pictures = torch.zeros(2, *shape_for(build, channels), device="meta")
    assert sketch(build, 7, channels)(pictures).shape == (2, 7)


@pytest.mark.parametrize("build", COMPUTED)
def test_a_network_traced_symbolically_computes_the_same(build: Build) -> None:
    model = build(10, shape_for(build, 1)).eval()
    pictures = torch.rand(2, *shape_for(build, 1))
    with torch.no_grad():
        logits = model(pictures)
        traced = torch.fx.symbolic_trace(model)(pictures)
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all()) and torch.equal(traced, logits)


@pytest.mark.parametrize("build", COMPUTED)
def test_two_networks_of_one_seed_are_equal(build: Build) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(10, shape_for(build, 1)).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize(
    ("build", "original", "first"),
    [
        (resnet.resnet_18, "resnet18", "conv1.weight"),
        (resnet.resnet_34, "resnet34", "conv1.weight"),
        (resnet.resnet_50, "resnet50", "conv1.weight"),
        (resnet.resnet_101, "resnet101", "conv1.weight"),
        (vgg.vgg_16, "vgg16", None),
        (alexnet.alexnet, "alexnet", None),
        (squeezenet.squeezenet, "squeezenet1_1", None),
        (mobilenet.mobilenet_v2, "mobilenet_v2", None),
    ],
)
def test_a_network_of_torchvision_keeps_its_names_and_shapes(
    build: Build, original: str, first: str | None
) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(original, weights=None, num_classes=10)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    ours = {name: value.shape for name, value in sketch(build).state_dict().items()}
    if first is not None:
        assert expected[first] == (64, 3, 7, 7)
        expected[first] = torch.Size((64, 3, 3, 3))
    assert ours == expected


@pytest.mark.parametrize(
    ("build", "count", "filters"),
    [
        (dropnet_deep.dropnet_resnet_18, 20, 4800),
        (dropnet_deep.dropnet_vgg_19, 16, 5504),
        (dropnet.conv_64_64_128_128, 4, 384),
        (dropnet.conv_128_128_256_256, 4, 768),
        (dropnet.conv_128_128_128_128, 4, 512),
        (dropnet.conv_128_128_64_64, 4, 384),
    ],
)
def test_dropnets_networks_have_the_papers_filters(build: Build, count: int, filters: int) -> None:
    convolutions = convolutions_of(sketch(build))
    assert len(convolutions) == count
    assert sum(c.out_channels for c in convolutions) == filters
    assert all(c.kernel_size == (3, 3) and c.stride == (1, 1) for c in convolutions)


@pytest.mark.parametrize(
    ("build", "widths"),
    [
        (dropnet.conv_64_64_128_128, [64, 64, 128, 128]),
        (dropnet.conv_128_128_256_256, [128, 128, 256, 256]),
        (dropnet.conv_128_128_128_128, [128, 128, 128, 128]),
        (dropnet.conv_128_128_64_64, [128, 128, 64, 64]),
    ],
)
def test_model_c_has_the_widths_in_its_name(build: Build, widths: list[int]) -> None:
    assert [c.out_channels for c in convolutions_of(sketch(build))] == widths


def test_dropnets_vgg_normalises_after_the_last_relu_of_each_group() -> None:
    layers = dict(sketch(dropnet_deep.dropnet_vgg_19).named_children())
    names = list(layers)
    for group, last in enumerate((2, 2, 4, 4, 4), start=1):
        at = names.index(f"bn{group}")
        assert names[at - 1] == f"relu{group}_{last}" and names[at + 1] == f"pool{group}"
    norms = [m for m in layers.values() if isinstance(m, nn.BatchNorm2d)]
    assert [n.num_features for n in norms] == [64, 128, 256, 512, 512]


@pytest.mark.parametrize("build", NETWORKS)
def test_a_network_says_in_one_line_what_it_is(build: Build) -> None:
    summary = (build.__doc__ or "").partition("\n")[0]
    assert summary.endswith(".") and len(summary) <= 100
