"""Channels are followed through branches: what is said to be dead is zero, and nothing else is lost."""

from collections.abc import Callable

import pytest
import torch
import torch_pruning as tp
import torchvision
from branching_networks import (
    BRANCHING,
    Concatenated,
    Grouped,
    Inverted,
    Neighbours,
    OptionA,
    Parted,
    Recalled,
    Residual,
    Squeezed,
)
from torch import Tensor, nn

from bench.choices import Coupling
from bench.graph.count import count, count_effective
from bench.graph.structure import Layout
from bench.graph.trace import activations, layout_of
from bench.pruning.gates import Gates
from bench.pruning.hard_mask import apply_hard
from bench.pruning.masks import Masks
from bench.seeds import generator

Build = Callable[[], nn.Module]
COUPLINGS: list[Coupling] = ["tied", "branch"]


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, eval mode, statistics and affines of every normalisation drawn at random."""
    g = torch.Generator().manual_seed(seed)
    for module in model.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=g))
            module.running_var.copy_(torch.rand(shape, generator=g) + 0.5)
            module.weight.data.copy_(torch.rand(shape, generator=g) + 0.5)
            module.bias.data.copy_(torch.randn(shape, generator=g))
    return model


def hidden(layout: Layout) -> dict[str, int]:
    return {site.name: site.size for site in layout.sites if not site.is_input}


def random_masks(layout: Layout, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for site in layout.sites:
        mask = torch.rand(site.size, generator=g) > 0.4
        mask[int(torch.randint(site.size, (), generator=g))] = True
        masks[site.name] = mask
    return masks


def masks_of(layout: Layout, values: dict[str, Tensor]) -> Masks:
    masks = Masks(layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
    masks.load(values)
    return masks


def inputs_of_layers(model: nn.Module, layout: Layout, x: Tensor) -> dict[str, list[Tensor]]:
    """What each convolution and linear layer is fed, at each of its uses."""
    fed: dict[str, list[Tensor]] = {}
    handles = []
    for layer in layout.layers:

        def keep(module: nn.Module, args: tuple[Tensor], name: str = layer.name) -> None:
            fed.setdefault(name, []).append(args[0].detach())

        handles.append(model.get_submodule(layer.name).register_forward_pre_hook(keep))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return fed


SMALL = [pytest.param(build, 1, 8, id=build.__name__) for build in BRANCHING]
LARGE = [
    pytest.param(getattr(torchvision.models, name), 3, 64, id=name, marks=pytest.mark.slow)
    for name in ("resnet18", "resnet50", "mobilenet_v2", "squeezenet1_1", "densenet121",
                 "efficientnet_b0", "shufflenet_v2_x0_5", "regnet_y_400mf", "mnasnet0_5")
]  # fmt: skip


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(("build", "channels", "side"), SMALL + LARGE)
def test_dead_channels_are_zero_wherever_a_layer_reads_them(
    build: Build, channels: int, side: int, coupling: Coupling
) -> None:
    torch.manual_seed(1)
    model = lively(build())
    x = torch.randn(3, channels, side, side, dtype=torch.float64)
    layout = layout_of(model, x[:1], coupling)
    masks = random_masks(layout, seed=3)
    apply_hard(model, masks_of(layout, masks))
    fed = inputs_of_layers(model, layout, x)
    units = {k: v for k, v in masks.items() if not k.startswith("input:")}
    dead_channels = 0
    for layer in layout.layers:
        lives = layout.input_columns(layer, units)
        if lives is not None:
            for value in fed[layer.name]:
                assert not value[:, ~lives].any()
            dead_channels += int((~lives).sum())
    assert dead_channels > 0


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(("build", "channels", "side"), SMALL + LARGE)
def test_gates_compute_what_zeroed_weights_compute(
    build: Build, channels: int, side: int, coupling: Coupling
) -> None:
    torch.manual_seed(1)
    model = lively(build())
    x = torch.randn(3, channels, side, side, dtype=torch.float64)
    layout = layout_of(model, x[:1], coupling)
    masks = random_masks(layout, seed=4)
    with Gates(model, layout) as gates, torch.no_grad():
        whole = model(x)
        gates.set_masks(masks)
        gated = model(x)
    apply_hard(model, masks_of(layout, masks))
    with torch.no_grad():
        masked = model(x)
    scale = max(1.0, float(masked.abs().max()))
    assert float((gated - masked).abs().max()) <= 1e-12 * scale
    assert float((whole - masked).abs().max()) > 1e-3 * scale


@pytest.mark.parametrize(
    ("build", "tied", "branch"),
    [
        (Residual, {"stem.0": 6, "a.0": 5, "c.0": 7, "d.0": 8},
         {"stem.0": 6, "a.0": 5, "b.0": 6, "c.0": 7, "d.0": 8, "short.0": 8}),
        (OptionA, {"stem.0": 4, "b.0": 8}, {"stem.0": 4, "a.0": 4, "b.0": 8, "c.0": 8}),
        (Concatenated, {"a": 3, "b.0": 4, "c": 5, "last": 6}, None),
        (Inverted, {"stem.0": 4, "expand.0": 9},
         {"stem.0": 4, "expand.0": 9, "project.0": 4}),
        (Parted, {"a.0": 8, "b.0": 5}, {"a.0": 8, "b.0": 5, "c.0": 5}),
        (Squeezed, {"a.0": 6, "b.0": 5, "down": 3}, None),
        (Grouped, {"c.0": 6}, None),
        (Recalled, {"c.0": 6}, None),
        (Neighbours, {"b.0": 5}, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_units_that_are_added_share_a_site_when_tied_and_not_in_branches(
    build: Build, tied: dict[str, int], branch: dict[str, int] | None
) -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert hidden(layout_of(build(), x)) == tied
    assert hidden(layout_of(build(), x, "branch")) == (branch or tied)


def test_what_cannot_be_dropped_is_said_layer_by_layer() -> None:
    x = torch.zeros(1, 1, 8, 8)
    refused = {b: layout_of(b(), x).refused for b in (Squeezed, Grouped, Recalled, Neighbours)}
    assert refused[Squeezed].keys() == {"up", "head"}
    assert "sigmoid" in refused[Squeezed]["up"]
    assert refused[Grouped].keys() == {"a.0", "b.0", "head"}
    assert refused[Grouped]["a.0"] == "'b.0' is a grouped convolution"
    assert refused[Recalled].keys() == {"a.0", "b", "head"}
    assert "used 2 times" in refused[Recalled]["b"]
    assert refused[Neighbours].keys() == {"a.0", "head"}
    assert "LocalResponseNorm" in refused[Neighbours]["a.0"]
    assert all(r["head"] == "its outputs are the network's" for r in refused.values())


def test_a_weight_that_two_layers_share_belongs_to_neither() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                          nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))  # fmt: skip
    model[3].weight = model[1].weight
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    assert hidden(layout) == {"5": 8}
    assert count(layout, {}).params_dense == sum(p.numel() for p in model.parameters())


def test_a_stream_is_read_after_each_addition() -> None:
    torch.manual_seed(0)
    model = lively(Residual())
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    fed = inputs_of_layers(model, layout_of(model, x[:1]), x)
    with torch.no_grad():
        found = activations(layout_of(model, x[:1]), x)
        branch = activations(layout_of(model, x[:1], "branch"), x)
        both = torch.cat([fed["a.0"][0].flatten(2), fed["c.0"][0].flatten(2)], 2)
        assert torch.equal(found["stem.0"], both)
        assert torch.equal(branch["b.0"], model.b(fed["b.0"][0]))
        assert torch.equal(branch["stem.0"], fed["a.0"][0])
    assert found["d.0"].shape == (3, 8, 8, 8)


# -- against torch-pruning's dependency graph ------------------------------------------------------


ORACLE = [
    pytest.param(Residual, 1, 8, id="Residual"), pytest.param(Inverted, 1, 8, id="Inverted"),
    *(pytest.param(getattr(torchvision.models, n), 3, 64, id=n, marks=pytest.mark.slow)
      for n in ("resnet18", "resnet50", "mobilenet_v2", "squeezenet1_1", "vgg11_bn")),
]  # fmt: skip


@pytest.mark.parametrize(("build", "channels", "side"), ORACLE)
def test_tied_units_are_torch_prunings_groups_and_count_what_it_leaves(
    build: Build, channels: int, side: int
) -> None:
    torch.manual_seed(2)
    model = lively(build())
    x = torch.randn(2, channels, side, side, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    masks = {k: v for k, v in random_masks(layout, 5).items() if not k.startswith("input:")}
    kept = count(layout, masks)
    assert count_effective(layout, masks).params_kept == kept.params_kept
    apply_hard(model, masks_of(layout, masks))
    with torch.no_grad():
        masked = model(x)
    graph = tp.DependencyGraph().build_dependency(model, (x,))
    for site in layout.sites:
        if site.is_input or bool(masks[site.name].all()):
            continue
        gone = (~masks[site.name]).nonzero().flatten().tolist()
        root = model.get_submodule(site.module)
        by_groups = isinstance(root, nn.Conv2d) and root.groups > 1
        prune = tp.prune_depthwise_conv_out_channels if by_groups else None
        if prune is None:
            linear = isinstance(root, nn.Linear)
            prune = tp.prune_linear_out_channels if linear else tp.prune_conv_out_channels
        graph.get_pruning_group(root, prune, idxs=gone).prune()
    assert sum(p.numel() for p in model.parameters()) == kept.params_kept
    with torch.no_grad():
        scale = max(1.0, float(masked.abs().max()))
        assert float((model.eval()(x) - masked).abs().max()) <= 1e-10 * scale
