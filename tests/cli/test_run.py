"""`bench run` from end to end, on a tiny network and a tiny subset."""

import json
from pathlib import Path

import pytest
from commands_shell import SMOKE, Bench

PLUGIN = '''
"""Widest: drop the units with the smallest incoming weights."""
from dataclasses import dataclass
from bench.api import Score

@dataclass(frozen=True)
class Widest(Score):
    def score(self, trial):
        sites = [s for s in trial.layout.sites if not s.is_input]
        weights = {s.name: trial.model.get_parameter(f"{s.module}.weight").detach() for s in sites}
        return {name: weight.flatten(1).norm(dim=1) for name, weight in weights.items()}
'''
FAILING = '''
"""Fails on seed 1."""
from dataclasses import dataclass
from pathlib import Path
from bench.api import Method

@dataclass(frozen=True)
class Failing(Method):
    rate = "none"

    def prune(self, trial):
        if trial._inputs.seed == 1 and not Path("mended").exists():
            raise RuntimeError("on purpose")
        trial.train()
'''


def results(folder: Path) -> dict[str, dict]:
    files = sorted(folder.glob("trials/*/result.json"))
    return {f.parent.name: json.loads(f.read_text()) for f in files}


def work(folder: Path) -> dict[str, int]:
    costs = [json.loads(f.read_text())["work"] for f in folder.glob("trials/*/cost.json")]
    return {key: sum(c[key] for c in costs) for key in ("trainings", "images_seen")}


def test_a_run_finishes_and_a_second_one_trains_nothing(bench: Bench, tmp_path: Path) -> None:
    arguments = ("run", "--methods", "edropout,dropnet", "--targets", "2", *SMOKE)
    first = bench(*arguments)
    assert first.code == 0
    folder = tmp_path / "results" / "default"
    records = results(folder)
    assert {r["spec"]["method"] for r in records.values()} == {
        "dense",
        "edropout",
        "dropnet",
        "random",
    }
    stamps = {f: f.stat().st_mtime_ns for f in folder.glob("trials/*/*")}
    second = bench(*arguments)
    assert second.code == 0
    assert "Nothing to train: all 5 trials are finished" in second.err
    assert {f: f.stat().st_mtime_ns for f in folder.glob("trials/*/*")} == stamps


def test_targets_and_methods_share_their_trainings(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "default"
    base = ("run", "--controls", "none", *SMOKE)
    assert bench(*base, "--methods", "magnitude", "--targets", "2,4,8,16,32").code == 0
    assert work(folder)["trainings"] == 6  # the dense one and a round per doubling
    assert bench(*base, "--methods", "magnitude", "--targets", "2,4,8,16,32,64").code == 0
    assert work(folder)["trainings"] == 7
    assert bench(*base, "--methods", "dropnet", "--targets", "1.2").code == 0
    assert work(folder)["trainings"] == 8  # its dense training was there already


def test_a_failed_trial_is_recorded_and_the_others_go_on(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    arguments = ("run", "--methods", "failing,magnitude", "--plugin", "failing.py", "--targets", "2",
                 "--controls", "none", *SMOKE, "--seeds", "0-2")  # fmt: skip
    first = bench(*arguments)
    assert first.code == 1
    folder = tmp_path / "results" / "default"
    assert len(results(folder)) == 5
    (error,) = folder.glob("trials/*/error.json")
    assert "on purpose" in json.loads(error.read_text())["traceback"]
    assert "on purpose" in first.err
    status = json.loads(bench("status", "--json").out)
    assert status["counts"] == {"finished": 5, "failed": 1}
    again = bench(*arguments)
    assert again.code == 1
    assert "--retry-failed" in again.err
    (tmp_path / "mended").touch()
    assert bench(*arguments, "--retry-failed").code == 0
    assert len(results(folder)) == 6
    assert not list(folder.glob("trials/*/error.json"))


def test_a_control_of_a_failed_trial_fails_with_the_reason(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING.replace('rate = "none"', 'rate = "emergent"'))
    shell = bench("run", "--methods", "failing", "--plugin", "failing.py", *SMOKE, "--seeds", "1")
    assert shell.code == 1
    assert "which did not finish" in shell.err


def test_a_users_method_and_network_appear_in_the_report(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "widest.py").write_text(PLUGIN)
    network = Path(__file__).parent.parent / "small_net.py"
    (tmp_path / "my_net.py").write_text(network.read_text())
    assert len(PLUGIN.strip().splitlines()) <= 20
    shell = bench("run", "--methods", "widest", "--plugin", "widest.py", "--models", "my_net.py:build",
                  "--budget", "smoke", "--seeds", "0", "--targets", "2", "--jobs", "1")  # fmt: skip
    assert shell.code == 0
    report = bench("report", "--format", "md")
    assert report.code == 0
    assert "widest" in report.out
    assert "my_net.py:build" in report.out
    listing = bench("list", "methods", "--plugin", "widest.py").out
    assert "Widest: drop the units with the smallest incoming weights." in listing


def test_a_finished_trial_whose_plugin_changed_is_named(bench: Bench, tmp_path: Path) -> None:
    arguments = ("run", "--methods", "dense", *SMOKE)
    assert bench(*arguments).code == 0
    (spec,) = tmp_path.glob("results/default/trials/*/spec.json")
    facts = json.loads(spec.read_text())
    changed = "0" * len(facts["sources"]["method"])
    for other, told in (("of an older kind", False), (changed, True)):
        facts["sources"]["method"] = other
        spec.write_text(json.dumps(facts))
        shell = bench(*arguments)
        assert ("other code of the method dense" in shell.err) == told
        assert ("--rerun-changed" in shell.err) == told
        assert "Nothing to train" in shell.err
    assert "1 trial to run" in bench(*arguments, "--rerun-changed").err
    (old,) = tmp_path.glob("results/default/superseded/*/spec.json")
    assert json.loads(old.read_text())["sources"]["method"] == changed


@pytest.mark.parametrize("damage", ["truncate", "edit"])
def test_a_damaged_record_is_quarantined_and_run_again(
    bench: Bench, tmp_path: Path, damage
) -> None:
    arguments = ("run", "--methods", "dense", *SMOKE)
    assert bench(*arguments).code == 0
    folder = tmp_path / "results" / "default"
    (record,) = folder.glob("trials/*/result.json")
    sound = record.read_text()
    top1 = json.loads(sound)["metrics"]["top1"]
    record.write_text(sound[:50] if damage == "truncate" else sound.replace(f"{top1}", "99.9", 1))
    shell = bench(*arguments)
    assert shell.code == 0
    assert f"trial {record.parent.name} was damaged, and its folder was moved to" in shell.err
    assert len(list(folder.glob("quarantine/*/result.json"))) == 1
    assert record.read_text() == sound


def test_json_is_one_event_per_line(bench: Bench) -> None:
    shell = bench("run", "--methods", "dense", *SMOKE, "--json")
    events = [json.loads(line) for line in shell.out.splitlines()]
    kinds = [e["event"] for e in events]
    assert (kinds[0], kinds[-1]) == ("begin", "end")
    assert "finished" in kinds


def test_a_data_set_without_a_model_gets_one_that_fits_its_task(bench: Bench) -> None:
    datasets = "mnist-5k,sparse-regression,mnist-5k-autoencoder"
    arguments = ("--methods", "l1", "--datasets", datasets, "--seeds", "0", "--controls", "none")
    rows = json.loads(bench("run", *arguments, "--dry-run", "--json").out)
    fitting = {"lenet-300-100", "dropneuron-regression", "dropneuron-autoencoder"}
    assert {row["label"].split()[1] for row in rows} == fitting
    named = json.loads(bench("run", *arguments, "--models", "lenet-5", "--dry-run", "--json").out)
    assert {row["label"].split()[1] for row in named} == {"lenet-5"}


def test_a_dry_run_writes_nothing(bench: Bench, tmp_path: Path) -> None:
    shell = bench("run", "--methods", "dropnet", *SMOKE, "--dry-run", "--json")
    assert shell.code == 0
    assert {row["status"] for row in json.loads(shell.out)} == {"waiting"}
    assert list(tmp_path.iterdir()) == []


def test_clean_empties_the_cache_and_keeps_the_trials(bench: Bench, tmp_path: Path) -> None:
    bench("run", "--methods", "dense", *SMOKE)
    folder = tmp_path / "results" / "default"
    assert list(folder.glob("phases/*.safetensors"))
    assert bench("clean").code == 0
    assert not list(folder.glob("phases/*.safetensors"))
    assert len(results(folder)) == 1


def test_show_and_list_answer_in_words_and_in_json(bench: Bench) -> None:
    bench("run", "--methods", "magnitude", "--targets", "2", *SMOKE)
    for kind, name in (
        ("methods", "dropnet"),
        ("models", "lenet-5"),
        ("datasets", "mnist"),
        ("suites", "smoke"),
    ):
        assert name in {row["name"] for row in json.loads(bench("list", kind, "--json").out)}
        assert name in bench("list", kind).out
        assert bench("show", name).code == 0
        assert json.loads(bench("show", name, "--json").out)["about"]
    both = json.loads(bench("show", "dropneuron-regression", "--json").out)
    assert [next(iter(facts)) for facts in both] == ["model", "suite"]
    on_data = ("show", "dropneuron-regression", "--dataset", "sparse-regression", "--json")
    assert json.loads(bench(*on_data).out)["parameters"] == 20 * 5 + 5 + 5 + 1
    assert bench("show", "dropnet", "--dataset", "digits").code == 2
    rows = json.loads(
        bench("run", "--methods", "magnitude", *SMOKE, "--targets", "2", "--dry-run", "--json").out
    )
    trial = json.loads(bench("show", rows[1]["trial"][:8], "--json").out)
    assert trial["id"] == rows[1]["trial"]
    assert trial["metrics"]["n_test"] == 256


def test_embedded_data_needs_no_fetching(bench: Bench) -> None:
    assert "nothing to fetch" in bench("data", "fetch", "digits").out
    assert bench("data", "verify", "digits", "mnist-5k").out == "digits: good\nmnist-5k: good\n"
    assert "mnist: not here" in bench("data", "verify").out
