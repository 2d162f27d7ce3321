"""`bench export` and `bench show TRIAL` on trials that a run left behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands_shell import SMOKE, Bench

from bench.store.records import sealed
from bench.store.results import write_json
from bench.store.trial_identity import TrialSpec

MY_NET = '''
"""My own network."""
import torch
from torch import nn
from torch.nn import functional as F
from bench.api import Recipe, network


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.deep, self.deep_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.last, self.head = nn.Conv2d(6, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.deep_norm(self.deep(x)) + x)
        return self.head(F.relu(self.last(x)).mean([2, 3]))


@network(recipe=Recipe(lr=0.05, batch_size=16, epochs=1))
def mine(num_classes, in_shape):
    return Net(num_classes, in_shape[0])


def build(num_classes, in_shape):
    return Net(num_classes, in_shape[0])
'''
SHORT = ("--budget", "smoke", "--seeds", "0", "--jobs", "1", "--targets", "2", "--controls", "none")
LOADS = """
import runpy, sys, torch
network = runpy.run_path("load.py")["network"]
for n in (1, 3, 8):
    assert network(torch.randn(n, *map(int, sys.argv[1:]))).shape == (n, 10)
assert not any(name.partition(".")[0] == "bench" for name in sys.modules)
"""


def records(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(folder.glob("results/*/trials/*/result.json"))
    return {r["spec"]["method"]: r for r in (json.loads(f.read_text()) for f in files)}


def test_a_pruned_trial_is_taken_away(bench: Bench, tmp_path: Path) -> None:
    assert bench("run", "--methods", "dropnet", "--targets", "2", *SMOKE).code == 0
    record = records(tmp_path)["dropnet"]
    shell = bench("export", record["id"][:6], "--to", "onnx")
    assert shell.code == 0, shell.err
    folder = tmp_path / "exports" / record["id"]
    facts = json.loads((folder / "widths.json").read_text())
    assert facts["parameters_after"] == record["metrics"]["params_effective"]
    assert facts["parameters_before"] == record["metrics"]["params_dense"]
    size = (folder / "network.onnx").stat().st_size
    assert f"{size:,} bytes" in shell.out
    assert f"{facts['parameters_after']:,} after" in shell.out
    assert "largest difference" in shell.out

    sites = record["metrics"]["units"]
    shown = bench("show", record["id"][:6])
    for text in ("dropnet", "fc-20-20", "mnist-5k", "units left", "total", "cannot lose units"):
        assert text in shown.out
    facts = json.loads(bench("show", record["id"], "--json").out)
    assert facts["metrics"] == record["metrics"]
    assert facts["totals"]["params_left"] == record["metrics"]["params_effective"]
    assert facts["totals"]["macs_left"] == record["metrics"]["macs_effective"]
    rows = {row["name"]: row for row in facts["layers"]}
    for name, units in sites.items():
        assert (rows[name]["units_kept"], rows[name]["units"]) == (units["kept"], units["of"])
    assert "outputs are the network's" in list(rows.values())[-1]["why_not"]

    (tmp_path / "file").write_text("in the way")
    assert bench("export", record["id"], "--to", "torch", "--out", "file").code == 2
    refused_when_tampered(bench, tmp_path, record["id"])


def refused_when_tampered(bench: Bench, folder: Path, name: str) -> None:
    stored = next(folder.glob(f"results/*/trials/{name}/model.safetensors"))
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    shell = bench("export", name, "--to", "torch", "--out", "other")
    assert shell.code == 2
    assert "model.safetensors is not the file that its record was written with" in shell.err
    assert not (folder / "other").exists()
    assert bench("show", name).code == 0  # the record itself is sound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dataset", "shape", "method"),
    [
        ("my_net.py:build", "digits", (1, 8, 8), "dropnet"),
        ("mine", "digits", (1, 8, 8), "magnitude"),
        ("lenet-5-khmo", "mnist-5k", (1, 28, 28), "dropnet"),
        ("lenet-5-khmo", "mnist-5k", (1, 28, 28), "dense"),
    ],
)
def test_networks_are_loaded_without_us(
    bench: Bench, tmp_path: Path, model: str, dataset: str, shape: tuple[int, ...], method: str
) -> None:
    (tmp_path / "my_net.py").write_text(MY_NET)
    plugin = ("--plugin", "my_net.py") if model == "mine" else ()
    ran = bench("run", "--methods", method, "--models", model, "--datasets", dataset, *plugin,
                *SHORT, "--set", "recipe.epochs=1")  # fmt: skip
    assert ran.code == 0, ran.err
    record = records(tmp_path)[method]
    for form in ("torch", "onnx"):
        shell = bench("export", record["id"], "--to", form, *plugin)
        assert shell.code == 0, shell.err
        assert "Note" not in shell.err
    command = [sys.executable, "-I", "-c", LOADS, *map(str, shape)]
    folder = tmp_path / "exports" / record["id"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(bench("show", record["id"], "--json", *plugin).out)
    assert facts["totals"]["params_left"] == record["metrics"]["params_effective"]
    assert facts["totals"]["params_dense"] == record["metrics"]["params_dense"]
    assert facts["totals"]["macs_left"] == record["metrics"]["macs_effective"]
    if model != "lenet-5-khmo":
        file = tmp_path / "my_net.py"
        file.write_text(file.read_text().replace("self.norm(self.stem(x))", "self.stem(x)"))
        command = [sys.executable, "-m", "bench", "export", record["id"], "--to", "torch", *plugin]
        changed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert changed.returncode == 0, changed.stderr
        assert "has changed since" in changed.stderr
        assert "built with the code that was run" in changed.stderr


def planned(folder: Path, *ids: str) -> Path:
    for name in ids:
        (folder / "trials" / name).mkdir(parents=True)
    write_json(folder / "plan.json", {"schema": 1, "trials": {}})
    return folder


def test_an_id_that_is_wrong_or_not_enough_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert "no results" in bench("export", "abc", "--to", "onnx").err
    planned(tmp_path / "results" / "default", "abcd00000000", "abce00000000")
    write_json(tmp_path / "results/default/trials/abce00000000/error.json", {"error": "on purpose"})
    for name, message in (
        ("abc", "2 trials in"),
        ("f00", "Unknown trial"),
        ("", "Unknown trial"),
        ("abcd", "is not finished, it is started"),
        ("ABCE", "it is failed: on purpose"),
    ):
        shell = bench("export", name, "--to", "torch")
        assert shell.code == 2
        assert message in shell.err
        assert "Traceback" not in shell.err
    assert not (tmp_path / "exports").exists()
    assert bench("export", "abcd").code == 2
    assert "'torch', 'onnx'" in bench("export", "abcd", "--to", "pickle").err


def finished_without_a_network(folder: Path) -> str:
    spec = TrialSpec("dense", 1, "none.py:build", "digits", 0)
    metrics = {"top1": 97.5, "n_test": 10, "collapsed": False, "params_effective": 5,
               "params_dense": 10, "compression": 2.0, "pruning_rate": 0.5, "macs_effective": 3,
               "macs_dense": 6, "speedup_theoretical": 2.0, "epochs_total": 1,
               "images_seen": 8}  # fmt: skip
    home = planned(folder, spec.id) / "trials" / spec.id
    for name in ("model.safetensors", "masks.safetensors"):
        (home / name).write_bytes(b"none")
    record = {"schema": 1, "id": spec.id, "spec": spec.as_json(), "metrics": metrics,
              "unreachable": False, "files": {}}  # fmt: skip
    write_json(home / "result.json", sealed(record))
    return spec.id


def test_a_trial_is_shown_though_its_network_is_gone(bench: Bench, tmp_path: Path) -> None:
    name = finished_without_a_network(tmp_path / "results" / "default")
    shell = bench("show", name)
    assert shell.code == 0
    assert "97.50 % on 10 test images" in shell.out
    assert "No table of its layers" in shell.out
    facts = json.loads(bench("show", name, "--json").out)
    assert facts["no_layers"]
    assert facts["metrics"]["top1"] == 97.5
    assert bench("export", name, "--to", "torch").code == 2


def test_a_missing_extra_says_what_to_install(bench: Bench, tmp_path: Path, monkeypatch) -> None:
    name = finished_without_a_network(tmp_path / "results" / "default")
    monkeypatch.setitem(sys.modules, "onnx", None)
    shell = bench("export", name, "--to", "onnx")
    assert shell.code == 2
    assert "pip install 'prunebench[onnx]'" in shell.err


@pytest.mark.parametrize("state", ["started", "failed"])
def test_an_unfinished_trial_is_shown_without_torch(tmp_path: Path, state: str) -> None:
    home = planned(tmp_path / "results" / "default", "abcd00000000") / "trials" / "abcd00000000"
    if state == "failed":
        write_json(home / "error.json", {"error": "on purpose", "traceback": ""})
    command = [sys.executable, "-X", "importtime", "-m", "bench"]
    for arguments in (["show", "abcd"], ["export", "f00", "--to", "onnx"], ["export", "--help"]):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
        imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
        assert "click" in imported
        assert not imported & {"torch", "numpy", "onnx"}
        if arguments[0] == "show":
            assert f"status: {state}" in done.stdout
