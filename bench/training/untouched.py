"""What a method may not change of a network, for it is built again from its code and stored tensors alone.

A snapshot of a fresh network is held against the one that the method leaves.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize, prune
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from bench.errors import TrialFailed
from bench.graph.eval_mode import evaluating

_OF_TORCH = frozenset(
    vars(nn.Module())
)  # `training`, and the tables of parameters, hooks and others
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_DEEPEST = 8  # containers in containers that are looked into


@dataclass(frozen=True)
class _Module:
    """One module of a network as it was built.

    Attributes:
        tensors: role, shape and type of each parameter and buffer.
        strides: their layout in memory.
        parametrized: names of tensors that are computed of others.
        attributes: plain values; of everything else the type.
    """

    kind: type
    tensors: Mapping[str, tuple[object, ...]]
    strides: Mapping[str, tuple[int, ...]]
    parametrized: frozenset[str]
    hooks: tuple[tuple[str, str], ...]
    attributes: Mapping[str, object]


Snapshot = Mapping[str, _Module]


def snapshot(model: nn.Module) -> Snapshot:
    """Note the classes, tensors, hooks and attributes of a network's modules, by name."""
    return {name: _note(module) for name, module in model.named_modules()}


def stripped(model: nn.Module, built: Snapshot) -> None:
    """Write into the weights what parametrizations compute that the network was not built with."""
    for name, module in list(model.named_modules()):
        own = built[name].parametrized if name in built else frozenset[str]()
        for tensor in sorted(_parametrized(module) - own):
            _strip(module, tensor)


def restore_layout(model: nn.Module, built: Snapshot) -> None:
    """Give every tensor memory of its own, in the order it was built with: the order may decide bits."""
    with torch.no_grad():
        for name, module in model.named_modules():
            for tensor_name, tensor in _tensors(module):
                stride = built[name].strides[tensor_name]
                own = torch.empty_strided(
                    tensor.shape, stride, dtype=tensor.dtype, device=tensor.device
                )
                tensor.data = own.copy_(tensor)


def refuse_changes(
    model: nn.Module, built: Snapshot, build: Callable[[], nn.Module], images: Tensor
) -> None:
    """Refuse a network that differs from the one that was built, other than by values of its tensors.

    Args:
        build: makes a fresh network, to see which attributes change when it is merely used.
        images: a few training images (b, channels, height, width).

    Raises:
        TrialFailed: with the name of the module.
    """
    found = snapshot(model)
    for name in sorted(built.keys() ^ found.keys()):
        verb = "took away" if name in built else "added"
        raise TrialFailed(f"the method {verb} the module {name!r}{_UNDO}")
    for name in built:
        _refuse_changed_parts(_place(name, built[name]), built[name], found[name])
    hooked = [n for n in built if found[n].hooks != built[n].hooks]
    if hooked:
        where = ", ".join(_place(name, built[name]) for name in hooked)
        raise TrialFailed(f"the method left hooks, or took some away, on {where}{_UNDO}")
    changed = [
        (name, attribute)
        for name in built
        for attribute in sorted({*built[name].attributes, *found[name].attributes})
        if built[name].attributes.get(attribute) != found[name].attributes.get(attribute)
    ]
    if not changed:
        return
    by_use = _changed_by_use(build(), images)
    for name, attribute in changed:
        if (name, attribute) not in by_use:
            where = _place(name, built[name])
            raise TrialFailed(f"the method changed the attribute {attribute!r} of {where}{_UNDO}")


_UNDO = (
    "; what is measured is built from the network's code and its stored tensors, so this must be undone "
    "before prune ends"
)


def _refuse_changed_parts(where: str, built: _Module, found: _Module) -> None:
    if found.kind is not built.kind:
        raise TrialFailed(f"the method put a {found.kind.__name__} in the place of {where}{_UNDO}")
    if found.tensors != built.tensors:
        both = {*built.tensors, *found.tensors}
        names = sorted(n for n in both if built.tensors.get(n) != found.tensors.get(n))
        raise TrialFailed(
            f"the method added, took away or reshaped the parameter or buffer {names[0]!r} of {where}"
            f"{_UNDO}"
        )


def _place(name: str, module: _Module) -> str:
    return f"the module {name!r} ({module.kind.__name__})" if name else "the network itself"


def _changed_by_use(model: nn.Module, images: Tensor) -> set[tuple[str, str]]:
    """Return the attributes, by module, that a pass in evaluation and one in training change."""
    before = snapshot(model)
    # Whatever it raises was raised in training too, or does not matter here.
    with contextlib.suppress(Exception):
        with evaluating(model), torch.no_grad():
            model(images)
        model.train()
        model(images)
    after = snapshot(model)
    return {
        (name, attribute)
        for name in before.keys() & after.keys()
        for attribute in {*before[name].attributes, *after[name].attributes}
        if before[name].attributes.get(attribute) != after[name].attributes.get(attribute)
    }


# -- one module ----------------------------------------------------------------------------------


def _note(module: nn.Module) -> _Module:
    tensors = dict(_tensors(module))
    return _Module(
        kind=type(module),
        tensors={
            name: (type(tensor), tuple(tensor.shape), tensor.dtype)
            for name, tensor in tensors.items()
        },
        strides={name: tensor.stride() for name, tensor in tensors.items()},
        parametrized=frozenset(_parametrized(module)),
        hooks=tuple(
            (table, _name_of(hook)) for table in _HOOKS for hook in getattr(module, table).values()
        ),
        attributes={
            name: _plain(value)
            for name, value in vars(module).items()
            if name not in _OF_TORCH and not (name == "p" and isinstance(module, _DropoutNd))
        },
    )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module alone; one that is None is an attribute of none."""
    for table in (module._parameters, module._buffers):
        yield from ((name, tensor) for name, tensor in table.items() if tensor is not None)


def _plain(value: object, depth: int = 0) -> object:
    """Return what a value of plain types is; of any other its type alone."""
    kind = type(value).__qualname__
    if value is None or isinstance(
        value, bool | int | float | complex | str | bytes | Enum | torch.dtype | torch.device
    ):
        return kind, repr(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return kind, tuple((repr(k), _plain(v, depth + 1)) for k, v in value.items())
    if depth < _DEEPEST and isinstance(value, set | frozenset):
        return kind, frozenset(_plain(v, depth + 1) for v in value)
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return kind, tuple(_plain(v, depth + 1) for v in value)
    if callable(value) and not isinstance(value, nn.Module):
        return kind, _name_of(value)
    return kind, ""


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


# -- parametrizations ----------------------------------------------------------------------------


def _parametrized(module: nn.Module) -> set[str]:
    """Return the tensors of a module that are computed of others, in any of torch's three ways."""
    new = set(module.parametrizations) if parametrize.is_parametrized(module) else set()  # type: ignore[arg-type]
    hooks = module._forward_pre_hooks.values()
    return new | {
        hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name
        for hook in hooks
        if isinstance(hook, prune.BasePruningMethod | WeightNorm)
    }


def _strip(module: nn.Module, tensor: str) -> None:
    if parametrize.is_parametrized(module, tensor):
        parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)
        return
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == tensor:
            prune.remove(module, tensor)  # type: ignore[no-untyped-call]
        elif isinstance(hook, WeightNorm) and hook.name == tensor:
            remove_weight_norm(module, tensor)
