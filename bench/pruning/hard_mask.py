"""Hard masks: what is dropped is zero for good, and stays so through every step."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bench.graph.channels import alive
from bench.graph.structure import Layout
from bench.pruning.masks import Masks


def parameter_masks(layout: Layout, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Say per parameter what the masks zero: a unit's own row, bias and normalisation affine.

    Args:
        masks: those that are not all ones.

    Returns:
        Parameter name to a boolean tensor that broadcasts to the parameter's shape.
    """
    found: dict[str, Tensor] = {}

    def add(name: str, mask: Tensor) -> None:
        if name in layout.parameters:
            found[name] = found[name] & mask if name in found else mask

    for name in layout.weights:
        if name in masks:
            add(name, masks[name])
    units = layout.units(masks)
    for layer in layout.layers:
        weight, rank = f"{layer.name}.weight", len(layer.weight_shape)
        if layer.name in units:
            add(weight, units[layer.name].view(-1, *[1] * (rank - 1)))
            add(f"{layer.name}.bias", units[layer.name])
        if f"input:{layer.name}" in masks:
            add(weight, masks[f"input:{layer.name}"].view(1, -1, *[1] * (rank - 2)))
    for norm in layout.norms:
        lives = alive(norm.channels, units)
        if lives is not None and not bool(lives.all()):
            for name in norm.parameters:
                add(name, lives)
    return found


def apply_hard(model: nn.Module, masks: Masks) -> None:
    """Set everything that the masks drop to exactly +0.0, in place."""
    zero(model, masks.layout, masks.touched)


def zero(model: nn.Module, layout: Layout, masks: Mapping[str, Tensor]) -> None:
    """Set everything that these masks drop to exactly +0.0, in place."""
    with torch.no_grad():
        for name, mask in parameter_masks(layout, masks).items():
            parameter = model.get_parameter(name)
            # where, not a product: w * 0 is -0.0 for a negative w, and hashes differently.
            parameter.copy_(torch.where(mask, parameter, torch.zeros_like(parameter)))


class HardMask:
    """Keeps dropped weights and their optimiser state at zero, step after step.

    Zeroed weights without gradient stay zero, and so do their momentum, averages and decay: one
    product a step is enough.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self.model, self.masks = model, masks
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        self._version = -1

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Take up masks that have changed since the last step."""
        if self._version == self.masks.version:
            return
        apply_hard(self.model, self.masks)
        self._version = self.masks.version
        self._pairs = []
        for name, mask in parameter_masks(self.masks.layout, self.masks.touched).items():
            parameter = self.model.get_parameter(name)
            # A float mask in the parameter's own memory layout: one fast loop per step.
            product = torch.empty_like(parameter.data).copy_(mask.expand_as(parameter))
            self._pairs.append((parameter, product))
            for moment in moments(optimizer, parameter):
                moment.mul_(product)

    def before_step(self) -> None:
        """Take the gradients of dropped weights away."""
        pairs = [(p.grad, product) for p, product in self._pairs if p.grad is not None]
        if pairs:
            gradients, products = zip(*pairs, strict=True)
            torch._foreach_mul_(gradients, products)

    def again(self) -> None:
        """Zero dropped weights once more, where something else may have written into them."""
        if self._pairs:
            weights = [parameter.data for parameter, _ in self._pairs]
            torch._foreach_mul_(weights, [product for _, product in self._pairs])
            torch._foreach_add_(weights, 0.0)  # w * 0 is -0.0 for a negative w


def moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[Tensor]:
    """Yield the optimiser's tensors that have one entry per weight: momentum, averages."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            yield value
