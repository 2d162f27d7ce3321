"""Counting where channels meet: against smaller networks that are written down by hand."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torchvision
from branching_networks import BRANCHING, OptionA, Residual, conv
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.choices import Coupling
from bench.graph.count import count, count_effective
from bench.graph.structure import Layout
from bench.graph.trace import activations, layout_of
from bench.pruning.hard_mask import apply_hard, zero
from bench.pruning.masks import Masks
from bench.seeds import generator

Bits = dict[str, Tensor]
COUPLINGS: list[Coupling] = ["tied", "branch"]


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, eval mode, every statistic and affine drawn at random."""
    g = torch.Generator().manual_seed(seed)
    for module in model.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("running_mean", "running_var", "weight", "bias"):
                value = getattr(module, name).data
                value.copy_(torch.rand(value.shape, generator=g) + 0.5)
    return model


def drawn(layout: Layout, seed: int) -> Bits:
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for site in layout.sites:
        if site.is_input:
            continue
        masks[site.name] = torch.rand(site.size, generator=g) < 0.5
        masks[site.name][int(torch.randint(site.size, (), generator=g))] = True
    return masks


def masked(model: nn.Module, layout: Layout, values: Bits) -> None:
    masks = Masks(layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
    masks.load(values)
    apply_hard(model, masks)


def elements(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def thin(block: nn.Module, rows: Tensor, columns: Tensor | None = None) -> nn.Sequential:
    """A convolution with its normalisation, of which some outputs and inputs are left."""
    layer, norm = block[0], block[1]
    columns = torch.ones(layer.weight.shape[1], dtype=torch.bool) if columns is None else columns
    kernel = layer.kernel_size[0]
    small = conv(int(columns.sum()), int(rows.sum()), kernel).double().eval()
    small[0].weight.data = layer.weight.data[rows][:, columns].clone()
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(small[1], name).data = getattr(norm, name).data[rows].clone()
    return small


def among(part: Tensor, whole: Tensor) -> Tensor:
    """Where the channels of a part lie among the channels of a whole that live."""
    return (whole.cumsum(0) - 1)[part]


def put(parts: list[tuple[Tensor, Tensor]], whole: Tensor) -> Tensor:
    """Add maps into the living channels of a stream, each at its own channels."""
    first = parts[0][0]
    stream = first.new_zeros(len(first), int(whole.sum()), *first.shape[2:])
    for value, bits in parts:
        stream.index_add_(1, among(bits, whole), value)
    return stream


class ThinResidual(nn.Module):
    def __init__(self, model: nn.Module, m: Bits) -> None:
        super().__init__()
        self.s, self.b_bits, self.d_bits, self.h_bits = (
            m["stem.0"],
            m["b.0"],
            m["d.0"],
            m["short.0"],
        )
        self.middle, self.end = self.s | self.b_bits, self.d_bits | self.h_bits
        self.stem, self.a = thin(model.stem, self.s), thin(model.a, m["a.0"], self.s)
        self.b, self.c = thin(model.b, self.b_bits, m["a.0"]), thin(model.c, m["c.0"], self.middle)
        self.d = thin(model.d, self.d_bits, m["c.0"])
        self.short = thin(model.short, self.h_bits, self.middle)
        self.head = nn.Linear(int(self.end.sum()), 4).double()
        self.head.weight.data = model.head.weight.data[:, self.end].clone()
        self.head.bias.data = model.head.bias.data.clone()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(put([(self.b(F.relu(self.a(x))), self.b_bits), (x, self.s)], self.middle))
        long, short = self.d(F.relu(self.c(x))), self.short(x)
        x = F.relu(put([(long, self.d_bits), (short, self.h_bits)], self.end))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ThinOptionA(nn.Module):
    def __init__(self, model: nn.Module, m: Bits) -> None:
        super().__init__()
        self.s, self.a_bits, self.b_bits, self.c_bits = (
            m[f"{n}.0"] for n in ("stem", "a", "b", "c")
        )
        self.first = self.s | self.a_bits
        self.padded = torch.cat([torch.zeros(2), self.first, torch.zeros(2)]).bool()
        self.second = self.b_bits | self.padded
        self.third = self.c_bits | self.second
        self.stem, self.a = thin(model.stem, self.s), thin(model.a, self.a_bits, self.s)
        self.b = thin(model.b, self.b_bits, self.first)
        self.c = thin(model.c, self.c_bits, self.second)
        columns = self.third.repeat_interleave(16)
        self.head = nn.Linear(int(columns.sum()), 4).double()
        self.head.weight.data = model.head.weight.data[:, columns].clone()
        self.head.bias.data = model.head.bias.data.clone()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(put([(self.a(x), self.a_bits), (x, self.s)], self.first))
        short = x[:, :, ::2, ::2]
        x = F.relu(
            put([(F.max_pool2d(self.b(x), 2), self.b_bits), (short, self.padded)], self.second)
        )
        x = F.relu(put([(self.c(x), self.c_bits), (x, self.second)], self.third))
        return self.head(x.flatten(1))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("build", "smaller"), [(Residual, ThinResidual), (OptionA, ThinOptionA)])
def test_what_is_left_of_branches_is_the_network_cut_by_hand(
    build: Callable[[], nn.Module], smaller: Callable[..., nn.Module], seed: int
) -> None:
    torch.manual_seed(seed)
    model = lively(build(), seed)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], "branch")
    masks = drawn(layout, seed)
    small = smaller(model, masks)
    masked(model, layout, masks)
    account = count(layout, masks)
    assert account.params_dense == elements(model)
    assert account.params_kept == elements(small)
    assert count_effective(layout, masks).params_kept == elements(small)
    assert account.macs_kept == multiply_adds(small, x[:1])
    with torch.no_grad():
        assert torch.allclose(model(x), small(x), atol=1e-10)


@pytest.mark.parametrize(("coupling", "build"), list(product(COUPLINGS, BRANCHING)))
@pytest.mark.parametrize("weights_too", [False, True])
def test_params_masked_are_the_parameters_that_zeroing_leaves(
    build: Callable[[], nn.Module], coupling: Coupling, weights_too: bool
) -> None:
    model = build()
    layout = layout_of(model, torch.zeros(1, 1, 8, 8), coupling)
    for seed in range(4):
        masks = drawn(layout, seed)
        if weights_too:
            g = torch.Generator().manual_seed(seed)
            masks |= {n: torch.rand(s, generator=g) < 0.6 for n, s in layout.weights.items()}
        for parameter in model.parameters():
            parameter.data.fill_(1.0)
        zero(model, layout, masks)
        left = sum(int(p.count_nonzero()) for p in model.parameters())
        account = count(layout, masks)
        assert account.params_masked == left
        effective = count_effective(layout, masks).params_kept
        assert effective <= account.params_kept <= account.params_masked <= account.params_dense


@pytest.mark.parametrize(("coupling", "build"), list(product(COUPLINGS, BRANCHING)))
def test_params_kept_are_the_weights_between_living_channels(
    build: Callable[[], nn.Module], coupling: Coupling
) -> None:
    """Which channels live is read off a run of the masked network with positive weights."""
    for seed in range(4):
        torch.manual_seed(seed)
        model = lively(build(), seed)
        layout = layout_of(model, torch.zeros(1, 1, 8, 8, dtype=torch.float64), coupling)
        masks = drawn(layout, seed)
        for parameter in model.parameters():  # every living channel is positive everywhere
            parameter.data.abs_()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
        dense = elements(model)
        masked(model, layout, masks)
        fed: dict[str, Tensor] = {}
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_pre_hook(
                    lambda m, args, name=name, fed=fed: fed.__setitem__(
                        name, args[0].reshape(*args[0].shape[:2], -1)
                    )
                )
        with torch.no_grad():
            model(torch.rand(8, 1, 8, 8, dtype=torch.float64) + 0.1)
        gone = 0
        for name, value in fed.items():
            layer = model.get_submodule(name)
            alive = (value != 0).transpose(0, 1).flatten(1).any(1)
            groups = getattr(layer, "groups", 1)
            columns = alive.view(groups, -1).repeat_interleave(len(layer.weight) // groups, 0)
            rows = layer.weight.data.flatten(1).any(1)
            size = layer.weight[0, 0].numel()
            gone += layer.weight.numel() - int((rows[:, None] & columns).sum()) * size
            gone += 0 if layer.bias is None else int((layer.bias == 0).sum())
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                gone += int((module.weight == 0).sum() + (module.bias == 0).sum())
        assert count(layout, masks).params_kept == dense - gone


@pytest.mark.parametrize(("coupling", "build"), list(product(COUPLINGS, BRANCHING)))
def test_without_masks_every_reading_is_the_whole_network(
    build: Callable[[], nn.Module], coupling: Coupling
) -> None:
    model = build()
    layout = layout_of(model, torch.zeros(1, 1, 8, 8), coupling)
    for account in (count(layout, {}), count_effective(layout, {})):
        dense = elements(model)
        assert (account.params_dense, account.params_kept, account.params_masked) == (dense,) * 3
        assert (
            account.macs_dense
            == account.macs_kept
            == multiply_adds(model.eval(), torch.zeros(1, 1, 8, 8))
        )


@pytest.mark.parametrize(("coupling", "build"), list(product(COUPLINGS, BRANCHING)))
def test_every_hidden_site_can_be_read(build: Callable[[], nn.Module], coupling: Coupling) -> None:
    """A score of activations must say something of every site, or it is never pruned."""
    model = build().eval()
    x = torch.randn(2, 1, 8, 8)
    layout = layout_of(model, x[:1], coupling)
    with torch.no_grad():
        found = activations(layout, x)
    sizes = {s.name: s.size for s in layout.sites if not s.is_input}
    assert {name: value.shape[1] for name, value in found.items()} == sizes


class Separable(nn.Module):
    """A chain of depthwise and pointwise convolutions (MobileNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(1, 6), conv(8, 6, 1)
        self.depthwise, self.point = conv(6, 6, groups=6), conv(6, 8, 1)
        self.again, self.head = conv(8, 8, groups=8), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.stem, self.depthwise, self.point, self.again, self.last):
            x = F.relu(block(x))
        return self.head(x.mean([2, 3]))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("compression", [4.0, 16.0, 1e9])
def test_a_chain_with_depthwise_layers_is_never_cut_in_two(
    coupling: Coupling, compression: float
) -> None:
    layout = layout_of(Separable(), torch.zeros(1, 1, 8, 8), coupling)
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        lots = {s.name: torch.rand(s.size, generator=g) for s in layout.sites if not s.is_input}
        masks = Masks(layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
        masks.drop_to(lots, compression)
        assert count_effective(layout, masks.touched).macs_kept > 0


FAMILIES = ["alexnet", "densenet121", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small",
            "regnet_x_400mf", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
            "vgg11", "googlenet", "inception_v3"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_torchvision_are_whole_without_masks_and_all_their_sites_can_be_read(
    name: str, coupling: Coupling
) -> None:
    heads = {"aux_logits": False, "init_weights": False} if name in FAMILIES[-2:] else {}
    model = torchvision.models.get_model(name, weights=None, **heads).eval()
    x = torch.randn(1, 3, 96, 96)
    layout = layout_of(model, x, coupling)
    dense = elements(model)
    assert count(layout, {}).params_kept == count_effective(layout, {}).params_kept == dense
    assert count(layout, {}).macs_kept == multiply_adds(model, x)
    with torch.no_grad():
        found = activations(layout, x)
    sizes = {s.name: s.size for s in layout.sites if not s.is_input}
    assert sizes
    assert {key: value.shape[1] for key, value in found.items()} == sizes


# -- networks of strangers -------------------------------------------------------------------------


class OwnLinear(nn.Linear):
    """A user's subclass: the tracer looks inside and finds a function it does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Subclassed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(64, 8), OwnLinear(8, 6), OwnLinear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x.flatten(1))))))


class Encoder(nn.Module):
    """Layers inside a module of torch.nn, where the graph does not look."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(64, 2, 32, batch_first=True)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.flatten(2)).flatten(1))


class Rowwise(nn.Module):
    """A linear layer over the last dimension of a map that has as many channels as columns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.rows = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 5)
        self.head = nn.Linear(320, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.rows(F.relu(self.a(x)))).flatten(1))


class InPlace(nn.Module):
    """Adds into a tensor whose name it goes on using."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.c, self.head = nn.Conv2d(4, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y.add_(self.b(x))
        return self.head(F.relu(self.c(y)).mean([2, 3]))


class Clamped(nn.Module):
    """An activation that is not 0 at 0, by its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.head = nn.Linear(64, 8), nn.Hardtanh(0.5, 1.0), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.a(x.flatten(1))))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("build", [Subclassed, Encoder, Rowwise, InPlace, Clamped])
def test_dead_channels_of_odd_networks_are_zero_where_layers_read_them(
    build: Callable[[], nn.Module], coupling: Coupling
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    x = torch.randn(4, 1, 8, 8)
    layout = layout_of(model, x[:1], coupling)
    assert not any("head" in site.modules for site in layout.sites if not site.is_input)
    assert count_effective(layout, {}).params_kept == elements(model)
    masks = drawn(layout, 1)
    masked(model, layout, masks)
    fed: dict[str, Tensor] = {}
    for layer in layout.layers:
        model.get_submodule(layer.name).register_forward_pre_hook(
            lambda m, args, name=layer.name: fed.__setitem__(name, args[0].detach().clone())
        )
    with torch.no_grad():
        model(x)
    for layer in layout.layers:
        lives = layout.input_columns(layer, masks)
        if lives is not None:
            value = fed[layer.name]
            value = value if layer.is_convolution else value.movedim(-1, 1)  # its own inputs
            assert not value[:, ~lives].any(), layer.name


@pytest.mark.parametrize(
    "name",
    [None, *(pytest.param(n, marks=pytest.mark.slow) for n in ("convnext_tiny", "swin_t"))],
)
def test_multiply_adds_of_linear_layers_over_maps_equal_torchs(name: str | None) -> None:
    model: Any = Rowwise() if name is None else torchvision.models.get_model(name, weights=None)
    x = torch.zeros(1, 1, 8, 8) if name is None else torch.zeros(1, 3, 64, 64)
    macs = count(layout_of(model, x), {}).macs_dense
    expected = multiply_adds(model.eval(), x)
    if name == "swin_t":  # the products and projections of its attention are no layers
        assert 0.3 * expected < macs <= expected
    else:
        assert macs == expected


class Keywords(nn.Module):
    """Everyday ways to write a split and a join."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.c, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        if self.way == "chunk by keyword":
            first, second = y.chunk(chunks=2, dim=1)
            y = torch.cat([first, second], 1)
        elif self.way == "cat by keyword":
            y = torch.cat(tensors=[y[:, :2], y[:, 2:]], dim=1)
        elif self.way == "cat of a chunk":
            y = torch.cat(y.chunk(2, 1), 1)
        elif self.way == "slice by size":
            half = y.shape[1] // 2
            y = torch.cat([y[:, :half], y[:, half:]], 1)
        elif self.way == "device":
            y = y + torch.zeros(1, 4, 1, 1, device=y.device)
        return self.head(F.relu(self.c(y)).mean([2, 3]))


@pytest.mark.parametrize(
    "way",
    ["chunk by keyword", "cat by keyword", "cat of a chunk", "slice by size", "device"],
)
def test_an_operation_that_is_not_understood_costs_only_the_layers_behind_it(way: str) -> None:
    layout = layout_of(Keywords(way), torch.zeros(1, 1, 8, 8))
    assert "c" in {site.name for site in layout.sites}, layout.refused
    if way == "device":
        assert "a" in {site.name for site in layout.sites}, layout.refused
