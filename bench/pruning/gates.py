"""Gates: units are multiplied by 0 or 1, and the weights behind them stay as they are."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.graph.channels import alive
from bench.graph.structure import Layout
from bench.pruning.hard_mask import moments, parameter_masks
from bench.pruning.masks import Masks


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

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
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
            mask = layer.seen_by_outputs(columns)
            mask = mask.view(*mask.shape, *[1] * (len(layer.weight_shape) - 2))
            self._alive[name] = self._alive[name] & mask if name in self._alive else mask
