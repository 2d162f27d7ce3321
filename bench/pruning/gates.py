"""Masks in force on a network: zeroed for good (hard), or as gates that leave the weights alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.graph.channels import alive
from bench.graph.count import by_group
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


class Gates:
    """Multiplies units' outputs (or a layer's inputs) by 0 or 1; the weights stay as they are.

    Use as a context: hooks exist only inside it, so copies of the model never carry them.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model = model
        self.layout = layout
        self._values: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        self._inputs = [site.name for site in layout.sites if site.is_input]

    def show(self, masks: Mapping[str, Tensor]) -> None:
        """Put these masks in force; a site that is missing stays open."""
        reference = next(self.model.parameters())
        units = self.layout.units(masks)
        shown = {name: alive(channels, units) for name, channels in self.layout.gates.items()}
        shown |= {n: masks.get(n) for n in self._inputs}
        self._values = {
            name: mask.to(reference.device, reference.dtype)
            for name, mask in shown.items()
            if mask is not None
        }

    def __enter__(self) -> "Gates":
        for name in self.layout.gates:
            module = self.model.get_submodule(name)
            self._handles.append(module.register_forward_hook(self._on_output(name)))
        for name in self._inputs:
            module = self.model.get_submodule(name.removeprefix("input:"))
            self._handles.append(module.register_forward_pre_hook(self._on_input(name)))
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _on_output(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            gate = self._values.get(name)
            if gate is None:
                return None
            # In the output's own type: under autocast a float32 gate would widen all that follows.
            return output * gate.to(output.dtype).view(-1, *[1] * (output.dim() - 2))

        return hook

    def _on_input(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
            gate = self._values.get(name)
            return None if gate is None else (args[0] * gate.to(args[0].dtype),)

        return hook


class Frozen:
    """Holds every weight that touches a dropped unit bit for bit, with its optimiser state.

    Zero gradients are not enough: momentum and weight decay would still move it.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self.model, self.masks = model, masks
        self._version = -1
        self._alive: dict[str, Tensor] = {}
        self._before: list[tuple[Tensor, Tensor, Tensor]] = []
        self._without_state: list[tuple[nn.Parameter, Tensor]] = []

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the values that the coming step must not change."""
        self._follow()
        self._before.clear()
        self._without_state.clear()
        for name, lives in self._alive.items():
            parameter = self.model.get_parameter(name)
            if not optimizer.state.get(parameter):
                self._without_state.append((parameter, lives))
            for tensor in (parameter.data, *moments(optimizer, parameter)):
                self._before.append((tensor, tensor.clone(), lives))

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Put them back; state that the step created starts at zero for what is dropped."""
        for tensor, old, lives in self._before:
            tensor.copy_(torch.where(lives, tensor, old))
        for parameter, lives in self._without_state:
            for moment in moments(optimizer, parameter):
                moment.copy_(torch.where(lives, moment, torch.zeros_like(moment)))

    def _follow(self) -> None:
        """Recompute what is alive: a weight moves only if both of its ends live."""
        if self._version == self.masks.version:
            return
        self._version = self.masks.version
        layout, touched = self.masks.layout, self.masks.touched
        self._alive = parameter_masks(layout, touched)
        for layer in layout.layers:
            columns = layout.input_columns(layer, touched)
            if columns is None:
                continue
            name = f"{layer.name}.weight"
            mask = by_group(layer, columns)
            mask = mask.view(*mask.shape, *[1] * (len(layer.weight_shape) - 2))
            self._alive[name] = self._alive[name] & mask if name in self._alive else mask


def moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[Tensor]:
    """Yield the optimiser's tensors that have one entry per weight: momentum, averages."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            yield value


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Batch statistics without touching running ones, Dropout off, no gradients.

    This is how a network is scored on a training batch under masks it was not trained with: the
    running statistics belong to other masks, and must not learn from these.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    drops = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    modules = list(model.modules())
    flags = [m.training for m in modules]
    tracking = [n.track_running_stats for n in norms]
    model.train()
    for norm in norms:
        norm.track_running_stats = False
    for drop in drops:
        drop.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
