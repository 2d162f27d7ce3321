"""What a method may do during a training, and how that is identified and saved."""

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.errors import TrialFailed

if TYPE_CHECKING:
    from bench.training.trial import Trial


class Callback:
    """Override what is needed. A subclass is a dataclass: its fields are its identity and its state.

    Fields are numbers, strings, booleans, None, tuples of these, tensors or generators. They are part
    of the phase's key as they are when the training starts, are saved with every checkpoint, and
    hold their final values after `train` returns.
    """

    def batch(self, trial: "Trial", x: Tensor, y: Tensor) -> None:
        """Before the forward pass; may run passes without gradients and write masks."""

    def penalty(self, trial: "Trial") -> Tensor | None:
        """Return a scalar to add to the loss."""

    def gradients(self, trial: "Trial") -> None:
        """After the backward pass, before masks and step."""

    def step(self, trial: "Trial", lr: float) -> None:
        """After the optimiser's step and the masks."""

    def epoch(self, trial: "Trial", done: int) -> None:
        """After an epoch, before its checkpoint; `done` counts from the schedule's start."""


def pack(callback: Callback | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split a callback's fields into plain values and tensors.

    Raises:
        TrialFailed: a field holds something that has no identity, such as a model.
    """
    plain: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    if callback is None:
        return plain, tensors
    if "__dataclass_fields__" not in vars(type(callback)):
        raise TrialFailed(f"the callback {type(callback).__name__} must be a dataclass")
    for field in dataclasses.fields(callback):  # type: ignore[arg-type]
        value = getattr(callback, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value.detach().contiguous()
        elif isinstance(value, torch.Generator):
            tensors[field.name] = value.get_state()
        elif _is_plain(value):
            plain[field.name] = value
        else:
            raise TrialFailed(
                f"{type(callback).__name__}.{field.name} holds a {type(value).__name__}; "
                "a callback's fields are numbers, strings, tensors or generators"
            )
    return plain, tensors


def unpack(callback: Callback | None, plain: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Give a callback the field values that `pack` took."""
    if callback is None:
        return
    for name, value in plain.items():
        object.__setattr__(callback, name, _tuples(value))
    for name, tensor in tensors.items():
        current = getattr(callback, name)
        if isinstance(current, torch.Generator):
            current.set_state(tensor)
        else:
            device = current.device if isinstance(current, Tensor) else tensor.device
            object.__setattr__(callback, name, tensor.to(device))


def _tuples(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
