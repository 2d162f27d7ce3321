"""`bench verify` names what of a record is not what its files say, and says what it could not count."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands_shell import SMOKE, Bench
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.cli.main import main
from bench.store import source_hash
from bench.store.records import CostColumns, sealed
from bench.store.results import Results, TrialFolder, file_digest
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.verify import Verified, verify

Json = dict[str, Any]
OF_A_MOMENT = {"peak_memory_mb", "train_seconds", "trial_seconds", "work"}
NET = """
from torch import nn

def build(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, num_classes))
"""
DATA = '''
"""Images that lie in a file."""
import torch
from bench.api import Dataset, DataMissing, Images, Split

class Mine(Dataset):
    """Images that lie in a file."""
    name = "mine"
    shape = (1, 8, 8)
    classes = 3
    mean = (0.5,)
    std = (0.5,)

    def load(self, root):
        if not (root / "mine.txt").exists():
            raise DataMissing(f"{root}/mine.txt is not there")
        draws = torch.Generator().manual_seed(0)

        def part(n):
            y = torch.arange(n) % 3
            x = torch.rand(n, 1, 8, 8, generator=draws) * 80 + 60 * y.view(-1, 1, 1, 1)
            return Images(x.byte(), y)

        return Split(part(90), part(45), part(45))
'''


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        few = ("--budget", "smoke", "--seeds", "0", "--controls", "none", "--latency", "off")
        patch.setattr(sys, "argv", ["bench", *arguments, *few, "--jobs", "1", "--progress", "off"])
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of four small trials."""
    out = tmp_path_factory.mktemp("verify") / "base"
    assert run("run", "--methods", "dense,magnitude,dropnet,deep-compression", "--targets", "4",
               "--models", "fc-20-20", "--datasets", "digits", "--out", str(out)) == 0  # fmt: skip
    return out


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "results" / "default"))


def forget_own_networks() -> None:
    """Let this process know no more of them than the next one would."""
    for name in [n for n in sys.modules if n.startswith("bench_user_net_")]:
        del sys.modules[name]
    source_hash._BY_MODULE.clear()


def of_method(out: Path, method: str) -> Path:
    (found,) = (t.path for t in Results(out).trials() if t.result().spec.method == method)
    return found


def resealed(trial: Path, change: Callable[[Json], object] = lambda record: None) -> None:
    """Change a record as somebody would who knows how it is sealed: digests of files, too."""
    file = trial / "result.json"
    record = json.loads(file.read_text())
    del record["sha256"]
    record["files"] = {
        name: file_digest(trial / name) for name in record["files"] if (trial / name).is_file()
    }
    change(record)
    file.write_text(json.dumps(sealed(record)))


def rewritten(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def verified(trial: Path) -> Verified:
    context = SweepContext(RunConfig(out=trial.parents[1]))
    return verify(context, TrialFolder(trial))


def differing(trial: Path) -> list[str]:
    return [each.figure for each in verified(trial).tally.differences]


def everything_in(folder: Path) -> dict[str, str]:
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# -- honest records --------------------------------------------------------------------------------


def test_every_figure_of_an_honest_folder_is_equal_and_nothing_in_it_is_changed(
    bench: Bench, copied: Path
) -> None:
    before = everything_in(copied)
    shell = bench("verify", str(copied))
    assert shell.code == 0, shell.out
    assert "4 finished trials verified, 4 without a difference, 0 with one" in shell.out
    assert "[4/4]" in shell.err
    assert everything_in(copied) == before
    for trial in Results(copied).trials():
        tally = verified(trial.path).tally
        metrics = trial.result().metrics
        assert set(metrics.as_json()) <= set(tally.equal), "every column is counted again"
        assert tally.bounded == []
        assert json.loads((trial.path / "env.json").read_text())["torch"]
        left = {name for each in tally.left_out for name in each.figures}
        assert left <= {
            "control",
            "curves",
            "kept",
            "peak_memory_mb",
            "train_seconds",
            "trial_seconds",
            "work",
        }


def test_a_trial_is_found_by_the_beginning_of_its_id_or_its_folder(
    bench: Bench, copied: Path
) -> None:
    trial = of_method(copied, "dropnet")
    for arguments in ((trial.name[:6],), (str(trial),), (trial.name, "--results", str(copied))):
        shell = bench("verify", *arguments)
        assert shell.code == 0, shell.err
        assert "1 finished trial verified" in shell.out
        assert trial.name in shell.out
    assert "4 finished trials verified" in bench("verify").out  # the newest run


def test_programs_get_one_object(bench: Bench, copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    resealed(trial, lambda r: r["metrics"].update(top1=99.9))
    shell = bench("verify", str(copied), "--json")
    assert shell.code == 1
    found = {each["trial"]: each for each in json.loads(shell.out)["trials"]}
    assert len(found) == 4
    (difference,) = found[trial.name]["differences"]
    assert difference["figure"] == "top1"
    assert difference["recorded"] == 99.9
    assert [each["differs"] for each in found.values()].count(True) == 1


# -- what was changed ------------------------------------------------------------------------------


def test_a_record_that_does_not_match_its_seal_is_named_and_stays_where_it_is(
    bench: Bench, copied: Path
) -> None:
    trial = of_method(copied, "magnitude")
    file = trial / "result.json"
    file.write_text(file.read_text().replace('"top1": ', '"top1": 1'))
    before = everything_in(copied)
    shell = bench("verify", str(copied))
    assert shell.code == 1
    assert f"{trial.name}" in shell.out
    assert "does not match its checksum" in shell.out
    assert "1 with one" in shell.out
    assert everything_in(copied) == before


def test_any_column_that_is_changed_and_sealed_again_is_named(copied: Path) -> None:
    trial = of_method(copied, "deep-compression")
    original = (trial / "result.json").read_bytes()
    context = SweepContext(RunConfig(out=copied))
    for name, value in json.loads(original)["metrics"].items():
        changed = {
            bool: lambda v: not v, int: lambda v: v + 1, str: lambda v: "because",
            list: lambda v: [], dict: lambda v: {},
        }.get(type(value), lambda v: v * 1.001 + 1)(value)  # fmt: skip
        if name in CostColumns.model_fields:
            changed = value - 1  # more than its phases a trial may have cost
        resealed(trial, lambda r, name=name, changed=changed: r["metrics"].update({name: changed}))  # type: ignore[misc]
        found = verify(context, TrialFolder(trial)).tally.differences
        assert [each.figure for each in found] == [name]
        (trial / "result.json").write_bytes(original)
    resealed(trial, lambda r: r["metrics"].pop("top1"))
    assert differing(trial) == ["top1"]
    resealed(trial, lambda r: r["metrics"].update(top1="\x1b[31m<b>x</b>"))
    assert differing(trial) == ["top1"]
    (trial / "result.json").write_bytes(original)
    resealed(trial, lambda r: r.update(unreachable=True, task="regression"))
    assert sorted(differing(trial)) == ["task", "unreachable"]


def test_the_weights_of_another_trial_are_named(copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    shutil.copy(of_method(copied, "dense") / "model.safetensors", trial)
    assert differing(trial) == ["model.safetensors"]
    left = {name for each in verified(trial).tally.left_out for name in each.figures}
    assert "params_effective" in left
    assert "top1" not in left, "it is counted from the stored predictions"
    resealed(trial)
    assert {"dropped weights that are not zero", "compact_max_error"} <= set(differing(trial))


def test_weights_that_masks_drop_and_the_file_holds_are_named(copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    mask = load_file(trial / "masks.safetensors")
    name = next(name for name in mask if name.endswith(".weight"))
    rewritten(trial / "model.safetensors", lambda t: t[name].add_(1e-3 * ~mask[name]))
    resealed(trial)
    assert "dropped weights that are not zero" in differing(trial)


def test_predictions_that_are_changed_are_named(copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    file = trial / "predictions.safetensors"
    rewritten(file, lambda t: t["test"][0].add_(1))
    assert differing(trial) == ["predictions.safetensors"]
    resealed(trial)
    assert differing(trial) == ["outputs in predictions.safetensors"]
    file.unlink()
    (difference,) = verified(trial).tally.differences
    assert (difference.figure, difference.found) == ("predictions.safetensors", "missing")


@pytest.mark.parametrize("name", ["model", "masks", "predictions"])
def test_a_file_that_is_sealed_and_no_file_of_tensors_is_named(copied: Path, name: str) -> None:
    trial = of_method(copied, "magnitude")
    (trial / f"{name}.safetensors").write_bytes(b"x" * 100)
    resealed(trial)
    assert f"{name}.safetensors" in differing(trial)


@pytest.mark.parametrize("wrong", ["name", "shape", "type", "nothing left"])
def test_masks_of_another_network_are_named(copied: Path, wrong: str) -> None:
    trial = of_method(copied, "magnitude")

    def change(masks: dict[str, Tensor]) -> None:
        name = next(iter(masks))
        mask = masks.pop(name)
        masks["other" if wrong == "name" else name] = {
            "name": mask, "shape": mask[:-1].contiguous(), "type": mask.float(), "nothing left": mask & False,
        }[wrong]  # fmt: skip

    rewritten(trial / "masks.safetensors", change)
    resealed(trial)
    assert "masks.safetensors" in differing(trial)


def test_a_compressed_file_that_holds_another_network_is_named(copied: Path) -> None:
    trial = of_method(copied, "deep-compression")
    fixed, huffman = trial / "model-fixed.dc", trial / "model.dc"
    shutil.copy(fixed, huffman)
    assert differing(trial) == ["model.dc"]
    resealed(trial)
    assert "file_bytes" in differing(trial)
    huffman.write_bytes(b"no such file")
    resealed(trial)
    assert differing(trial) == ["file_bytes"]


def test_networks_whose_outputs_are_not_finite_are_named(copied: Path) -> None:
    trial = of_method(copied, "dense")
    rewritten(trial / "model.safetensors", lambda t: next(iter(t.values())).fill_(float("nan")))
    resealed(trial)
    assert "top1" in differing(trial)


def test_files_outside_the_trial_are_not_looked_at(copied: Path) -> None:
    trial = of_method(copied, "dense")
    digest = file_digest(copied / "plan.json")
    resealed(trial, lambda r: r["files"].update({"../../plan.json": digest}))
    (difference,) = verified(trial).tally.differences
    assert (difference.figure, difference.found) == ("../../plan.json", "no file of its folder")


def test_spec_and_costs_of_another_trial_are_named(copied: Path) -> None:
    trial, other = of_method(copied, "dense"), of_method(copied, "magnitude")
    for name in ("spec.json", "cost.json"):
        shutil.copy(other / name, trial)
    assert sorted(differing(trial)) == ["cost.json", "spec.json"]


def test_costs_without_a_seal_are_left_out_and_without_phases_too(copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    cost = json.loads((trial / "cost.json").read_text())
    (trial / "cost.json").write_text(json.dumps({k: v for k, v in cost.items() if k != "sha256"}))
    for file in (copied / "phases").glob("*.safetensors"):
        file.unlink()
    tally = verified(trial).tally
    assert tally.differences == []
    why = {name: each.why for each in tally.left_out for name in each.figures}
    assert "has no seal" in why["cost.json"]
    assert "no longer in the cache" in why["epochs_total"]


# -- what is not here ------------------------------------------------------------------------------


@pytest.fixture
def own(bench: Bench, tmp_path: Path) -> Iterator[Path]:
    """A trial of a user's own network on a user's own data."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "mine.py").write_text(DATA)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").touch()
    arguments = (
        "--methods",
        "magnitude",
        "--targets",
        "3",
        "--models",
        "net.py:build",
        "--datasets",
        "mine",
    )
    assert run("run", *arguments, "--plugin", "mine.py") == 0
    yield tmp_path / "results" / "default"


def test_without_its_data_a_trial_is_counted_from_its_weights(bench: Bench, own: Path) -> None:
    assert bench("verify", "--plugin", "mine.py").code == 0
    Path("data/mine.txt").unlink()
    shell = bench("verify", "--plugin", "mine.py")
    assert shell.code == 0, shell.out
    assert "top1" in shell.out and "data/mine.txt is not there" in shell.out
    trial = of_method(own, "magnitude")
    resealed(trial, lambda r: r["metrics"].update(params_effective=1, top1=0.0))
    shell = bench("verify", "--plugin", "mine.py")
    assert shell.code == 1
    assert "params_effective: recorded 1, found" in shell.out
    assert "top1: recorded" not in shell.out


def test_without_its_network_a_trial_is_counted_from_its_predictions(
    bench: Bench, own: Path
) -> None:
    Path("net.py").unlink()
    shutil.rmtree(own / "sources")
    forget_own_networks()
    shell = bench("verify", "--plugin", "mine.py", "--json")
    assert shell.code == 0, shell.out
    (found,) = json.loads(shell.out)["trials"]
    assert {"top1", "n_test"} <= {*found["equal"], *found["bounded"]}
    assert "validation_loss" in found["bounded"]
    left = {name for each in found["not_counted"] for name in each["figures"]}
    assert {"params_effective", "macs_compact"} <= left
    trial = of_method(own, "magnitude")
    resealed(trial, lambda r: r["metrics"].update(top1=r["metrics"]["top1"] + 100 / 45))
    shell = bench("verify", "--plugin", "mine.py")
    assert shell.code == 1
    assert "top1: recorded" in shell.out


def test_without_its_data_sets_code_a_trial_is_left_out_with_the_reason(
    bench: Bench, own: Path
) -> None:
    shell = bench("verify")
    assert shell.code == 0, shell.out
    assert "Unknown data set 'mine'" in shell.out


def test_a_trial_is_counted_with_the_code_that_it_was_run_with(bench: Bench, own: Path) -> None:
    Path("net.py").write_text(NET.replace("nn.ReLU()", "nn.Sigmoid()"))
    forget_own_networks()
    shell = bench("verify", "--plugin", "mine.py", "--json")
    assert shell.code == 0, shell.out
    (found,) = json.loads(shell.out)["trials"]
    assert {"top1", "macs_compact"} <= {*found["equal"]}


def test_on_another_machine_rounding_is_allowed_and_nothing_more(copied: Path) -> None:
    trial = of_method(copied, "magnitude")
    machine = json.loads((trial / "env.json").read_text())
    (trial / "env.json").write_text(json.dumps(machine | {"cpu_capability": "another"}))

    def lose(r: Json, name: str, by: float) -> None:
        r["metrics"][name] += by

    resealed(trial, lambda r: lose(r, "test_loss", 1e-7))
    tally = verified(trial).tally
    assert tally.differences == []
    assert tally.bounded == ["test_loss"]
    resealed(trial, lambda r: lose(r, "test_loss", 0.1))
    assert differing(trial) == ["test_loss"]
    resealed(trial, lambda r: (lose(r, "test_loss", -0.1), lose(r, "top1", 5)))
    assert differing(trial) == ["top1"]
    (trial / "env.json").write_text(json.dumps(machine))
    assert sorted(differing(trial)) == ["test_loss", "top1"], "on the same one the last bit counts"


@pytest.mark.parametrize("wrong", ["rows", "classes", "names", "infinite"])
def test_predictions_that_do_not_fit_the_data_are_left_out_with_the_reason(
    copied: Path, wrong: str
) -> None:
    trial = of_method(copied, "dense")
    (trial / "model.safetensors").unlink()  # nothing but the predictions is left

    def change(tensors: dict[str, Tensor]) -> None:
        test = tensors.pop("test")
        tensors["other" if wrong == "names" else "test"] = {
            "rows": test[:-1], "classes": test[:, :2], "names": test, "infinite": test + float("inf"),
        }[wrong].contiguous()  # fmt: skip

    rewritten(trial / "predictions.safetensors", change)
    resealed(trial)
    tally = verified(trial).tally
    assert [each.figure for each in tally.differences] == ["model.safetensors"]
    why = {name: each.why for each in tally.left_out for name in each.figures}
    assert why["top1"].startswith("predictions.safetensors")


def test_a_terminal_is_not_sent_what_a_record_holds(bench: Bench, copied: Path) -> None:
    trial = of_method(copied, "dense")
    resealed(trial, lambda r: r["metrics"].update(top1="\x1b[31mred"))
    shell = bench("verify", str(copied))
    assert shell.code == 1
    assert "\x1b" not in shell.out + shell.err
    assert "red" in shell.out


# -- a request that cannot be carried out ----------------------------------------------------------


def test_wrong_requests_are_told_in_a_sentence(bench: Bench, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    trial = of_method(copied, "dense")
    for arguments, said in (
        (("nosuch",), "neither a results folder nor the beginning of a trial's id"),
        (("--results", "empty"), "There are no trials in empty"),
        (("--device", "tpu"), "'tpu' is no device"),
        (("--results", str(copied), ""), "neither"),
    ):
        shell = bench("verify", *arguments)
        assert (shell.code, said in shell.err) == (2, True), shell.err
        assert "Traceback" not in shell.err
    (trial / "result.json").unlink()
    shell = bench("verify", trial.name)
    assert shell.code == 2
    assert "1 started" in shell.err
    shell = bench("verify", str(copied))
    assert shell.code == 0
    assert "Not verified: 1 started" in shell.out


# -- the seal of cost.json, in other commands ------------------------------------------------------


def test_a_cost_that_was_changed_is_named_not_shown_and_not_written_over(
    bench: Bench, copied: Path
) -> None:
    trial = of_method(copied, "magnitude")
    file = trial / "cost.json"
    cost = json.loads(file.read_text())
    file.write_text(
        json.dumps(cost | {"latency": {"speedup_measured": 1000.0}, "train_seconds": 4321.5})
    )
    before = file.read_bytes()
    for arguments in (
        ("report", str(copied), "--format", "csv,md"), ("show", trial.name),
        ("show", trial.name, "--json"), ("measure", str(copied), "--effort", "quick"),
    ):  # fmt: skip
        shell = bench(*arguments)
        assert "does not match its checksum" in shell.err, arguments
        assert "1000" not in shell.out
        assert "4321.5" not in shell.out
        assert file.read_bytes() == before
    assert "4321.5" not in (copied / "runs.csv").read_text()
    other = json.loads((of_method(copied, "dense") / "cost.json").read_text())
    assert "latency" in other
    shell = bench("verify", str(copied))
    assert shell.code == 1, "times that bench measure added are sealed; those of the other are not"
    assert "cost.json: recorded sealed costs of this trial" in shell.out
    assert "1 with one" in shell.out


def test_costs_of_older_versions_are_shown_and_the_report_says_so(
    bench: Bench, copied: Path
) -> None:
    for file in copied.glob("trials/*/cost.json"):
        cost = json.loads(file.read_text())
        file.write_text(json.dumps({"train_seconds": cost["train_seconds"]}))
    shell = bench("report", str(copied), "--format", "csv")
    assert "4 trials have a cost.json without a seal" in shell.err
    assert "nan" not in (copied / "runs.csv").read_text()


# -- the cache of phases ---------------------------------------------------------------------------


def test_phases_that_a_crash_left_half_zeros_are_computed_again_and_told(
    bench: Bench, copied: Path
) -> None:
    before = {t.path: (t.path / "result.json").read_bytes() for t in Results(copied).trials()}
    phases = sorted((copied / "phases").glob("*.safetensors"))
    for file in phases:
        content = bytearray(file.read_bytes())
        start = int.from_bytes(content[:8], "little") + 8
        middle = start + (len(content) - start) // 2
        content[middle:] = bytes(len(content) - middle)
        file.write_bytes(content)
    shutil.rmtree(copied / "trials")
    shell = bench("run", "--methods", "dense,magnitude,dropnet,deep-compression", "--targets", "4",
                  "--datasets", "digits", "--controls", "none", "--progress", "plain", "--latency", "off",
                  *SMOKE, "--out", str(copied))  # fmt: skip
    assert shell.code == 0, shell.err
    assert {path: (path / "result.json").read_bytes() for path in before} == before
    told = [line for line in shell.err.splitlines() if "is damaged" in line]
    assert told and all(line.startswith("Note: ") and "computed again" in line for line in told)
    assert len(told) == len({line.split()[1] for line in told}), "each is told of once"
