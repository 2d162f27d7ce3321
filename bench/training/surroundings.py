"""The surroundings of a network that no phase's key can see: hooks, patched forwards, global switches.

Allowed are the hooks that a network has when it is built, and the harness's own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn, overrides
from torch._C import _len_torch_dispatch_stack, _len_torch_function_stack
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.utils import _python_dispatch

from bench.errors import TrialFailed

_USE = {
    "forward": "an input is changed by Callback.input, everything else by a module of your own in the "
    "network's file",
    "gradient": "use Callback.gradients, which sees every gradient after the backward pass",
    "other": "take it off",
}
UNSEEN = "no phase's key can see it, and other methods would get its results"
NOT_MEASURED = (
    "what is measured is built from the network's code and its stored tensors, without it"
)
# The dictionaries of hooks that every module has.
_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
_GLOBAL_HOOKS = [
    (module, name)
    for module in (torch_module, torch_optimizer)
    for name, value in vars(module).items()
    if name.startswith("_global_") and name.endswith("_hooks") and isinstance(value, Mapping)
]


@dataclass(frozen=True)
class Surroundings:
    """Everything that stood around a network when its trial began.

    Attributes:
        hooks: by the object, so that another hook in the place of one is seen.
        forwards: the function that each module's class had as its forward.
        switches: torch's global settings, by their name in a sentence.
    """

    hooks: dict[int, object] = field(repr=False)
    forwards: dict[type[nn.Module], object] = field(repr=False)
    switches: dict[str, object]

    @classmethod
    def of(cls, model: nn.Module) -> "Surroundings":
        hooks = {id(hook): hook for hook, _, _ in (*_module_hooks(model), *_global_hooks())}
        forwards: dict[type[nn.Module], object] = {
            type(m): type(m).forward for m in model.modules()
        }
        return cls(hooks, forwards, _switches())

    def refuse_changes(self, model: nn.Module, when: str, because: str = UNSEEN) -> None:
        """Refuse what was not there at the trial's beginning.

        Args:
            when: for the sentence, such as "before a training".
            because: why it is refused.

        Raises:
            TrialFailed: it names the first thing found, and what to use instead.
        """
        for hook, where, use in (*_module_hooks(model), *_global_hooks(), *_tensor_hooks(model)):
            if id(hook) not in self.hooks:
                raise TrialFailed(f"{where} {when}: {because}; {_USE[use]}")
        self._refuse_patches(model, when, because)
        for name, value in _switches().items():
            if value != self.switches[name]:
                raise TrialFailed(
                    f"{name} is {value} {when}, and was {self.switches[name]} at the trial's beginning: "
                    f"{because}; set it back"
                )

    def restore(self) -> None:
        """Set back what outlives a network, for the next trial of this process."""
        for module, name in _GLOBAL_HOOKS:
            hooks = getattr(module, name)
            for key in [key for key, hook in hooks.items() if id(hook) not in self.hooks]:
                del hooks[key]
        for cls, forward in self.forwards.items():
            if cls.forward is not forward:
                cls.forward = forward  # type: ignore[assignment]
        for name, switch in _SWITCHES.items():
            if switch.set is not None and switch.get() != self.switches[name]:
                switch.set(self.switches[name])

    def _refuse_patches(self, model: nn.Module, when: str, because: str) -> None:
        for name, module in model.named_modules():
            known = self.forwards.setdefault(type(module), type(module).forward)
            if "forward" in vars(module) or type(module).forward is not known:
                raise TrialFailed(
                    f"the forward of {name or 'the network'} was replaced {when}: {because}; put a "
                    "module of a class of your own in its place, in the network's file"
                )


Found = tuple[object, str, str]  # a hook, where it stands, and what to use instead


def _module_hooks(model: nn.Module) -> Iterator[Found]:
    for name, module in model.named_modules():
        for kind in _HOOKS:
            use = "forward" if "forward" in kind else "gradient" if "backward" in kind else "other"
            for hook in (vars(module).get(kind) or {}).values():
                yield hook, f"a hook ({kind.strip('_')}) stands on {name or 'the network'}", use


def _global_hooks() -> Iterator[Found]:
    for module, name in _GLOBAL_HOOKS:
        for hook in (getattr(module, name) or {}).values():
            yield hook, f"a hook for all modules ({name.strip('_')}) is set", "other"


def _tensor_hooks(model: nn.Module) -> Iterator[Found]:
    for name, parameter in model.named_parameters():
        for kind in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            for hook in (getattr(parameter, kind, None) or {}).values():
                yield hook, f"a hook stands on the gradient of {name}", "gradient"


@dataclass(frozen=True)
class _Switch:
    """A global setting of torch.

    Attributes:
        get: returns what it is.
        set: makes it what `get` returned; None: only a context can.
    """

    get: Callable[[], object]
    set: Callable[[Any], object] | None = None


def _attribute(of: object, name: str) -> _Switch:
    return _Switch(lambda: getattr(of, name), lambda value: setattr(of, name, value))


def _stack(length: Callable[[], int], pop: Callable[[], object]) -> _Switch:
    """Modes that were entered; those of a method are left by taking them off."""

    def leave(wanted: int) -> None:
        while length() > wanted:
            pop()

    return _Switch(length, leave)


def _leave_function_mode() -> None:
    if getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None) is not None:
        torch.set_default_device(None)
    else:
        overrides._pop_mode()  # type: ignore[no-untyped-call]


_SWITCHES = {
    "torch's default dtype": _Switch(torch.get_default_dtype, torch.set_default_dtype),
    "grad mode": _Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    "inference mode": _Switch(torch.is_inference_mode_enabled),
    "autocast on CPUs": _Switch(
        lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)
    ),
    "autocast on GPUs": _Switch(
        lambda: torch.is_autocast_enabled("cuda"), lambda on: torch.set_autocast_enabled("cuda", on)
    ),
    "use_deterministic_algorithms": _Switch(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "the number of torch's threads": _Switch(torch.get_num_threads, torch.set_num_threads),
    "the precision of matrix products": _Switch(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark"),
    "cudnn.allow_tf32": _attribute(torch.backends.cudnn, "allow_tf32"),
    "the number of dispatch modes": _stack(_len_torch_dispatch_stack, _python_dispatch._pop_mode),
    "the number of function modes": _stack(_len_torch_function_stack, _leave_function_mode),
}


def _switches() -> dict[str, object]:
    return {name: switch.get() for name, switch in _SWITCHES.items()}
