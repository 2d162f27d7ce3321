"""The form in which a network was built: its code makes it again, and stored tensors fill it.

A method may leave other numbers in it and nothing else, for what is measured is built anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize, prune
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from bench.errors import TrialFailed
from bench.store.json_values import Json
from bench.training.network_facts import Place, changed

_UNDO = (
    "; what is measured is built from the network's code and its stored tensors, so this must be undone "
    "before prune ends"
)


@dataclass(frozen=True)
class BuiltForm:
    """The form of one network before its method saw it.

    Attributes:
        kinds: the class of each module, by its name.
        tensors: class, shape and type of each parameter and buffer, by module and name.
        strides: their layout in memory.
        computed: tensors that a module computes of others, by the module's name.
        facts: classes and plain attributes.
    """

    kinds: Mapping[str, str]
    tensors: Mapping[Place, tuple[object, ...]]
    strides: Mapping[Place, tuple[int, ...]]
    computed: Mapping[str, frozenset[str]]
    facts: Mapping[Place, Json]

    @classmethod
    def of(cls, model: nn.Module, facts: Mapping[Place, Json]) -> "BuiltForm":
        tensors = dict(_tensors(model))
        return cls(
            kinds={name: type(module).__name__ for name, module in model.named_modules()},
            tensors=_described(tensors),
            strides={place: tensor.stride() for place, tensor in tensors.items()},
            computed={name: _computed(module) for name, module in model.named_modules()},
            facts=facts,
        )

    def write_out(self, model: nn.Module) -> None:
        """Write into the weights what torch's parametrizations and pruning make of them."""
        for name, module in list(model.named_modules()):
            for tensor in sorted(_computed(module) - self.computed.get(name, frozenset())):
                _write_out(module, tensor)

    def refuse_changes(self, model: nn.Module, facts: Mapping[Place, Json]) -> None:
        """Refuse a network that differs by more than the values of its tensors and dropout's `p`.

        Raises:
            TrialFailed: with the name of the module.
        """
        names = {name for name, _ in model.named_modules()}
        for name in sorted(names ^ self.kinds.keys()):
            verb = "took away" if name in self.kinds else "added"
            raise TrialFailed(f"the method {verb} the module {name!r}{_UNDO}")
        different = changed(self.facts, facts)
        for name in (name for name, attribute in different if attribute == "class"):
            kind = type(model.get_submodule(name)).__name__
            raise TrialFailed(f"the method put a {kind} in the place of {self._place(name)}{_UNDO}")
        found = _described(dict(_tensors(model)))
        for place in sorted({*found, *self.tensors}):
            if found.get(place) != self.tensors.get(place):
                raise TrialFailed(
                    "the method added, took away or reshaped the parameter or buffer "
                    f"{place[1]!r} of {self._place(place[0])}{_UNDO}"
                )
        for name, attribute in different:
            if attribute != "p" or not isinstance(model.get_submodule(name), _DropoutNd):
                raise TrialFailed(
                    f"the method changed the attribute {attribute!r} of {self._place(name)}{_UNDO}"
                )

    def restore_memory(self, model: nn.Module) -> None:
        """Give every tensor memory of its own, in the order it was built with, which may decide bits."""
        with torch.no_grad():
            for place, tensor in _tensors(model):
                own = torch.empty_strided(
                    tensor.shape, self.strides[place], dtype=tensor.dtype, device=tensor.device
                )
                tensor.data = own.copy_(tensor)

    def _place(self, name: str) -> str:
        return f"the module {name!r} ({self.kinds[name]})" if name else "the network itself"


def _tensors(model: nn.Module) -> Iterator[tuple[Place, Tensor]]:
    """Yield the parameters and buffers of each module; one that is None belongs to no module."""
    for name, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            yield from (((name, n), tensor) for n, tensor in table.items() if tensor is not None)


def _described(tensors: Mapping[Place, Tensor]) -> dict[Place, tuple[object, ...]]:
    return {place: (type(t), tuple(t.shape), t.dtype) for place, t in tensors.items()}


# -- torch's ways to compute a weight of others ---------------------------------------------------


def _computed(module: nn.Module) -> frozenset[str]:
    """Return the tensors of a module that are computed of others, in any of torch's three ways."""
    new = set(module.parametrizations) if parametrize.is_parametrized(module) else set()  # type: ignore[arg-type]
    hooks = module._forward_pre_hooks.values()
    return frozenset(new) | {
        hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name
        for hook in hooks
        if isinstance(hook, prune.BasePruningMethod | WeightNorm)
    }


def _write_out(module: nn.Module, tensor: str) -> None:
    if parametrize.is_parametrized(module, tensor):
        parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)
        return
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == tensor:
            prune.remove(module, tensor)  # type: ignore[no-untyped-call]
        elif isinstance(hook, WeightNorm) and hook.name == tensor:
            remove_weight_norm(module, tensor)
