"""What is exported is loaded by programs that know nothing of us, and gives the same logits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_networks import Blobs, Residual, lenet
from tiers import slow
from torch import Tensor, nn
from torch.nn import functional as F

from bench.choices import Coupling
from bench.errors import UsageError
from bench.graph.trace import layout_of
from bench.pruning.hard_mask import zero
from bench.store.trial_identity import TrialSpec
from bench.sweep import export_network as exporting
from bench.sweep.export_network import ExportFailed, export
from bench.sweep.reload import Rebuilt

ONNX_ALONE = """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
images = np.load("images.npy")
np.save("logits.npy", session.run(["logits"], {"images": images})[0])
np.save("first.npy", session.run(["logits"], {"images": images[:1]})[0])
assert session.get_inputs()[0].shape[0] == "batch"
assert not {"bench", "torch"} & set(sys.modules)
"""
TORCH_ALONE = """
import runpy, sys, numpy as np, torch
network = runpy.run_path("load.py")["network"]
images = torch.from_numpy(np.load("images.npy"))
np.save("logits.npy", network(images).detach().numpy())
np.save("first.npy", network(images[:1]).detach().numpy())
assert not {"bench", "onnx", "torch_pruning", "torchvision"} & set(sys.modules)
"""


class Untraceable(nn.Module):
    """A forward that counts its images, which torch.fx refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 64)
        return self.head(F.relu(self.hidden(x)))


class Baked(nn.Module):
    """A forward that takes one image, or two."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(2 if x.shape[0] > 1 else 1, 64))


def a_trial(network: nn.Module, coupling: Coupling = "tied", share: float = 0.5) -> Rebuilt:
    """A network with random masks and statistics, as if a trial had left it so."""
    draws = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.3, generator=draws)
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=draws)
            nn.init.normal_(module.bias, 0.0, 0.3, generator=draws)
    layout = layout_of(network, torch.zeros(1, 1, 8, 8), coupling)
    masks = {}
    for site in layout.sites:
        if not site.is_input and share < 1:
            masks[site.name] = torch.rand(site.size, generator=draws) < share
            masks[site.name][:2] = torch.tensor([True, False])
    zero(network, layout, masks)
    spec = TrialSpec("dropnet", 1, "small", "blobs", 0)
    return Rebuilt(spec, network.eval(), layout, masks, Blobs(), (1, 8, 8))


def alone(folder: Path, code: str, trial: Rebuilt) -> dict[str, Any]:
    """Run code beside an exported network in a process of its own; compare the logits."""
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    np.save(folder / "images.npy", images.numpy())
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = trial.network(images).numpy()
    np.testing.assert_allclose(np.load(folder / "logits.npy"), expected, atol=1e-4)
    np.testing.assert_allclose(np.load(folder / "first.npy"), expected[:1], atol=1e-4)
    facts: dict[str, Any] = json.loads((folder / "widths.json").read_text())
    return facts


@pytest.mark.parametrize(
    ("form", "code", "coupling"),
    [("onnx", ONNX_ALONE, "branch"), slow("onnx", ONNX_ALONE, "tied"),
     slow("torch", TORCH_ALONE, "branch"), slow("torch", TORCH_ALONE, "tied")],
)  # fmt: skip
def test_a_residual_network_runs_without_us(tmp_path: Path, form, code, coupling) -> None:
    trial = a_trial(Residual(), coupling)
    done = export(trial, form, tmp_path / "out")
    assert done.parameters_after < done.parameters_before
    assert done.largest_difference < 1e-5
    facts = alone(done.folder, code, trial)
    for name, widths in facts["layers"].items():
        lost = widths["units_before"] - widths["units_after"]
        assert (lost > 0) == (name != "head")


@pytest.mark.parametrize(("form", "code"), [("torch", TORCH_ALONE), ("onnx", ONNX_ALONE)])
def test_a_lenet_runs_without_us(tmp_path: Path, form: exporting.Form, code: str) -> None:
    trial = a_trial(lenet())
    done = export(trial, form, tmp_path / "deep" / "out")
    facts = alone(done.folder, code, trial)
    assert facts["parameters_after"] == done.parameters_after < facts["parameters_before"]
    assert facts["input"]["shape"] == ["batch", 1, 8, 8]
    assert facts["input"]["mean"] == [0.5]
    assert facts["classes"] == 4
    if form == "torch":
        state = load_file(done.folder / "weights.safetensors")
        assert state["0.weight"].shape[0] == facts["layers"]["0"]["units_after"]
        assert sum(t.numel() for t in state.values()) == done.parameters_after


@pytest.mark.parametrize(
    ("form", "code"),
    [("onnx", ONNX_ALONE), slow("torch", TORCH_ALONE)],
)
def test_a_network_without_units_is_exported_whole(tmp_path: Path, form, code) -> None:
    trial = a_trial(Untraceable())
    assert trial.layout.graph is None
    done = export(trial, form, tmp_path)
    assert done.parameters_after == done.parameters_before
    assert "cannot be traced" in done.why_whole
    alone(done.folder, code, trial)


def test_a_second_form_joins_the_first(tmp_path: Path) -> None:
    trial = a_trial(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4)))
    first = export(trial, "torch", tmp_path)
    second = export(trial, "onnx", tmp_path)
    assert first.folder == second.folder
    names = {f.name for f in first.folder.iterdir()}
    assert names == {"network.pt2", "weights.safetensors", "load.py", "network.onnx", "widths.json"}
    assert [f.name for f in tmp_path.iterdir()] == [first.folder.name]
    assert set(first.files) <= names


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_a_network_for_one_batch_size_is_refused(tmp_path: Path, form: exporting.Form) -> None:
    with pytest.raises(ExportFailed, match="fixed number of images"):
        export(a_trial(Baked()), form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [1e-2, float("nan")])
def test_a_file_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch, wrong) -> None:
    trial = a_trial(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4)))
    monkeypatch.setattr(exporting, "_reload_torch", lambda f: lambda x: trial.network(x) + wrong)
    with pytest.raises(ExportFailed, match="other logits"):
        export(trial, "torch", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(exporting, "_reload_torch", lambda f: lambda x: trial.network(x)[:2])
    with pytest.raises(ExportFailed, match="other logits"):
        export(trial, "torch", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    trial = a_trial(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(UsageError, match=r"pip install 'prunebench\[onnx\]'"):
        export(trial, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    trial = a_trial(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(UsageError, match="--out"):
        export(trial, "torch", tmp_path / "file" / "out")


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "ONE_FILE_BYTES", 100)
    trial = a_trial(nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)))
    done = export(trial, "onnx", tmp_path)
    assert set(done.files) == {"network.onnx", "network.onnx.data", "widths.json"}
    alone(done.folder, ONNX_ALONE, trial)
