"""Removal against torch-pruning where that is right, its traps where it is not, published figures."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_pruning as tp
import torchvision
from branching_networks import Grouped, Inverted, OptionA, Parted, Residual, conv
from removal_checks import drawn, elements, error, lively, masked_copy, multiply_adds
from tiers import slow
from torch import Tensor, nn
from torch.nn import functional as F

from bench.graph.count import count, count_effective, output_side_share
from bench.graph.cut import compact
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.models.cifar_resnet import resnet_20, resnet_20_a, resnet_56_a
from bench.models.resnet import resnet_18
from bench.models.vgg import vgg_16_bn
from bench.plan.registry import Registry

Build = Callable[[], nn.Module]


def cut_by_torch_pruning(
    model: nn.Module, layout: Layout, masks: dict[str, Tensor], x: Tensor
) -> nn.Module:
    model = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(model, (x,))
    for name, mask in masks.items():
        gone = (~mask).nonzero().flatten().tolist()
        root = model.get_submodule(layout.site(name).module)
        prune = (
            tp.prune_linear_out_channels
            if isinstance(root, nn.Linear)
            else tp.prune_conv_out_channels
        )
        if gone:
            graph.get_pruning_group(root, prune, idxs=gone).prune()
    return model


def cifar(build: Any) -> Build:
    def made() -> nn.Module:
        model: nn.Module = build(10, (3, 32, 32))
        return model

    return made


ORACLE = [
    pytest.param(Residual, 1, 8, id="Residual"),
    pytest.param(Inverted, 1, 8, id="Inverted"),
    pytest.param(cifar(resnet_20), 3, 32, id="resnet-20"),
    *(
        pytest.param(getattr(torchvision.models, n), 3, 64, id=n, marks=pytest.mark.slow)
        for n in ("resnet18", "resnet50", "mobilenet_v2", "vgg11_bn")
    ),
]


@pytest.mark.parametrize(("build", "channels", "side"), ORACLE)
def test_a_tied_network_is_torch_prunings_tensor_for_tensor(
    build: Build, channels: int, side: int
) -> None:
    torch.manual_seed(2)
    model = lively(build())
    x = torch.randn(2, channels, side, side, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    masks = drawn(layout, 5, inputs=False)
    theirs = cut_by_torch_pruning(model, layout, masks, x).eval()
    ours = compact(masked_copy(model, layout, masks), layout, masks)
    expected, found = theirs.state_dict(), ours.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert error(ours, theirs, x) <= 1e-12


# -- traps of torch-pruning ------------------------------------------------------------------------


def test_torch_pruning_leaves_the_model_in_eval_mode_and_we_do_not() -> None:
    model = Residual().train()
    x = torch.randn(2, 1, 8, 8)
    tp.DependencyGraph().build_dependency(model, (x,))
    assert not model.training
    model = Residual().train()
    model.a.eval()
    layout = layout_of(model, x[:1])
    masks = drawn(layout, 0)
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert masked.training and smaller.training
    assert not masked.a[1].training and not smaller.get_submodule("a.1").training
    assert smaller.get_submodule("b.1").training


def test_gradients_need_not_be_on() -> None:
    model = lively(Residual())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        layout = layout_of(model, x[:1])
        masks = drawn(layout, 0)
        masked = masked_copy(model, layout, masks)
        assert error(compact(masked, layout, masks), masked, x) <= 1e-12
    with torch.inference_mode():
        assert compact(masked, layout, masks)(x).shape == (2, 4)


def test_torch_pruning_forgets_what_does_not_learn_and_we_do_not() -> None:
    model = lively(Residual())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for parameter in (*model.a.parameters(), *model.head.parameters()):
        parameter.requires_grad = False
    layout = layout_of(model, x[:1])
    masks = drawn(layout, 5, inputs=False)
    theirs = cut_by_torch_pruning(model, layout, masks, x)
    assert any(p.requires_grad for p in theirs.a.parameters())
    ours = compact(masked_copy(model, layout, masks), layout, masks)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == before


class Padded(nn.Module):
    """A stage whose shortcut pads channels on both sides (option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.b = conv(1, 4), conv(4, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.b(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_padded_channels_are_shifted_there_and_right_here() -> None:
    torch.manual_seed(0)
    model = lively(Padded())
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    # The filter of the stem, and what torch-pruning believes to be the same channel of b.
    masks = {"stem.0": torch.tensor([False, True, True, True]), "b.0": torch.ones(8).bool()}
    masked = masked_copy(model, layout, masks)
    assert error(compact(masked, layout, masks), masked, x) <= 1e-12
    theirs = cut_by_torch_pruning(model, layout, {"stem.0": masks["stem.0"]}, x).eval()
    try:
        wrong = error(theirs, masked, x)
    except RuntimeError:  # the channels no longer fit together
        wrong = float("inf")
    assert wrong > 1e-3


@pytest.mark.parametrize("build", [OptionA, cifar(resnet_20_a)])
@pytest.mark.parametrize("coupling", ["tied", "branch"])
def test_option_a_is_exact(build: Build, coupling: Any) -> None:
    torch.manual_seed(0)
    model = lively(build())
    channels, side = (1, 8) if build is OptionA else (3, 32)
    x = torch.randn(2, channels, side, side, dtype=torch.float64)
    layout = layout_of(model, x[:1], coupling)
    for seed in range(4):
        masks = drawn(layout, seed)
        masked = masked_copy(model, layout, masks)
        assert error(compact(masked, layout, masks), masked, x) <= 1e-12


class Sliced(nn.Module):
    """Sizes written into forward: a split at channel 5, and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(1, 8), conv(5, 4), conv(3, 4)
        self.head = nn.Linear(4 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.split(F.relu(self.a(x)), [5, 3], dim=1)
        return self.head(F.relu(self.b(first) + self.c(second)).view(-1, 4 * 64))


@pytest.mark.parametrize("build", [Sliced, Parted])
def test_sizes_in_forward_follow(build: Build) -> None:
    torch.manual_seed(0)
    model = lively(build())
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for coupling in ("tied", "branch"):
        layout = layout_of(model, x[:1], coupling)
        assert {s.name for s in layout.sites} > {"a.0"}
        for seed in range(6):
            masks = drawn(layout, seed)
            masked = masked_copy(model, layout, masks)
            assert error(compact(masked, layout, masks), masked, x) <= 1e-12


def test_groups_stay_equal_and_depthwise_filters_go_with_their_inputs() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    grouped = lively(Grouped())
    layout = layout_of(grouped, x[:1])
    masks = drawn(layout, 1)
    masked = masked_copy(grouped, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= 1e-12
    assert smaller.get_submodule("b.0").groups == 2
    assert smaller.get_submodule("b.0").weight.shape == grouped.b[0].weight.shape
    depthwise = lively(Inverted())
    layout = layout_of(depthwise, x[:1])
    masks = drawn(layout, 1)
    left = int(masks["expand.0"].sum())
    assert left < 9
    masked = masked_copy(depthwise, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= 1e-12
    layer = smaller.get_submodule("depthwise")
    assert (layer.groups, layer.in_channels, layer.out_channels) == (left,) * 3
    assert layer.weight.shape == (left, 1, 3, 3)


# -- figures of the papers -------------------------------------------------------------------------


def share_dropped(layout: Layout, names: list[str], share: float, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for name in names:
        size = layout.site(name).size
        mask = torch.ones(size, dtype=torch.bool)
        mask[torch.randperm(size, generator=g)[: int(size * share + 1e-9)]] = False
        masks[name] = mask
    return masks


@pytest.mark.slow
def test_the_share_of_multiply_adds_cut_in_resnet_56_is_the_published_one() -> None:
    torch.manual_seed(0)
    model = lively(resnet_56_a(10, (3, 32, 32)))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    layout = layout_of(model, x[:1], "branch")
    dense = count(layout, {}).macs_dense
    inner = [s.name for s in layout.sites if s.name.endswith(".conv1")]
    assert len(inner) == 27
    masks = share_dropped(layout, inner, 0.4, 0)
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= 1e-12
    cut = 1 - multiply_adds(smaller, x) / dense
    assert round(100 * cut, 1) == 37.9
    # Every convolution, with the stream read at its full width but for the stem, which is alone.
    left = 0
    for layer in layout.layers:
        rows, columns, *kernel = layer.weight_shape
        if layer.is_convolution:
            rows -= int(rows * 0.4 + 1e-9)
        if layer.name.endswith(".conv2") or layer.name == "stage1.0.conv1":
            columns -= int(columns * 0.4 + 1e-9)
        left += layer.positions * rows * columns * (kernel[0] * kernel[1] if kernel else 1)
    assert round(100 * (1 - left / dense), 1) == 50.4
    everything = [s.name for s in layout.sites if not s.is_input]
    masks = share_dropped(layout, everything, 0.4, 1)
    macs = count_effective(layout, masks).macs_kept
    assert 0.8 * left < macs <= left  # the stream may be narrower still, never wider
    smaller = compact(masked_copy(model, layout, masks), layout, masks)
    assert multiply_adds(smaller, x) == macs


@pytest.mark.parametrize(
    ("name", "macs"),
    [("resnet-20-a", 40_551_040), ("resnet-32-a", 68_862_592), ("resnet-56-a", 125_485_696),
     ("resnet-110-a", 252_887_680)],
)  # fmt: skip
def test_dense_multiply_adds_are_the_published_ones(name: str, macs: int) -> None:
    model = Registry().model(name)(10, (3, 32, 32)).eval()
    x = torch.zeros(1, 3, 32, 32)
    assert count(layout_of(model, x), {}).macs_dense == multiply_adds(model, x) == macs


@pytest.mark.slow
def test_dense_multiply_adds_of_resnet_18_at_224() -> None:
    model, x = torchvision.models.resnet18().eval(), torch.zeros(1, 3, 224, 224)
    assert count(layout_of(model, x), {}).macs_dense == multiply_adds(model, x) == 1_814_073_344


@pytest.mark.parametrize("coupling", ["tied", "branch"])
@pytest.mark.parametrize(
    "build",
    [
        resnet_20,
        *(slow(b) for b in (vgg_16_bn, resnet_18, resnet_56_a)),
    ],
)
def test_compact_networks_agree_to_1e_5_in_single_precision(build: Any, coupling: Any) -> None:
    torch.manual_seed(0)
    model = lively(build(10, (3, 32, 32))).float()
    x = torch.randn(8, 3, 32, 32)
    layout = layout_of(model, x[:1], coupling)
    masks = drawn(layout, 0)
    masked = masked_copy(model, layout, masks)
    assert error(compact(masked, layout, masks), masked, x) <= 1e-5


def multiply_adds_by_hooks(model: nn.Module, x: Tensor) -> int:
    total = 0

    def add(module: Any, args: Any, out: Tensor) -> None:
        nonlocal total
        maps = out[0, 0].numel() if out.dim() == 4 else 1
        total += maps * module.weight.numel()

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [m.register_forward_hook(add) for m in layers]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(
    ("build", "coupling"),
    [slow(vgg_16_bn, "tied"), slow(resnet_18, "tied"),
     slow(resnet_20, "branch"), (resnet_20_a, "branch")],
)  # fmt: skip
def test_compact_networks_give_the_same_labels_and_are_counted_alike_three_ways(
    build: Any, coupling: Any
) -> None:
    torch.manual_seed(0)
    model = build(10, (3, 32, 32)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    x = torch.randn(256, 3, 32, 32)
    layout = layout_of(model, x[:1], coupling)
    masks = drawn(layout, 0, inputs=False)
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    with torch.no_grad():
        expected, found = masked(x), smaller(x)
    scale = max(1.0, float(expected.abs().max()))
    assert float((expected - found).abs().max()) <= 1e-5 * scale
    assert torch.equal(expected.argmax(1), found.argmax(1))
    account = count_effective(layout, masks)
    assert elements(smaller) == account.params_kept
    macs = multiply_adds(smaller, x[:1])
    assert macs == account.macs_kept == multiply_adds_by_hooks(smaller, x)
    theirs, _ = tp.utils.count_ops_and_params(smaller, x[:1])  # counts normalisations too
    assert macs <= theirs <= 1.05 * macs


def test_a_stream_is_as_wide_as_the_union_of_what_lives() -> None:
    model = lively(resnet_20(10, (3, 32, 32)))
    layout = layout_of(model, torch.zeros(1, 3, 32, 32, dtype=torch.float64), "branch")
    masks = drawn(layout, 0, inputs=False, keep=0.3)
    smaller = compact(masked_copy(model, layout, masks), layout, masks)
    stream = masks["conv1"]
    for block in range(3):
        reads = smaller.get_submodule(f"stage1.{block}.conv1").in_channels
        assert reads == int(stream.sum())
        stream = stream | masks[f"stage1.{block}.conv2"]
    assert smaller.get_submodule("stage2.0.conv1").in_channels == int(stream.sum())
    assert int(stream.sum()) > int(masks["conv1"].sum())


SIZES = {"resnet-18": (5312, 896), "resnet-34": (9024, 896), "resnet-50": (28608, 3840),
         "resnet-101": (54720, 3840)}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n != "resnet-18" else []) for n in SIZES]
)
def test_states_of_edropout_have_the_published_lengths(name: str) -> None:
    model = Registry().model(name)(10, (3, 32, 32))
    layout = layout_of(model, torch.zeros(1, 3, 32, 32), "branch")
    length, of_shortcuts = SIZES[name]
    assert sum(site.size for site in layout.sites) == length
    inputs = [s for s in layout.sites if s.is_input]
    assert [s.size for s in inputs] == [512 if length < 10000 else 2048]
    norms = [m.num_features for n, m in model.named_modules()
             if isinstance(m, nn.BatchNorm2d) and ("shortcut" in n or "downsample" in n)]  # fmt: skip
    # A second bit per filter of the shortcuts gives the paper's own lengths.
    assert sum(norms) == of_shortcuts
    published = {"resnet-18": 6208, "resnet-34": 9920, "resnet-50": 32448, "resnet-101": 58560}
    assert length + of_shortcuts == published[name]


@pytest.mark.slow
def test_dropping_a_random_half_of_resnet_18_leaves_the_published_share() -> None:
    torch.manual_seed(0)
    model = lively(resnet_18(10, (3, 32, 32))).float()
    x = torch.randn(8, 3, 32, 32)
    layout = layout_of(model, x[:1], "branch")
    for seed in range(2):
        masks = drawn(layout, seed, keep=0.5)
        masked = masked_copy(model, layout, masks)
        smaller = compact(masked, layout, masks)
        assert error(smaller, masked, x) <= 1e-4
        assert output_side_share(layout, masks) == pytest.approx(0.5, abs=0.03)
        assert elements(smaller) == count_effective(layout, masks).params_kept
        # "About 31 %": between a quarter (both sides halved) and a half.
        assert elements(smaller) / elements(model) == pytest.approx(0.31, abs=0.03)
