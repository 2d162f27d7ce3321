"""Take a pruned network away: a smaller network in a file that other programs read, checked first."""

import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.errors import BenchError, UsageError
from bench.store.atomic import appearing, whole_file
from bench.sweep.reload import Rebuilt
from bench.system_errors import FULL, system_error_of

Form = Literal["torch", "onnx"]
Run = Callable[[Tensor], Tensor]
TOLERANCE = 1e-4  # of the largest logit, or of 1 where that is larger
ONE_FILE_BYTES = 2**31 - 2**24  # a protocol buffer's limit, less room for the graph
_BATCHES = (8, 1, 3)
_LOADER = '''"""Load the network; only torch is needed."""

from pathlib import Path

import torch

network = torch.export.load(Path(__file__).with_name("network.pt2")).module()
'''


class ExportFailed(BenchError):
    """The network cannot be written in this form, or what was written computes something else."""

    exit_code = 1


@dataclass(frozen=True)
class Exported:
    """The files that were written.

    Attributes:
        largest_difference: over all logits of random inputs, against the masked network.
        why_whole: why no unit could be removed; empty where some could.
    """

    folder: Path
    files: dict[str, int]
    parameters_before: int
    parameters_after: int
    largest_difference: float
    why_whole: str


def export(trial: Rebuilt, form: Form, out: Path) -> Exported:
    """Write a network into `out`/ID, after it was loaded again and gave the same logits.

    Dropped units are cut out of it, unless the network is one that none can be cut out of.

    Raises:
        ExportFailed: it cannot be written in this form or gives others; nothing is left behind.
        UsageError: the folder cannot be written.
    """
    plain = {"memory_format": torch.contiguous_format}
    masked = trial.network.to(**plain).eval()
    smaller = trial.smaller().to(**plain).eval()
    why_whole = trial.not_compacted or (trial.layout.why_no_sites if smaller is masked else "")
    networks = _Networks(trial, masked, smaller, why_whole)
    with appearing(out, trial.spec.id) as part:
        (_write_torch if form == "torch" else _write_onnx)(networks, part)
        _write_widths(networks, part)
        again = _reload_torch(part) if form == "torch" else _reload_onnx(part)
        largest = _checked(networks, again)
        files = {f.name: f.stat().st_size for f in sorted(part.iterdir())}
    before, after = _parameters(masked), _parameters(smaller)
    return Exported(out / trial.spec.id, files, before, after, largest, why_whole)


@dataclass(frozen=True)
class _Networks:
    """A trial with its network as it was measured, and as it is written."""

    trial: Rebuilt
    masked: nn.Module
    smaller: nn.Module
    why_whole: str


# -- forms -----------------------------------------------------------------------------------


def _write_torch(networks: _Networks, folder: Path) -> None:
    with _refusing(networks, "torch.export"):
        program = _program(networks.smaller, torch.zeros(2, *networks.trial.shape))
        content = io.BytesIO()  # to a file, torch ends the process where the disk is full
        torch.export.save(program, content)
    (folder / "network.pt2").write_bytes(content.getbuffer())
    state = {name: t.detach().contiguous().clone() for name, t in _state(networks.smaller).items()}
    with whole_file(folder / "weights.safetensors") as part:
        save_file(state, part)
    (folder / "load.py").write_text(_LOADER, encoding="utf-8")


def _program(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Trace a network for any batch size: by running its forward, else by reading its bytecode."""
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=dynamic)
    except Exception:  # running it makes a number of len(images); reading it does not
        return torch.export.export(network, (example,), dynamic_shapes=dynamic, strict=True)


def _reload_torch(folder: Path) -> Run:
    return torch.export.load(folder / "network.pt2").module()


def _write_onnx(networks: _Networks, folder: Path) -> None:
    need_onnx()
    size = sum(t.numel() * t.element_size() for t in _state(networks.smaller).values())
    with _refusing(networks, "ONNX"):
        torch.onnx.export(
            _program(networks.smaller, torch.zeros(2, *networks.trial.shape)), (), folder / "network.onnx",
            dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},),
            input_names=["images"], output_names=["logits"],
            external_data=size > ONE_FILE_BYTES,
        )  # fmt: skip


def _reload_onnx(folder: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "network.onnx", providers=["CPUExecutionProvider"]
    )

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def need_onnx() -> None:
    """Import what the ONNX form needs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--to onnx needs {error.name or 'onnx'}, which is not installed: "
            "pip install 'prunebench[onnx]'"
        ) from error


@contextmanager
def _refusing(networks: _Networks, form: str) -> Iterator[None]:
    """Tell in one sentence what stopped a form's exporter, which speaks of its own insides."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a failed attempt is logged at length
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # a user's network may hold anything
        if any(e and system_error_of(e) in FULL for e in (error, error.__cause__)):
            raise
        message = f"{error} {error.__cause__ or ''}"
        if "Constraints violated" in message:  # the batch is the only size that may vary
            why = "its forward only takes a fixed number of images at once"
        else:
            first = next((line for line in message.splitlines() if line.strip()), "")
            why = f"{type(error).__name__}: {first}"
        raise ExportFailed(
            f"{networks.trial.spec.model} cannot be written as {form}: {why}"
        ) from error
    finally:
        logging.disable(disabled)


# -- the facts beside the network, and the check ---------------------------------------------


def _write_widths(networks: _Networks, folder: Path) -> None:
    """Say what a user needs to feed the network, and how wide its layers are."""
    modules = dict(networks.smaller.named_modules())
    layers = {}
    for layer in networks.trial.layout.layers:
        weight = getattr(modules.get(layer.name), "weight", None)
        left = weight.shape[0] if isinstance(weight, Tensor) else 0
        layers[layer.name] = {"units_before": layer.weight_shape[0], "units_after": left}
    data = networks.trial.dataset
    channels, height, width = data.shape
    window = [round(side * data.crop_share) for side in (height, width)]
    facts = {
        "trial": networks.trial.spec.id,
        "label": networks.trial.spec.label,
        "model": networks.trial.spec.model,
        "dataset": networks.trial.spec.dataset,
        "classes": data.classes,
        "input": {
            "shape": ["batch", *networks.trial.shape],
            "dtype": "float32",
            "mean": data.mean,
            "std": data.std,
            "normalisation": f"(value / {data.stored_one:g} - mean) / std, per channel; a pixel is 0-255",
            "image": [channels, height, width],
            "centre_cut": window,
            "resized_to": networks.trial.shape[1:],
            "resizing": "bilinear, antialiased, after normalisation; nothing where sizes agree",
        },
        "task": data.task.name,
        "output": data.task.output_words,
        "parameters_before": _parameters(networks.masked),
        "parameters_after": _parameters(networks.smaller),
        "why_whole": networks.why_whole,
        "layers": layers,
    }
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (folder / "widths.json").write_text(text, encoding="utf-8")


def _checked(networks: _Networks, again: Run) -> float:
    """Compare the file, loaded again, with the networks it was made of; return the difference.

    Raises:
        ExportFailed: a logit differs.
    """
    draws = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in _BATCHES:
        images = torch.randn(count, *networks.trial.shape, generator=draws)
        with torch.no_grad():
            masked, smaller = (n(images.clone()) for n in (networks.masked, networks.smaller))
        try:
            logits = again(images.clone()).detach()
        except Exception as error:  # whatever runs the file may fail in any way
            first = str(error).partition("\n")[0]
            raise ExportFailed(
                f"what was written does not run on {count} images: {first}"
            ) from error
        for other, what in ((masked, "masked"), (smaller, "compact")):
            off = _difference(logits, other)
            allowed = TOLERANCE * max(1.0, float(other.abs().max()))
            if not off <= allowed:
                raise ExportFailed(
                    f"what was written gives other logits than the {what} network: they differ by "
                    f"{off:.3g}, {allowed:.3g} is allowed"
                )
        largest = max(largest, _difference(logits, masked))
    return largest


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    return float((one - other).abs().max())


# -- small steps -----------------------------------------------------------------------------


def _state(network: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = network.state_dict()
    return state


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
