"""The fields of a callback: its identity in a phase's key, and its saved state."""

import dataclasses
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor

from bench.errors import TrialFailed
from bench.store.json_values import Json, JsonObject
from bench.training.contract import Callback

Plain: TypeAlias = "None | bool | int | float | str | tuple[Plain, ...]"


def pack(callback: Callback | None) -> tuple[JsonObject, dict[str, Tensor]]:
    """Split a callback's fields into plain values and tensors.

    Raises:
        TrialFailed: a field holds something that has no identity, such as a model.
    """
    plain: JsonObject = {}
    tensors: dict[str, Tensor] = {}
    if callback is None:
        return plain, tensors
    if "__dataclass_fields__" not in vars(type(callback)):
        raise TrialFailed(f"the callback {type(callback).__name__} must be a dataclass")
    names = {field.name for field in dataclasses.fields(callback)}  # type: ignore[arg-type]
    if strays := sorted(vars(callback).keys() - names):
        raise TrialFailed(
            f"{type(callback).__name__}.{strays[0]} is no field of the dataclass: a resumed training would "
            "go on without it; declare it, with a default"
        )
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


def unpack(callback: Callback | None, plain: JsonObject, tensors: dict[str, Tensor]) -> None:
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


def _tuples(value: Json) -> Json:
    """Turn JSON's lists back into tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _is_plain(value: object) -> TypeGuard[Plain]:
    if isinstance(value, tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
