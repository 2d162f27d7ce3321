"""Facts that a network computes with beside its weights: classes and plain attributes of its modules.

Two networks may share every tensor and compute different things: a module was swapped, a number in it
was changed. The facts of a module are compared with those that it had after it was built, so that a
network as its author wrote it has none that count.
"""

import copy
import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import BuiltinFunctionType, FunctionType, MethodType

import numpy as np
import torch
from torch import Tensor, nn

from bench.store import source_hash
from bench.store.json_values import Json, JsonObject

# What every module has, and what is looked at in other ways: tensors, hooks, the training flag.
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) | {"forward"}
Place = tuple[str, str]  # a module and an attribute of it


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, those that `state_dict` leaves out included."""
    return {**model.state_dict(), **dict(model.named_buffers())}


def facts_of(model: nn.Module) -> dict[Place, Json]:
    """Return the class and the plain attributes of every module, by its name and theirs."""
    found: dict[Place, Json] = {}
    for name, module in model.named_modules():
        found[name, "class"] = _class_name(type(module))
        for attribute, value in vars(module).items():
            if attribute not in _OF_EVERY_MODULE:
                found[name, attribute] = identity(value)
    return found


def changed(before: Mapping[Place, Json], after: Mapping[Place, Json]) -> list[Place]:
    """Return what is not the same in both, or only in one of them."""
    # As text: 1, 1.0 and True are equal to Python.
    first, second = ({p: json.dumps(v) for p, v in found.items()} for found in (before, after))
    return sorted(p for p in {*first, *second} if first.get(p) != second.get(p))


def own_changes(model: nn.Module, images: Tensor) -> frozenset[Place]:
    """Return the attributes that a pass in training and one in evaluation change by themselves.

    A forward may count its calls or keep its features. The passes are made by a copy.

    Args:
        images: a few of the training images (b, channels, height, width).
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            twin = copy.deepcopy(model)
            before = facts_of(twin)
            twin.train()
            twin(images)
            twin.eval()
            twin(images)
        except Exception:  # the training will say it in the network's own words
            return frozenset()
    return frozenset(changed(before, facts_of(twin)))


def identity(value: object) -> Json:
    """Return what an attribute is, as JSON that is the same in every process.

    Values of other kinds count by their class: what changes inside them is not seen.
    """
    if (
        value is None
        or isinstance(value, bool | int | float | str)
        and type(value).__module__ == "builtins"
    ):
        return value
    if isinstance(value, enum.Enum):
        return {"enum": f"{_class_name(type(value))}.{value.name}"}
    if isinstance(value, Tensor | np.ndarray):
        return _of_numbers(value)
    if isinstance(value, torch.dtype | torch.device | torch.memory_format | torch.layout):
        return {"torch": str(value)}
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | type):
        return {"code": _of_code(value)}
    if isinstance(value, Mapping):
        return {"mapping": [[identity(k), identity(v)] for k, v in value.items()]}
    if isinstance(value, AbstractSet):
        return {"set": sorted(map(str, map(identity, value)))}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview | str):
        return [identity(v) for v in value]
    return {"object": _class_name(type(value))}


def _of_numbers(value: Tensor | np.ndarray) -> JsonObject:
    tensor = (
        value.detach()
        if isinstance(value, Tensor)
        else torch.from_numpy(np.ascontiguousarray(value))
    )
    raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(raw.data).hexdigest()[:16]
    return {"numbers": digest, "dtype": str(tensor.dtype), "shape": list(tensor.shape)}


def _of_code(value: FunctionType | MethodType | BuiltinFunctionType | type) -> str:
    """Return the name of a function or class with the hash of its source, where it has any."""
    try:
        return source_hash.of_code(value)
    except (LookupError, AttributeError, OSError, TypeError, ValueError):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
