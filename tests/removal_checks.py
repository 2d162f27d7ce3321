"""What tests of physical removal share: lively networks, masks, and the comparison of outputs."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.graph.count import reconnected
from bench.graph.cut import compact
from bench.graph.structure import Layout
from bench.pruning.hard_mask import zero


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, eval mode, statistics and affines of every normalisation drawn at random."""
    g = torch.Generator().manual_seed(seed)
    for module in model.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=g))
            module.running_var.copy_(torch.rand(shape, generator=g) + 0.5)
            module.weight.data.copy_(torch.rand(shape, generator=g) + 0.5)
            module.bias.data.copy_(torch.randn(shape, generator=g))
    return model


def drawn(layout: Layout, seed: int, keep: float = 0.6, inputs: bool = True) -> dict[str, Tensor]:
    """A mask per site with at least one unit left, and the network in one piece."""
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for site in layout.sites:
        if site.is_input and not inputs:
            continue
        mask = torch.rand(site.size, generator=g) < keep
        mask[int(torch.randint(site.size, (), generator=g))] = True
        masks[site.name] = mask
    return reconnected(layout, masks)


def masked_copy(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> nn.Module:
    """The network with every dropped unit at zero."""
    other = copy.deepcopy(model)
    zero(other, layout, masks)
    return other


def silenced_copy(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> nn.Module:
    """Only the rows and biases of layers at zero; normalisations go on emitting (scope "conv")."""
    other = copy.deepcopy(model)
    units = layout.units(masks)
    with torch.no_grad():
        for name, mask in units.items():
            layer = other.get_submodule(name)
            layer.weight[~mask] = 0
            if layer.bias is not None:
                layer.bias[~mask] = 0
    return other


def both(masked: nn.Module, layout: Layout, masks: Mapping[str, Tensor], x: Tensor) -> float:
    """Compact, and return the largest difference relative to the largest logit (at least 1)."""
    return error(compact(masked, layout, masks), masked, x)


def error(smaller: nn.Module, masked: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected, found = masked(x), smaller(x)
    assert expected.shape == found.shape
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) / scale


def elements(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, x: Tensor) -> int:
    """Of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2 // len(x)
