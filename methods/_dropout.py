"""Dropout on the hidden units of linear layers, put into a network for the length of a training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.functional import dropout

from bench.api import Trial


@contextmanager
def hidden_dropout(trial: Trial, keep_prob: float | None) -> Iterator[None]:
    """Drop out the hidden units of linear layers in training, and switch off the network's own dropout.

    A unit is dropped where linear layers read it, after its activation. None: nothing is changed.
    """
    if keep_prob is None:
        yield
        return

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], 1 - keep_prob, module.training), *inputs[1:])

    own = {m: m.p for m in trial.model.modules() if isinstance(m, nn.Dropout)}
    hooks = []
    for module in own:
        module.p = 0.0
    for name in _reading_linear_units(trial):
        hooks.append(trial.model.get_submodule(name).register_forward_pre_hook(drop))
    try:
        yield
    finally:
        for module, p in own.items():
            module.p = p
        for hook in hooks:
            hook.remove()


def _reading_linear_units(trial: Trial) -> list[str]:
    """Linear layers all of whose inputs are outputs of linear layers."""
    linear = {la.name for la in trial.layout.layers if not la.is_convolution}
    found = []
    for layer in trial.layout.layers:
        sources = {name for segment in layer.inputs for name, _ in segment.sources}
        if layer.name in linear and sources and sources <= linear:
            found.append(layer.name)
    return found
