"""Weights that a network starts from: torchvision's published ones, or a safetensors file."""

import errno
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bench.errors import UsageError
from bench.graph.structure import Layout
from bench.regular_file import check_regular
from bench.store.results import file_digest
from bench.store.tensor_files import NoTensorFile, TensorFile
from bench.training.fitting_weights import as_own, fresh_names, named_as_own
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
        try:
            check_regular(path)
            return f"{_OF_A_FILE}{file_digest(path)[:16]}"
        except OSError as error:
            raise UsageError(f"--weights {given}: {_why(error)}") from error
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
        with _told(f"--weights {file}"):
            opened = TensorFile(file)
            return {name: opened.tensor(name) for name in opened.names}
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


def check_file(file: Path, network: nn.Module, layout: Layout, model: str) -> tuple[str, ...]:
    """Refuse a file that does not fit a network, or holds what no weight can be.

    Names and shapes come first; then tensors are read one by one, so that memory holds but one.

    Returns:
        Names of what the file has for other classes, and which stays as initialised.

    Raises:
        UsageError: names the first tensor that is missing, too many, of another shape or type, or
            not finite.
    """
    what = f"--weights {file} does not fit {model}"
    own = network.state_dict()
    with _told(f"--weights {file}"):
        opened = TensorFile(file)
        names = named_as_own(opened.names, own)
        shapes = {names[name]: opened.shape(name) for name in opened.names}
        fresh = fresh_names(shapes, own, layout, what)
        for name in opened.names:
            as_own(opened.tensor(name), own[names[name]].dtype, name, f"--weights {file}")
    return fresh


def fitted(
    weights: Mapping[str, Tensor], network: nn.Module, layout: Layout, what: str
) -> FittedWeights:
    """Make a whole state of a network out of weights; a classifier of another size stays fresh.

    Raises:
        UsageError: something else than the classifier differs, or a weight is no finite number.
    """
    own = network.state_dict()
    names = named_as_own(weights, own)
    fresh = fresh_names({names[k]: tuple(v.shape) for k, v in weights.items()}, own, layout, what)
    state = {k: v.clone() for k, v in own.items()}
    for name, tensor in weights.items():
        if names[name] not in fresh:
            state[names[name]] = as_own(tensor, own[names[name]].dtype, name, what)
    return FittedWeights(state, fresh)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say of a file that cannot be read why.

    Raises:
        UsageError: it is no safetensors file, or cannot be read.
    """
    try:
        yield
    except NoTensorFile as error:
        raise UsageError(f"{what} is not a safetensors file: it is {error}") from error
    except OSError as error:
        raise UsageError(f"{what}: {_why(error)}") from error


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.strerror == os.strerror(errno.ENOENT):
        return "there is no such file"
    return f"it cannot be read ({error.strerror})"
