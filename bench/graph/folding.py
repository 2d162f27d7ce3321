"""Fold constants of dead units into the layers that read them: arithmetic of one module at a time."""

import torch
from torch import Tensor, nn

from bench.graph.layers import Layer


def double(value: Tensor) -> Tensor:
    return value.detach().cpu().double()


def is_uniform(layer: nn.Module) -> bool:
    """Return True where a constant input gives the same output everywhere: no zeros at the borders."""
    if not isinstance(layer, nn.Conv2d):
        return True
    return layer.padding_mode != "zeros" or layer.padding in ("valid", (0, 0))


def dead_input_contribution(layer: Layer, module: nn.Module, constant: Tensor) -> Tensor:
    """Return the constant that dead inputs add to each output and kernel position, float64."""
    weight = double(module.get_parameter("weight"))
    fed = layer.seen_by_outputs(constant).expand(weight.shape[:2])
    fed = fed.view(*fed.shape, *[1] * (weight.dim() - 2))
    # Not 0 x NaN: what no weight reads brings nothing.
    return torch.where(weight == 0, 0.0, weight * fed).sum(1)


def nan_if_padding_breaks(constant: Tensor) -> Tensor:
    """Return NaN for constants that zero padding makes non-uniform, and 0 for those that are 0."""
    varies = (constant != 0) if constant.dim() == 1 else (constant != 0).flatten(1).any(1)
    return torch.where(varies, torch.nan, torch.zeros(len(varies)).double())


def total(brought: Tensor) -> Tensor:
    """Return the sum over a kernel's positions."""
    return brought.flatten(1).sum(1) if brought.dim() > 1 else brought


def layer_with_weights(
    layer: nn.Conv2d | nn.Linear, kernel: Tensor, offset: Tensor | None, groups: int = 1
) -> nn.Module:
    """Return a layer like the given one with other weights."""
    thin: nn.Conv2d | nn.Linear
    outputs, inputs, has_bias = kernel.shape[0], kernel.shape[1] * groups, offset is not None
    if isinstance(layer, nn.Conv2d):
        thin = nn.Conv2d(
            inputs, outputs, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
            layer.dilation, groups, has_bias, layer.padding_mode, device="meta",  # type: ignore[arg-type]
        )  # fmt: skip
        if layer.weight.is_contiguous(memory_format=torch.channels_last):
            kernel = kernel.contiguous(memory_format=torch.channels_last)
    else:
        thin = nn.Linear(inputs, outputs, has_bias, device="meta")
    thin.weight = nn.Parameter(kernel.clone(), layer.weight.requires_grad)
    if offset is not None:
        learns = layer.bias.requires_grad if layer.bias is not None else layer.weight.requires_grad
        thin.bias = nn.Parameter(offset.clone(), learns)
    return thin


class Constant(nn.Module):
    """The constant output of a linear layer that the input does not reach."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(values)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, ...) to values (b, outputs)."""
        return images.flatten(1)[:, :1] * 0 + self.bias
