"""`bench export --to dc` and `bench import`: a trial's file taken away, decoded and run again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands_shell import Bench, Shell
from safetensors.torch import load_file
from torch import Tensor

from bench.cli.main import cli
from bench.data.batches import Part
from bench.data.splits import shrink_for_smoke
from bench.measure.codec import decode, encode
from bench.plan.build_network import build
from bench.plan.registry import Registry
from bench.training.evaluation import outputs_of

MY_NET = '''
"""A small network with BatchNorm."""
from torch import nn
from bench.api import Recipe, network


@network(recipe=Recipe(lr=0.05, batch_size=16, epochs=1))
def normed(num_classes, in_shape):
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * (in_shape[1] // 2) ** 2, num_classes),
    )
'''
SMOKE = ("--budget", "smoke", "--seeds", "0", "--jobs", "1", "--out", "results/made")
NETWORKS = {
    "fc-20-20": ("mnist-5k", ()),
    "normed": ("digits", ("--plugin", "my_net.py")),
}
Record = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both networks were compressed, each with its controls."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "my_net.py").write_text(MY_NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NO_COLOR", "1")
        for model, (dataset, plugin) in NETWORKS.items():
            with pytest.raises(SystemExit) as ended:
                cli.main([
                    "run", "--methods", "deep-compression", "--models", model, "--datasets", dataset,
                    "--targets", "4", "--set", "deep-compression.share_epochs=0.5", *plugin, *SMOKE,
                ], standalone_mode=False)  # fmt: skip
            assert ended.value.code == 0
    return folder


@pytest.fixture
def here(made: Path, bench: Bench, tmp_path: Path) -> Path:
    """A copy of it, in which the command line is."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def record(folder: Path, method: str, model: str, results: str = "made") -> Record:
    files = folder.glob(f"results/{results}/trials/*/result.json")
    found = [r for r in (json.loads(f.read_text()) for f in files)
             if (r["spec"]["method"], r["spec"]["model"]) == (method, model)]  # fmt: skip
    return found[0]


def trial_folder(folder: Path, kept: Record) -> Path:
    return folder / "results/made/trials" / kept["id"]


def compressed_file(folder: Path, model: str = "fc-20-20") -> Path:
    return trial_folder(folder, record(folder, "deep-compression", model)) / "model.dc"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(shell: Shell, *said: str) -> None:
    assert shell.code == 2
    assert "Traceback" not in shell.err
    assert shell.err.strip().count("\n") == 0
    assert all(text in shell.err for text in said), shell.err


# -- what a trial says of its file -----------------------------------------------------------------


@pytest.mark.parametrize("model", NETWORKS)
def test_the_record_is_of_the_file_decoded_again(made: Path, model: str) -> None:
    kept = record(made, "deep-compression", model)
    metrics, folder = kept["metrics"], trial_folder(made, kept)
    decoded = decode((folder / "model.dc").read_bytes())
    stored = load_file(folder / "model.safetensors")
    masks = load_file(folder / "masks.safetensors")
    assert decoded.tensors.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(decoded.tensors[name], tensor), name
        assert decoded.tensors[name].dtype == tensor.dtype
    for name, layer in decoded.shared.items():
        assert torch.equal(layer.mask, masks[name])
        assert len(layer.codebook) <= 2 ** (8 if layer.mask.dim() == 4 else 5) - 1
    assert decoded.shared.keys() == {n for n, t in stored.items() if t.dim() > 1}
    assert decoded.facts == {"trial": kept["id"], "model": model, "seed": 0,
                             "dataset": NETWORKS[model][0]}  # fmt: skip
    for ending, name in (("", "model.dc"), ("_fixed", "model-fixed.dc")):
        size = (folder / name).stat().st_size
        dense = 4 * sum(t.numel() for t in stored.values())
        assert metrics[f"file_bytes{ending}"] == size
        assert metrics[f"file_compression{ending}"] == dense / size
        rows = metrics[f"file_layers{ending}"]
        assert sum(v for row in rows for k, v in row.items() if k != "name") == size
    assert "before_sharing" in kept["kept"]
    assert kept["kept"]["before_sharing"]["params_kept"] == metrics["params_kept"]


@pytest.mark.parametrize("model", NETWORKS)
def test_predictions_are_those_of_the_decoded_file(made: Path, model: str) -> None:
    kept = record(made, "deep-compression", model)
    folder = trial_folder(made, kept)
    plugins = (made / "my_net.py",) if model == "normed" else ()
    registry, dataset = Registry(plugins), Registry().dataset(NETWORKS[model][0])
    network, layout = build(registry, model, dataset, seed=123)
    network.load_state_dict(decode((folder / "model.dc").read_bytes()).tensors)
    split = shrink_for_smoke(dataset.load(made))
    predictions = load_file(folder / "predictions.safetensors")
    for name, images in (("test", split.test), ("validation", split.validation)):
        part = Part.of(images, dataset, None, torch.device("cpu"))
        outputs, labels = outputs_of(network, part.in_memory_format(layout.has_convolutions))
        assert torch.allclose(predictions[name].float(), outputs, rtol=2e-3, atol=2e-3)
        if name == "test":
            top1 = 100 * float((outputs.argmax(1) == labels).double().mean())
            assert kept["metrics"]["top1"] == pytest.approx(top1)


@pytest.mark.parametrize("model", NETWORKS)
def test_the_random_control_follows_the_counts(made: Path, model: str) -> None:
    followed, control = record(made, "deep-compression", model), record(made, "random", model)
    ours, theirs = (
        {n: int(m.sum()) for n, m in load_file(trial_folder(made, r) / "masks.safetensors").items()}
        for r in (followed, control)
    )
    assert ours == theirs == followed["control"]["rounds"][-1]
    assert control["metrics"]["epochs_total"] > 0


# -- away and back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", NETWORKS)
def test_an_exported_file_is_imported_and_gives_the_trials_accuracy(
    bench: Bench, here: Path, model: str
) -> None:
    kept = record(here, "deep-compression", model)
    dataset, plugin = NETWORKS[model]
    shell = bench("export", kept["id"][:8], "--to", "dc")
    assert shell.code == 0, shell.err
    taken = here / "exports" / f"{kept['id']}.dc"
    assert taken.read_bytes() == compressed_file(here, model).read_bytes()
    assert f"{taken.stat().st_size:,} bytes" in shell.out

    shell = bench("import", str(taken), *plugin)
    assert shell.code == 0, shell.err
    weights = taken.with_suffix(".safetensors")
    assert sorted(p.name for p in taken.parent.iterdir()) == [taken.name, weights.name]
    for name, tensor in load_file(weights).items():
        assert torch.equal(tensor, decode(taken.read_bytes()).tensors[name])
    total = next(line for line in shell.out.splitlines() if line.startswith("total"))
    assert total.split()[-1] == f"{taken.stat().st_size:,}"
    assert f"{model} on {dataset}" in shell.out

    ran = bench("run", "--methods", "dense", "--models", model, "--datasets", dataset, *plugin,
                "--weights", str(weights), "--budget", "smoke", "--seeds", "0", "--jobs", "1",
                "--out", "results/again")  # fmt: skip
    assert ran.code == 0, ran.err
    again = [json.loads(f.read_text()) for f in here.glob("results/again/trials/*/result.json")]
    (dense,) = (r["metrics"] for r in again if r["spec"].get("weights"))
    assert dense["top1"] == kept["metrics"]["top1"]
    assert dense["test_loss"] == pytest.approx(kept["metrics"]["test_loss"], rel=1e-5)
    assert dense["epochs_total"] == 0


# -- refusals --------------------------------------------------------------------------------------


def test_a_trial_without_shared_weights_has_no_such_file(bench: Bench, here: Path) -> None:
    before = everything(here)
    shell = bench("export", record(here, "random", "fc-20-20")["id"], "--to", "dc")
    refused(shell, "its weights are not shared", "bench run --methods deep-compression")
    assert everything(here) == before


def test_a_changed_file_of_a_trial_is_noticed(bench: Bench, here: Path) -> None:
    file = compressed_file(here)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    name = file.parent.name
    shell = bench("export", name, "--to", "dc")
    refused(shell, "model.dc is not the file that its record was written with")
    file.unlink()
    refused(bench("export", name, "--to", "dc"), "model.dc is not the file")
    assert not (here / "exports").exists()


def damage(kind: str, data: bytes) -> bytes:
    if kind == "flipped":
        return data[:200] + bytes([data[200] ^ 4]) + data[201:]
    if kind == "longer":
        return data + b"\0"
    if kind == "newer":
        return data[:4] + bytes([data[4] + 1]) + data[5:]
    return {"empty": b"", "head": data[:5], "half": data[: len(data) // 2], "cut": data[:-1],
            "foreign": b"PK\3\4" + data, "text": b"weights\n" * 50}[kind]  # fmt: skip


KINDS = ("flipped", "longer", "newer", "empty", "head", "half", "cut", "foreign", "text")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_sound_is_refused(bench: Bench, here: Path, kind: str) -> None:
    (here / "some.dc").write_bytes(damage(kind, compressed_file(here).read_bytes()))
    before = everything(here)
    refused(bench("import", "some.dc"), "compressed file")
    refused(bench("import", "some.dc", "--out", "new/weights.safetensors"), "compressed file")
    assert everything(here) == before
    assert not (here / "new").exists()


def changed(
    file: Path, facts: dict[str, Any], without: str = "", more: Record | None = None
) -> bytes:
    decoded = decode(file.read_bytes())
    tensors = {n: t for n, t in decoded.content.items() if n != without} | (more or {})
    return encode(tensors, facts={**decoded.facts, **facts}, index_bits=5, entropy="huffman")


@pytest.mark.parametrize(
    ("facts", "without", "more"),
    [
        ({"model": "fc-40-40"}, "", {}),
        ({"model": "nothing-known"}, "", {}),
        ({"model": "missing.py:build"}, "", {}),
        ({"dataset": "nothing-known"}, "", {}),
        ({"dataset": "imagefolder:nowhere"}, "", {}),
        ({}, "fc2.bias", {}),
        ({}, "", {"fc9.bias": torch.zeros(3)}),
        ({}, "", {"fc2.bias": torch.zeros(21)}),
    ],
)
def test_a_file_of_another_network_than_it_says_is_refused(
    bench: Bench, here: Path, facts: dict[str, str], without: str, more: dict[str, Tensor]
) -> None:
    (here / "some.dc").write_bytes(changed(compressed_file(here), facts, without, more))
    before = everything(here)
    refused(bench("import", "some.dc"), "some.dc is said to be")
    assert everything(here) == before


def test_a_network_that_is_not_known_here_is_refused(bench: Bench, here: Path) -> None:
    file = compressed_file(here, "normed")
    before = everything(here)
    refused(bench("import", str(file)), "is said to be 'normed' on 'digits'", "Unknown model")
    assert everything(here) == before


def test_a_file_that_names_no_network_is_decoded_all_the_same(bench: Bench, here: Path) -> None:
    (here / "some.dc").write_bytes(encode(
        {"w": torch.arange(6.0).view(2, 3)}, facts={}, index_bits=5, entropy="fixed"
    ))  # fmt: skip
    shell = bench("import", "some.dc", "--out", "deep/down/w.safetensors")
    assert shell.code == 0, shell.err
    assert "does not say which network" in shell.out
    found = load_file(here / "deep/down/w.safetensors")
    assert torch.equal(found["w"], torch.arange(6.0).view(2, 3))


def test_places_that_cannot_be_read_or_written_are_refused(bench: Bench, here: Path) -> None:
    file = str(compressed_file(here))
    before = everything(here)
    refused(bench("import", "nowhere.dc"), "nowhere.dc cannot be read")
    (here / "taken").write_text("in the way")
    refused(bench("import", file, "--out", "taken/w.safetensors"), "cannot be written")
    assert bench("export", Path(file).parent.name, "--to", "dc", "--out", "taken").code == 2
    (here / "taken").unlink()
    assert everything(here) == before


def test_a_name_that_no_file_can_have_is_refused(bench: Bench, here: Path) -> None:
    file, long = str(compressed_file(here)), "w" * 300 + ".safetensors"
    refused(bench("import", file, "--out", long), "cannot be written")
