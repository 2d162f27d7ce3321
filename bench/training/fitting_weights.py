"""Names, shapes and values of given weights against a network's own."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from bench.errors import UsageError
from bench.graph.structure import Layout
from bench.store.tensor_files import shown

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_SAVED_FROM = {
    "module": "a network inside DataParallel",
    "state_dict": "a checkpoint's dictionary",
    "model": "a network inside another module",
    "_orig_mod": "a network that torch.compile made",
}


def named_as_own(given: Iterable[str], own: Collection[str]) -> dict[str, str]:
    """Return the network's name of each given tensor: without a prefix that all of them have.

    A prefix is taken off only where the rest is just the network's own names; else all stay.
    """
    names = list(given)
    plain = {name: name for name in names}
    needed = {name for name in own if not _is_counter(name)}
    if needed <= plain.keys() or not names:
        return plain
    first = names[0].split(".")
    for parts in range(1, len(first)):
        prefix = ".".join(first[:parts]) + "."
        if not all(name.startswith(prefix) for name in names):
            break
        cut = {name: name.removeprefix(prefix) for name in names}
        if needed <= set(cut.values()) <= set(own):
            return cut
    return plain


def fresh_names(
    shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, Tensor], layout: Layout, what: str
) -> tuple[str, ...]:
    """Return what stays as initialised: nothing, or a classifier that is for other classes.

    Raises:
        UsageError: names the first tensor that is missing, too many or of another shape.
    """
    missing = [name for name in own if name not in shapes and not _is_counter(name)]
    if missing:
        raise UsageError(
            f"{what}: the tensor {shown(missing[0])} is missing{_more(missing)}{_prefix(shapes, own)}"
        )
    extra = [name for name in shapes if name not in own]
    if extra:
        raise UsageError(f"{what}: the network has no tensor {shown(extra[0])}{_nor(extra)}")
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    other = tuple(name for name in own if name in shapes and shapes[name] != expected[name])
    last = layout.layers[-1].name
    classifier = tuple(n for n in (f"{last}.weight", f"{last}.bias") if n in own)
    for name in other:
        # Other classes are other rows: what a row reads is the same.
        if name not in classifier or shapes[name][1:] != expected[name][1:] or not shapes[name]:
            raise UsageError(
                f"{what}: {shown(name)} has the shape {shapes[name]}, the network's is {expected[name]}"
            )
    return classifier if other else ()


def as_own(tensor: Tensor, dtype: torch.dtype, name: str, what: str) -> Tensor:
    """Return a tensor in the type that the network has for it.

    Raises:
        UsageError: it would not be the same numbers, or some are not finite.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if dtype in _FLOATS:
        if tensor.dtype not in _FLOATS:
            raise UsageError(
                f"{what}: {shown(name)} is of {kind}, and weights are float64, float32, float16 or "
                "bfloat16; save them as one of these, quantised ones with their scale multiplied in"
            )
        found = tensor.to(dtype)
        if not bool(torch.isfinite(found).all()):
            raise UsageError(
                f"{what}: {shown(name)} holds {_not_finite(tensor, dtype)}; save the weights again "
                "from a training that did not diverge"
            )
        return found
    if tensor.dtype == dtype:
        return tensor
    own = str(dtype).removeprefix("torch.")
    if tensor.is_complex() or tensor.dtype not in (*_FLOATS, *_WHOLE):
        raise UsageError(f"{what}: {shown(name)} is of {kind}, and the network's is {own}")
    found = tensor.to(dtype)
    if not torch.equal(found.double(), tensor.double()):
        raise UsageError(
            f"{what}: {shown(name)} holds numbers of {kind} that {own}, the network's, has not"
        )
    return found


def _not_finite(tensor: Tensor, dtype: torch.dtype) -> str:
    if bool(tensor.isnan().any()):
        return "NaN, no number"
    if bool(tensor.isinf().any()):
        return "an infinite number"
    return f"a number beyond {str(dtype).removeprefix('torch.')}"


def _is_counter(name: str) -> bool:
    """Return True for a count of batches, which older files do not have."""
    return name.endswith("num_batches_tracked")


def _more(names: list[str]) -> str:
    return f", as are {len(names) - 1} more" if len(names) > 1 else ""


def _nor(names: list[str]) -> str:
    return f", nor {len(names) - 1} others of the file" if len(names) > 1 else ""


def _prefix(shapes: Mapping[str, object], own: Collection[str]) -> str:
    """Say of a prefix that some tensors have and the network's do not where it may come from."""
    starts = {name.partition(".")[0] for name in own}
    for prefix, source in _SAVED_FROM.items():
        having = [name for name in shapes if name.startswith(f"{prefix}.")]
        if having and prefix not in starts:
            return (
                f", and {shown(having[0])} is there: names of {source} begin with {prefix!r} and a dot; "
                "take that off before saving, and what else does not belong to the network"
            )
    return ""
