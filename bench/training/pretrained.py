"""Weights that a network starts from: torchvision's published ones, or a safetensors file."""

import hashlib
import pickle
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import UsageError
from bench.graph.structure import Layout
from bench.training.network import PublishedWeights

_OF_A_FILE = "sha256:"


@dataclass(frozen=True)
class FittedWeights:
    """Weights that fit a network.

    Attributes:
        tensors: a whole state of the network.
        fresh: names of what the weights had in another shape: a classifier for other classes. It
            is as initialised, so the network has to be trained before it is of use.
    """

    tensors: dict[str, Tensor]
    fresh: tuple[str, ...] = ()


def identity_of(model: str, given: str, published: PublishedWeights | None = None) -> str:
    """Return the identity of weights in a trial's specification: a published name or a file's hash.

    Args:
        model: the network's name.
        given: `DEFAULT`, a published name such as `IMAGENET1K_V1`, or a safetensors file.
        published: finds the network's published weights.

    Raises:
        UsageError: there is no such file, or the network has no such weights.
    """
    path = Path(given)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UsageError(f"--weights {given}: there is no such file")
        return f"{_OF_A_FILE}{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if path.exists() or path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        raise UsageError(
            f"--weights {given}: only safetensors files are read, because a pickle can run anything; "
            "convert it with safetensors.torch.save_file(model.state_dict(), 'FILE.safetensors')"
        )
    if published is None:
        raise UsageError(
            f"--weights {given}: {model} has no published weights; give a file FILE.safetensors, or "
            "a model torchvision:NAME"
        )
    return published(given)[0]


def is_of_a_file(identity: str) -> bool:
    """Return True where an identity stands for a file's content, not for published weights."""
    return identity.startswith(_OF_A_FILE)


def load(
    model: str, identity: str, file: Path | None, published: PublishedWeights | None = None
) -> dict[str, Tensor]:
    """Read the weights that an identity stands for.

    Raises:
        UsageError: the file changed, or the published weights cannot be downloaded.
    """
    if file is not None:
        if identity_of(model, str(file)) != identity:
            raise UsageError(f"--weights {file}: the file changed since the run was planned")
        try:
            return load_file(file)
        except SafetensorError as error:
            raise UsageError(f"--weights {file} is not a safetensors file: {error}") from error
    if published is None:
        raise UsageError(
            f"{model} has no published weights {identity} any more; give --weights FILE.safetensors"
        )
    try:
        with redirect_stdout(sys.stderr):  # torch says there what it downloads; ours may be JSON
            return published(identity)[1]()
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).partition("\n")[0]
        raise UsageError(
            f"The weights {identity} of {model} cannot be downloaded ({first}); put the file into "
            "torch's hub cache, or give --weights FILE.safetensors"
        ) from error


def check_file(file: Path, network: nn.Module, layout: Layout, model: str) -> None:
    """Refuse a file that does not fit a network, from its header alone.

    Raises:
        UsageError: names the first tensor that is missing, too many or of another shape.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {k: tuple(opened.get_slice(k).get_shape()) for k in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(f"--weights {file} is not a safetensors file: {error}") from error
    _fresh(shapes, network, layout, f"--weights {file} does not fit {model}")


def fitted(
    weights: Mapping[str, Tensor], network: nn.Module, layout: Layout, what: str
) -> FittedWeights:
    """Make a whole state of a network out of weights; a classifier of another size stays fresh.

    Raises:
        UsageError: something else than the classifier differs.
    """
    fresh = _fresh({k: tuple(v.shape) for k, v in weights.items()}, network, layout, what)
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state |= {k: v for k, v in weights.items() if k not in fresh}
    return FittedWeights(state, fresh)


def _fresh(
    shapes: Mapping[str, tuple[int, ...]], network: nn.Module, layout: Layout, what: str
) -> tuple[str, ...]:
    own = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    for name in own:
        if name not in shapes and name not in counters:
            raise UsageError(f"{what}: the tensor {name!r} is missing")
    for name in shapes:
        if name not in own:
            raise UsageError(f"{what}: the network has no tensor {name!r}")
    other = tuple(name for name in own if name in shapes and shapes[name] != own[name])
    last = layout.layers[-1].name
    classifier = tuple(n for n in (f"{last}.weight", f"{last}.bias") if n in own)
    for name in other:
        if name not in classifier:
            raise UsageError(
                f"{what}: {name!r} has the shape {shapes[name]}, the network's is {own[name]}"
            )
    return classifier if other else ()
