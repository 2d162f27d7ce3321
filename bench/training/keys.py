"""The key of a phase: everything that its work reads of a trial; and what no key could see is refused."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from bench.errors import TrialFailed
from bench.seeds import derive
from bench.store.phase_cache import key_of

if TYPE_CHECKING:
    from bench.training.trial import Trial

T = TypeVar("T")


def key_for(trial: "Trial", kind: str, facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash weights, buffers, masks, arguments and environment.

    Args:
        kind: `train` or `once`.
        facts: the arguments, as JSON.
        tensors: fields of a callback.
    """
    everything = {f"model/{k}": v for k, v in trial.model.state_dict().items()}
    everything |= {f"mask/{k}": v for k, v in trial.masks.touched.items()}
    everything |= {f"field/{k}": v for k, v in tensors.items()}
    facts |= {"environment": trial.setting.environment, "kind": kind}
    # Not among the tensors, but a method may have changed it.
    modules = trial.model.named_modules()
    facts["dropout"] = {n: m.p for n, m in modules if isinstance(m, _DropoutNd)}
    if kind != "train" or trial.masks.touched or "callback" in facts:
        # What sites there are; a plain training has none.
        facts["coupling"] = trial.layout.coupling
    return key_of(facts, everything)


def undisturbed(trial: "Trial", fn: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call with a generator of its own; what a reload could not repeat is refused.

    Raises:
        TrialFailed: masks or weights are not what they were before.
    """
    torch.manual_seed(derive(trial.setting.seed, "once"))
    before = trial.masks.version, [p._version for p in trial.model.parameters()]
    value = fn(trial, *args)
    if before != (trial.masks.version, [p._version for p in trial.model.parameters()]):
        raise TrialFailed(
            f"{fn.__qualname__} changed masks or weights inside once, which a later run that "
            "loads its result would not see; return scores and change the network outside"
        )
    return value
