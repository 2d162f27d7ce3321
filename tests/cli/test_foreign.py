"""A stranger's images, network and weights through the command line, in a temporary folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands_shell import Bench, Shell
from PIL import Image
from safetensors.torch import load_file, save_file

NETWORK = '''
"""My own networks."""
import torch
from torch import nn
from torch.nn import functional as F
from bench.api import Recipe, network


class Mine(nn.Module):
    """A residual stream, a joined branch, and a layer that is used twice."""

    def __init__(self, classes, channels):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.deep, self.deep_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 4, 1)
        self.shared = nn.Conv2d(10, 10, 1)
        self.last, self.head = nn.Conv2d(10, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.deep_norm(self.deep(x)) + x)
        x = torch.cat([x, F.relu(self.side(x))], 1)
        x = F.relu(self.shared(F.relu(self.shared(x))))
        return self.head(F.relu(self.last(x)).mean([2, 3]))


class Stream(nn.Module):
    """The same without the layer that is used twice, so that its branches can be dropped."""

    def __init__(self, classes, channels):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.deep, self.deep_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 4, 1)
        self.last, self.head = nn.Conv2d(10, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.deep_norm(self.deep(x)) + x)
        x = torch.cat([x, F.relu(self.side(x))], 1)
        return self.head(F.relu(self.last(x)).mean([2, 3]))


@network(recipe=Recipe(lr=0.05, batch_size=8, epochs=1), input_size=12)
def build(num_classes, in_shape):
    return Mine(num_classes, in_shape[0])


@network(recipe=Recipe(lr=0.05, batch_size=8, epochs=1), input_size=12)
def stream(num_classes, in_shape):
    return Stream(num_classes, in_shape[0])
'''
COMMON = ("--budget", "smoke", "--seeds", "0", "--jobs", "1", "--set", "recipe.epochs=1")
STREAM = ("--models", "my_net.py:stream", "--datasets", "imagefolder:photos")


@pytest.fixture
def foreign(bench: Bench, tmp_path: Path) -> Bench:
    """The command line in a folder with a network file and images of three classes."""
    (tmp_path / "my_net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("val", 4)):
        for label, name in enumerate(("ant", "bee", "cat")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 90, (20 + i % 3, 24, 3), dtype=np.uint8)
                pixels[:, :, label] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return bench


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(f.read_text()) for f in sorted(folder.glob("trials/*/result.json"))]


def ran(shell: Shell) -> Shell:
    assert shell.code == 0, shell.err
    return shell


def test_both_couplings_of_a_branching_network_run_and_are_told_apart(
    foreign: Bench, tmp_path: Path
) -> None:
    for coupling in ("tied", "branch"):
        ran(foreign("run", "--methods", "magnitude,random,dropnet", *STREAM, *COMMON, "--targets",
                    "1.5", "--coupling", coupling))  # fmt: skip
    found = records(tmp_path / "results" / "default")
    assert {r["spec"].get("coupling", "tied") for r in found} == {"tied", "branch"}
    (data,) = {r["spec"]["data"] for r in found}
    assert {r["spec"]["dataset"] for r in found} == {f"imagefolder:{data[:12]}"}
    for record in found:
        assert record["spec"]["recipe"]["augment"] == "flip+resized-crop"
        assert record["metrics"]["n_test"] == 12
        masks = load_file(
            tmp_path / "results" / "default" / "trials" / record["id"] / "masks.safetensors"
        )
        if record["spec"]["method"] == "dropnet":
            assert ("deep" in masks) <= (record["spec"].get("coupling") == "branch")
            assert masks
    report = ran(foreign("report", "--format", "md,csv")).out
    assert "branch" in report
    table = next((tmp_path / "results" / "default").rglob("*.csv"))
    rows = [r for f in table.parent.glob("*.csv") for r in f.read_text().splitlines()]
    assert any("branch" in r for r in rows)
    assert any("tied" in r for r in rows)
    again = foreign("run", "--methods", "magnitude,random,dropnet", *STREAM, *COMMON, "--targets", "1.5",
                    "--coupling", "branch")  # fmt: skip
    assert "Nothing to train" in again.err


def test_rows_of_two_couplings_are_not_averaged_into_one(foreign: Bench, tmp_path: Path) -> None:
    for coupling in ("tied", "branch"):
        ran(foreign("run", "--methods", "random", *STREAM, *COMMON, "--targets", "1.5", "--controls",
                    "none", "--coupling", coupling))  # fmt: skip
    ran(foreign("report", "--format", "md,csv"))
    summary = next((tmp_path / "results" / "default").rglob("summary.csv"))
    lines = [line for line in summary.read_text().splitlines() if line.startswith("random")]
    lines = lines or [line for line in summary.read_text().splitlines() if "random" in line]
    assert len(lines) == 2, summary.read_text()
    assert sum("branch" in line for line in lines) == 1


@pytest.mark.parametrize("coupling", ["tied", "branch"])
def test_a_layer_that_is_used_twice_is_pruned_around(
    foreign: Bench, tmp_path: Path, coupling: str
) -> None:
    ran(foreign("run", "--methods", "magnitude,random", "--models", "my_net.py:build", "--datasets",
                "imagefolder:photos", *COMMON, "--targets", "1.2", "--coupling", coupling))  # fmt: skip
    for record in records(tmp_path / "results" / "default"):
        masks = tmp_path / "results" / "default" / "trials" / record["id"] / "masks.safetensors"
        names = {name for name in load_file(masks) if not name.endswith(".weight")}
        # What flows into the shared layer cannot lose units, nor can the shared layer itself.
        assert names <= {"last", "input:head"}
        if record["spec"].get("target"):
            assert record["metrics"]["params_kept"] < record["metrics"]["params_dense"]


def test_a_model_that_was_trained_here_is_a_start_for_other_methods(
    foreign: Bench, tmp_path: Path
) -> None:
    ran(foreign("run", "--methods", "dense", *STREAM, *COMMON, "--out", "first"))
    (trained,) = (tmp_path / "first").glob("trials/*/model.safetensors")
    weights = tmp_path / "trained.safetensors"
    weights.write_bytes(trained.read_bytes())
    arguments = ("run", "--methods", "magnitude,dropnet", *STREAM, *COMMON, "--targets", "1.5",
                 "--weights", "trained.safetensors", "--out", "second")  # fmt: skip
    shell = ran(foreign(*arguments))
    assert "of no use to dropnet" in shell.err
    found = records(tmp_path / "second")
    (dense,) = [r for r in found if r["spec"]["method"] == "dense" and r["spec"].get("weights")]
    assert dense["metrics"]["epochs_total"] == 0
    assert dense["metrics"]["trainings"] == 0
    (before,) = records(tmp_path / "first")
    assert dense["metrics"]["top1"] == before["metrics"]["top1"]
    model = tmp_path / "second" / "trials" / dense["id"] / "model.safetensors"
    state, expected = load_file(model), load_file(weights)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    (magnitude,) = [r for r in found if r["spec"]["method"] == "magnitude"]
    assert magnitude["metrics"]["epochs_total"] == 1
    (dropnet,) = [r for r in found if r["spec"]["method"] == "dropnet"]
    assert "weights" not in dropnet["spec"]
    assert "Nothing to train" in foreign(*arguments).err
    ran(foreign("report", "second", "--format", "md"))


def test_a_classifier_for_other_classes_is_trained_once(foreign: Bench, tmp_path: Path) -> None:
    ran(foreign("run", "--methods", "dense", *STREAM, *COMMON, "--out", "first"))
    (trained,) = (tmp_path / "first").glob("trials/*/model.safetensors")
    state = load_file(trained)
    state |= {"head.weight": torch.zeros(7, 8), "head.bias": torch.zeros(7)}
    save_file(state, tmp_path / "seven.safetensors")
    ran(foreign("run", "--methods", "dense", *STREAM, *COMMON, "--out", "second", "--weights",
                "seven.safetensors"))  # fmt: skip
    (record,) = records(tmp_path / "second")
    assert record["metrics"]["epochs_total"] == 1


def test_a_resumed_run_that_forgets_its_weights_is_another_run(
    foreign: Bench, tmp_path: Path
) -> None:
    ran(foreign("run", "--methods", "dense", *STREAM, *COMMON))
    (trained,) = tmp_path.glob("results/default/trials/*/model.safetensors")
    (tmp_path / "w.safetensors").write_bytes(trained.read_bytes())
    ran(foreign("run", "--methods", "dense", *STREAM, *COMMON, "--weights", "w.safetensors"))
    assert len(records(tmp_path / "results" / "default")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "torchvision:resnet-18"], "'resnet18'"),
        (["--models", "torchvision:"], "network of torchvision"),
        (["--datasets", "imagefolder:nowhere"], "no folder nowhere"),
        (["--datasets", "imagefolder:photos/train/ant"], "at least 2"),
        (["--weights", "none.safetensors"], "no such file"),
        (["--weights", "odd.safetensors"], "not a safetensors file"),
        (["--weights", "folder.safetensors"], "it is a folder"),
        (["--weights", "model.pt"], "only safetensors files are read"),
        (["--weights", "small.safetensors"], "is missing"),
        (["--weights", "DEFAULT"], "no published weights"),
        (["--models", "torchvision:squeezenet1_1", "--weights", "IMAGENET"], "IMAGENET1K_V1"),
        (["--coupling", "loose"], "'tied', 'branch'"),
        (["--set", "recipe.augment=flop"], "flop"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    foreign: Bench, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "odd.safetensors").write_text("odd")
    (tmp_path / "folder.safetensors").mkdir()
    torch.save({}, tmp_path / "model.pt")
    save_file({k: torch.zeros(1) for k in ("norm.weight",)}, tmp_path / "small.safetensors")
    given = dict(zip(STREAM[::2], STREAM[1::2], strict=True))
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    flags = [part for pair in given.items() for part in pair]
    shell = foreign("run", "--methods", "dense", *flags, *COMMON, "--out", "mine")
    assert shell.code == 2, shell.err
    assert message in shell.err
    assert "Traceback" not in shell.err
    assert not list(tmp_path.glob("mine/trials/*"))


@pytest.mark.usefixtures("hub")
def test_a_download_that_fails_stops_a_run_before_its_trials(
    foreign: Bench, tmp_path: Path, tried: list[str]
) -> None:
    shell = foreign("run", "--methods", "dense,magnitude", "--models", "torchvision:squeezenet1_1",
                    "--weights", "DEFAULT", "--datasets", "imagefolder:photos", *COMMON,
                    "--out", "mine")  # fmt: skip
    assert shell.code == 2, shell.err
    assert "IMAGENET1K_V1 of torchvision:squeezenet1_1 cannot be downloaded" in shell.err
    assert "no network here" in shell.err
    assert len(tried) == 1
    assert not list(tmp_path.glob("mine/trials/*"))


def test_a_picture_that_is_none_is_named(foreign: Bench, tmp_path: Path) -> None:
    (tmp_path / "photos" / "train" / "bee" / "3.png").write_bytes(b"no picture")
    shell = foreign("run", "--methods", "dense", *STREAM, *COMMON)
    assert shell.code in (1, 2)
    assert "bee/3.png" in shell.err
    assert "Traceback" not in shell.err


def test_networks_of_torchvision_and_folders_can_be_shown(foreign: Bench) -> None:
    for name in ("torchvision:squeezenet1_1", "imagefolder:photos"):
        shell = foreign("show", name)
        assert shell.code == 0, shell.err


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["tied", "branch"])
def test_a_network_of_torchvision_is_trained_and_pruned(
    foreign: Bench, tmp_path: Path, coupling: str
) -> None:
    ran(foreign("run", "--methods", "random", "--models", "torchvision:mobilenet_v2", "--datasets",
                "imagefolder:photos", *COMMON, "--targets", "2", "--controls", "none", "--coupling",
                coupling, "--set", "recipe.batch_size=12"))  # fmt: skip
    (record,) = records(tmp_path / "results" / "default")
    assert record["metrics"]["params_dense"] == 2_227_715  # torchvision's own, for 3 classes
    assert 1.9 < record["metrics"]["params_dense"] / record["metrics"]["params_kept"] < 2.1
