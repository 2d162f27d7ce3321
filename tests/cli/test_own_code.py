"""A user's files through the command line: their code is the trial's, and nobody else's is run."""

import json
from pathlib import Path

import pytest
from commands_shell import Bench

from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.results import Results
from bench.store.source_copies import SourceCopies
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.reload import rebuilt

NETWORK = '''
"""My networks."""
import os
from pathlib import Path
from torch import nn
from bench.api import Recipe, network
from layers import Last

if "IMPORTED" in os.environ:
    Path(os.environ["IMPORTED"]).touch()

@network(recipe=Recipe(lr=0.05, epochs=1))
def mine(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4), Last(), nn.Linear(4, num_classes))

def build(num_classes, in_shape):
    return mine(num_classes, in_shape)
'''
LAYERS = """
from torch import nn

class Last(nn.{kind}):
    kind = "{kind}"
"""
METHOD = '''
"""Half of the training, or all of it."""
from dataclasses import dataclass
from bench.api import Method

@dataclass(frozen=True)
class Own(Method):
    rate = "none"

    def prune(self, trial):
        import amount
        trial.train(epochs=amount.EPOCHS)
'''
RUN = ("run", "--budget", "smoke", "--seeds", "0", "--jobs", "1", "--controls", "none",
       "--set", "recipe.epochs=1")  # fmt: skip
BY_PATH = (*RUN, "--methods", "dense", "--models", "net.py:build")


@pytest.fixture
def own(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The command line in a folder with a user's network, who has never run anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NETWORK)
    layers(tmp_path, "ReLU")
    return bench


def layers(folder: Path, kind: str) -> None:
    (folder / "layers.py").write_text(LAYERS.format(kind=kind))


def specs(folder: Path) -> dict[str, dict]:
    files = folder.glob("results/default/trials/*/result.json")
    return {f.parent.name: json.loads(f.read_text())["spec"] for f in files}


def kind_of_last(trial: str) -> str:
    network = rebuilt(Registry(), Results(Path("results/default")).trial(trial)).network
    return str(network[2].kind)  # type: ignore[index]


def test_a_changed_neighbour_makes_new_trials_and_the_old_ones_keep_their_code(
    own: Bench, tmp_path: Path
) -> None:
    assert own(*BY_PATH).code == 0
    (old,) = specs(tmp_path)
    layers(tmp_path, "Tanh")
    ran = own(*BY_PATH)
    assert ran.code == 0
    assert "--rerun-changed" not in ran.err
    (new,) = specs(tmp_path).keys() - {old}
    hashes = {trial: spec["sources"]["model"] for trial, spec in specs(tmp_path).items()}
    copies = {p.name for p in (tmp_path / "results" / "default" / "sources").iterdir()}
    assert copies == set(hashes.values())
    assert (kind_of_last(old), kind_of_last(new)) == ("ReLU", "Tanh")
    for trial in (old, new):
        assert own("export", trial, "--to", "torch", "--out", "taken").code == 0
        assert hashes[trial] in own("show", trial).out
    assert own("measure", "results/default").code == 0
    report = own("report", "--format", "md,csv")
    assert report.code == 0
    for code in hashes.values():  # two tables, each named after its code
        assert f"model {code[:8]}" in report.out
    summary = (tmp_path / "results" / "default" / "summary.csv").read_text()
    assert len(summary.splitlines()) == 3


def test_a_comment_makes_no_new_trial(own: Bench, tmp_path: Path) -> None:
    assert own(*BY_PATH).code == 0
    (tmp_path / "net.py").write_text(NETWORK.replace("import os", "import os  # a comment\n"))
    again = own(*BY_PATH)
    assert "Nothing to train: all 1 trials are finished" in again.err


def test_what_a_method_imports_in_a_function_is_its_code(own: Bench, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METHOD)
    arguments = (*RUN, "--methods", "own", "--plugin", "own.py", "--models", "fc-20-20",
                 "--set", "recipe.epochs=2")  # fmt: skip
    for epochs in (1, 2):
        (tmp_path / "amount.py").write_text(f"EPOCHS = {epochs}\n")
        assert own(*arguments).code == 0
    records = [json.loads(f.read_text()) for f in tmp_path.glob("results/*/trials/*/result.json")]
    assert {r["metrics"]["epochs_total"] for r in records} == {1, 2}
    assert all(r["spec"]["sources"].keys() == {"method"} for r in records)
    report = own("report", "--format", "md").out
    for record in records:
        assert f"own (code {record['spec']['sources']['method'][:8]})" in report


@pytest.mark.parametrize("named", ["path", "plugin"])
def test_a_received_folder_runs_nothing_unasked(
    own: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    by_plugin = (*RUN, "--methods", "dense", "--models", "mine", "--plugin", "net.py")
    assert own(*(BY_PATH if named == "path" else by_plugin)).code == 0
    ((trial, spec),) = specs(tmp_path).items()
    code = spec["sources"]["model"]
    marker = tmp_path / "imported"
    monkeypatch.setenv("IMPORTED", str(marker))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-somebody-else"))
    # Another process: what this one imported is forgotten.
    monkeypatch.setattr("bench.plan.user_modules._BY_NAME", {})
    (tmp_path / "layers.py").write_text(LAYERS.format(kind="Tanh"))
    copy = tmp_path / "results" / "default" / "sources" / code / "net.py"

    shown = own("show", trial)
    assert shown.code == 0
    assert "on 256 test images" in shown.out
    for said in (code, "net.py", "not run unasked", f"--plugin {copy}"):
        assert said in shown.out
    assert "not run unasked" in json.loads(own("show", trial, "--json").out)["no_layers"]
    assert own("report", "--format", "md").code == 0
    for command in (("export", trial, "--to", "torch"), ("measure", "results/default")):
        refused = own(*command)
        assert refused.code == 2
        assert "not run unasked" in refused.err
        assert "Traceback" not in refused.err
    assert not marker.exists()

    assert "total" in own("show", trial, "--plugin", str(copy)).out
    assert marker.exists()
    assert own("export", trial, "--to", "torch", "--plugin", str(copy)).code == 0
    assert own("measure", "results/default", "--plugin", str(copy)).code == 0
    assert own("export", trial, "--to", "torch").code == 2  # asked once, not for ever


def test_a_home_that_cannot_be_written_stops_nothing(
    own: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    ran = own(*BY_PATH, "--latency", "quick")
    assert ran.code == 0
    assert "not run unasked" not in ran.err
    (cost,) = tmp_path.glob("results/default/trials/*/cost.json")
    assert json.loads(cost.read_text())["latency"]


def test_a_file_that_is_edited_during_a_run_is_run_as_it_was_planned(
    own: Bench, tmp_path: Path
) -> None:
    registry = Registry()
    asked = requests(
        None, {"methods": "dense", "models": "net.py:build", "seeds": "0", "budget": "smoke"}, []
    )
    (spec,) = make_plan(registry, asked).trials.values()
    results = Results(tmp_path / "results" / "default")
    results.create()
    for files in registry.files_read():
        SourceCopies(results.folder / "sources").keep(files)
    layers(tmp_path, "Tanh")
    context = SweepContext(RunConfig(out=results.folder, device="cpu"))
    context.prepare()
    execute(context, spec, lambda done, of: None)
    named = Registry(
        [tmp_path / "results/default/sources" / spec.sources["model"] / "net.py"], True
    )  # type: ignore[operator]
    assert rebuilt(named, results.trial(spec.id)).network[2].kind == "ReLU"  # type: ignore[index]


def test_two_plugins_have_neighbours_of_one_name(own: Bench, tmp_path: Path) -> None:
    for name, epochs in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(METHOD)
        (tmp_path / name / "amount.py").write_text(f"EPOCHS = {epochs}\n")
    assert own(*RUN, "--methods", "one,two", "--plugin", "one/one.py", "--plugin", "two/two.py",
               "--models", "fc-20-20", "--set", "recipe.epochs=2").code == 0  # fmt: skip
    records = [json.loads(f.read_text()) for f in tmp_path.glob("results/*/trials/*/result.json")]
    epochs = {r["spec"]["method"]: r["metrics"]["epochs_total"] for r in records}
    assert epochs == {"one": 1, "two": 2}
