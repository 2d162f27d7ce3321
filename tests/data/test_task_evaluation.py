"""Tasks: what is asked, how it is scored, and that methods run on each of them to the record."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import MakeTrial
from tiers import slow
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cli.main import main
from bench.data.batches import Part
from bench.data.dataset import Dataset
from bench.data.images import Images
from bench.data.tasks import TASKS
from bench.data.tasks.autoencoder import AUTOENCODER
from bench.data.tasks.classification import CLASSIFICATION
from bench.data.tasks.regression import REGRESSION
from bench.datasets.embedded import Mnist5kPixels
from bench.datasets.sparse_regression import SparseRegression
from bench.graph.trace import layout_of
from bench.seeds import generator
from bench.store.phase_cache import PhaseStore
from bench.training.contract import Trial
from bench.training.evaluation import evaluate
from bench.training.recipe import Recipe
from bench.training.trial import RunningTrial, validated_with
from bench.training.trial_records import TrialInputs

steady = settings(deadline=None, derandomize=True, database=None, max_examples=30)
CPU = torch.device("cpu")

# -- scores ----------------------------------------------------------------------------------------


@steady
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 10**6), st.floats(1e-3, 30))
def test_a_regressions_columns_equal_loops(n: int, numbers: int, seed: int, scale: float) -> None:
    g = torch.Generator().manual_seed(seed)
    wanted = 5 + scale * torch.randn(n, numbers, generator=g)
    found = wanted + torch.randn(n, numbers, generator=g)
    a, b = found.double().tolist(), wanted.double().tolist()
    pairs = [(x, y) for r, s in zip(a, b, strict=True) for x, y in zip(r, s, strict=True)]
    mse = sum((x - y) ** 2 for x, y in pairs) / len(pairs)
    power = sum(y * y for _, y in pairs) / len(pairs)
    means = [sum(s[k] for s in b) / n for k in range(numbers)]
    spread = sum((s[k] - means[k]) ** 2 for s in b for k in range(numbers)) / len(pairs)
    got = REGRESSION.evaluate(found, wanted)
    assert got.values == {
        "mse": pytest.approx(mse, rel=1e-9), "nmse": pytest.approx(mse / power, rel=1e-9),
        "max_error": pytest.approx(max(abs(x - y) for x, y in pairs), rel=1e-9),
    }  # fmt: skip
    assert (got.n, got.score) == (n, -got.values["nmse"])
    assert got.loss == pytest.approx(float(F.mse_loss(found, wanted)), rel=1e-4)
    assert got.collapsed == (mse >= spread)


@steady
@given(st.integers(1, 30), st.integers(0, 10**6), st.floats(0.01, 2))
def test_an_autoencoders_columns_equal_loops(n: int, seed: int, noise: float) -> None:
    g = torch.Generator().manual_seed(seed)
    wanted = torch.rand(n, 12, generator=g)
    found = wanted + noise * torch.randn(n, 12, generator=g)
    rows = zip(found.double().tolist(), wanted.double().tolist(), strict=True)
    mse = sum((x - y) ** 2 for r, s in rows for x, y in zip(r, s, strict=True)) / (12 * n)
    got = AUTOENCODER.evaluate(found, wanted)
    assert got.values == {"mse": pytest.approx(mse, rel=1e-9)}
    assert (got.loss, got.score, got.n) == (got.values["mse"], -got.values["mse"], n)
    assert got.collapsed == (mse >= float(wanted.double().var(dim=0, correction=0).mean()))


def test_collapsed_is_no_better_than_the_best_constant() -> None:
    wanted = torch.tensor([[1.0, 2.0], [3.0, 8.0]])
    for task in (REGRESSION, AUTOENCODER):
        assert task.evaluate(wanted.mean(0).expand(2, 2), wanted).collapsed
        assert task.evaluate(torch.zeros(2, 2), wanted).collapsed
        assert not task.evaluate(wanted.mean(0) + 0.1 * (wanted - wanted.mean(0)), wanted).collapsed
        assert not task.evaluate(wanted, wanted).collapsed
    labels = torch.arange(200) % 4
    constant = F.one_hot(torch.zeros(200, dtype=torch.int64), 4).float()
    assert CLASSIFICATION.evaluate(constant, labels).collapsed
    assert not CLASSIFICATION.evaluate(F.one_hot(labels, 4).float(), labels).collapsed


def test_each_task_has_the_columns_it_says() -> None:
    y = torch.tensor([0, 1, 2, 3])
    values = {
        "classification": CLASSIFICATION.evaluate(torch.eye(4), y).values,
        "regression": REGRESSION.evaluate(torch.ones(4, 1), torch.zeros(4, 1) + 2).values,
        "autoencoder": AUTOENCODER.evaluate(torch.ones(4, 2), torch.zeros(4, 2)).values,
    }
    for name, qualities in TASKS.items():
        assert {*values[name], "test_loss"} == set(qualities.columns)
        assert qualities.headline.column in values[name]
    assert CLASSIFICATION.outputs(10, (1, 28, 28)) == REGRESSION.outputs(10, (1, 1, 20)) == 10
    assert AUTOENCODER.outputs(10, (3, 28, 28)) == 3 * 28 * 28


@pytest.mark.parametrize("dataset", [SparseRegression(1), Mnist5kPixels()])
def test_evaluation_is_the_same_at_any_batch_size(dataset: Dataset) -> None:
    torch.manual_seed(0)
    images = dataset.load(Path()).validation
    assert isinstance(images, Images)
    part = Part.of(images.take(torch.arange(97)), dataset, None, CPU)
    width = part.view.stored[0] * part.view.stored[1]
    model = nn.Sequential(nn.Flatten(), nn.Linear(width, dataset.task.outputs(1, dataset.shape)))
    whole = evaluate(model, part)
    for size in (1, 7, 96, 97, 1000):
        found = evaluate(model, part, size)
        assert found.values == {k: pytest.approx(v, rel=1e-5) for k, v in whole.values.items()}
        assert found.n == 97


# -- trials ----------------------------------------------------------------------------------------


def regression_trial(folder: Path, seed: int = 0, **recipe: Any) -> Trial:
    dataset = SparseRegression(seed)
    split = dataset.load(folder)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 5), nn.Linear(5, 1))
    fields = {"epochs": 1, "batch_size": 500, "momentum": 0.0, "nesterov": False, "lr": 1e-4,
              "weight_decay": 0.0, "schedule": "constant"} | recipe  # fmt: skip
    train, validation = (Part.of(p, dataset, None, CPU) for p in (split.train, split.validation))
    setting = TrialInputs(Recipe(**fields), seed, None, train, validation,
                      PhaseStore(folder / "phases"), {"recipe": fields, "seed": seed})  # fmt: skip
    return RunningTrial(model, layout_of(model, torch.zeros(1, 1, 1, 20)), setting)


def test_a_regression_is_trained_with_the_squared_error(tmp_path: Path) -> None:
    trial = regression_trial(tmp_path)
    x, y = trial._inputs.train.batch(torch.arange(500))
    assert y.shape == (500, 1)
    outputs = trial.model(x)
    loss = sum((outputs[i, 0] - y[i, 0]) ** 2 for i in range(500)) / 500
    assert isinstance(loss, Tensor)
    before = trial.snapshot().tensors
    gradients = torch.autograd.grad(loss, list(trial.model.parameters()))
    trial.train()
    for (name, found), gradient in zip(trial.model.named_parameters(), gradients, strict=True):
        moved = -1e-4 * gradient
        assert torch.allclose(found - before[name], moved, rtol=1e-3, atol=1e-5), name
    (line,) = [e for e in trial._events if "train_loss" in e]
    assert line["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert "train_top1" not in line


def test_validation_with_other_weights_leaves_the_network_alone(
    tmp_path: Path, make_trial: MakeTrial
) -> None:
    trial = regression_trial(tmp_path)
    before = trial.snapshot().tensors
    other = {"1.weight": torch.randn(5, 20)}
    found = validated_with(trial, other)
    assert all(torch.equal(before[n], t) for n, t in trial.snapshot().tensors.items())
    assert trial.model.training
    trial.model.load_state_dict(before | other)
    assert found == trial.validate()
    assert found.n == 100


# -- from the command line to the record -----------------------------------------------------------

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Return a function that calls the command line in an empty folder: exit code, all it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("BENCH_DATA", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), printed.out + printed.err

    return call


SHORT = ("--budget", "smoke", "--seeds", "0", "--jobs", "1", "--targets", "2",
         "--set", "recipe.batch_size=64")  # fmt: skip
METHODS = "dropnet,magnitude,fpgm,l1-filter,random,dropneuron,l1"


def records(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(f.read_text()) for f in sorted(folder.glob("results/*/trials/*/result.json"))
    ]


@pytest.mark.parametrize(
    ("dataset", "model"),
    [("sparse-regression", "dropneuron-regression"),
     slow("mnist-5k-autoencoder", "fc-20-20")],
)  # fmt: skip
def test_methods_run_on_tasks_without_labels(
    bench: Run, tmp_path: Path, dataset: str, model: str
) -> None:
    task = "regression" if dataset == "sparse-regression" else "autoencoder"
    where = ("--models", model, "--datasets", dataset)
    code, printed = bench("run", "--methods", METHODS, *where, *SHORT)
    assert code == 0, printed
    found = records(tmp_path)
    assert {r["spec"]["method"] for r in found} == {"dense", *METHODS.split(",")}
    for record in found:
        metrics = record["metrics"]
        assert record["task"] == task
        assert set(TASKS[task].columns) <= set(metrics)
        assert TASKS[task].validation in metrics
        assert not [name for name in metrics if "top1" in name or "top5" in name]
        assert metrics["compact_max_error"] <= 1e-12
        assert ("support_exact" in metrics) == (task == "regression")
        if task == "regression":
            assert metrics["support_true"] == int(SparseRegression(0).relevant.sum())
            assert metrics["support_read"] == metrics["live"]["input"]["live"]
    code, printed = bench("run", "--methods", "edropout", *where, *SHORT)
    assert code == 2
    assert "there are no labels here" in printed
    code, printed = bench("report", "--format", "csv,md")
    assert code == 0, printed
    assert "top-1 %" not in printed


@pytest.mark.parametrize(
    ("dataset", "model", "shape"),
    [slow("sparse-regression", "dropneuron-regression", (1, 1, 20)),
     ("mnist-5k-autoencoder", "dropneuron-autoencoder", (1, 28, 28))],
)  # fmt: skip
def test_trials_without_labels_are_shown_and_exported(
    bench: Run, tmp_path: Path, dataset: str, model: str, shape: tuple[int, int, int]
) -> None:
    code, printed = bench("run", "--methods", "dropneuron", "--models", model, "--datasets", dataset,
                          "--set", "dropneuron.threshold=0.3", "--controls", "none", *SHORT)  # fmt: skip
    assert code == 0, printed
    (record,) = records(tmp_path)
    code, printed = bench("show", record["id"])
    assert code == 0, printed
    headline = TASKS[record["task"]].headline
    assert headline.title in printed
    assert "top-1" not in printed
    assert record["kept"]["before_pruning"]["params_effective"] == record["metrics"]["params_dense"]
    marked = record["curves"]["threshold"]["marked"]
    (row,) = [r for r in record["curves"]["threshold"]["rows"] if r["threshold"] == marked]
    name = f"validation_{headline.column}"
    assert row[name] == pytest.approx(record["metrics"][name], rel=1e-5)
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, printed = bench("export", record["id"], "--to", "onnx", "--out", "exported")
        assert code == 0, printed
        (file,) = tmp_path.glob("exported/**/*.onnx")
        session = runtime.InferenceSession(str(file))
    x = torch.rand(4, *shape, generator=generator(0, "x"))
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert found.shape == (4, 1 if record["task"] == "regression" else 784)


ODD = '''
"""My own networks."""
from torch import nn
from bench.api import Recipe, network

RECIPE = Recipe(lr=1e-5, batch_size=50)

@network(recipe=RECIPE)
def flat(num_outputs, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0))

@network(recipe=RECIPE)
def wide(num_outputs, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 3))
'''


@pytest.mark.parametrize("name", ["flat", "wide"])
def test_outputs_of_another_shape_than_the_targets_are_refused(
    bench: Run, tmp_path: Path, name: str
) -> None:
    # (n,) against (n, 1) would be compared each with each, (n, 3) three times.
    (tmp_path / "odd.py").write_text(ODD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, printed = bench("run", "--methods", "dense", "--models", f"odd.py:{name}",
                              "--datasets", "sparse-regression", *SHORT)  # fmt: skip
    assert code != 0, records(tmp_path)[0]["metrics"]["nmse"]
    assert not records(tmp_path)
    assert "IndexError" not in printed
