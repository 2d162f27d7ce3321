"""Reading never moves a record: what is unreadable stays, what is damaged goes to quarantine when asked."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands_shell import SMOKE, Bench

from bench.store.records import sealed
from bench.store.results import file_digest
from bench.sweep import execute

METHODS = ("--methods", "magnitude", "--datasets", "digits", "--targets", "4", *SMOKE)
RUN = ("run", *METHODS, "--progress", "off", "--out", "out")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of three trials: dense, magnitude and its control."""
    return tmp_path_factory.mktemp("doctor") / "base"


@pytest.fixture
def out(made: Path, bench: Bench, tmp_path: Path) -> Path:
    if not made.exists():
        assert bench("run", *METHODS, "--progress", "off", "--out", str(made)).code == 0
    return Path(shutil.copytree(made, tmp_path / "out"))


def trial_of(out: Path, method: str) -> Path:
    for file in out.glob("trials/*/spec.json"):
        spec = json.loads(file.read_text())["spec"]
        if spec["method"] == method:
            return file.parent
    raise AssertionError(method)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Times and contents of every file; what a run may add is left out."""
    left_out = {".lock", ".csv"}
    return {
        str(f.relative_to(folder)): (f.stat().st_mtime_ns, file_digest(f))
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.suffix not in left_out and f.name != "plan.json"
    }


def unreadable(patch: pytest.MonkeyPatch, file: Path, number: int) -> None:
    """Let the system refuse to open a file, as another user's, a stale or a broken one."""
    usual: Callable[..., Any] = Path.open

    def opened(path: Path, *args: Any, **options: Any) -> Any:
        if path.resolve() == file.resolve():
            raise OSError(number, os.strerror(number), str(path))
        return usual(path, *args, **options)

    patch.setattr(Path, "open", opened)


def rewritten(file: Path, **values: Any) -> None:
    record = json.loads(file.read_text()) | values
    record.pop("sha256")
    file.write_text(json.dumps(sealed(record)))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_an_unreadable_record_is_named_and_left_by_every_command(
    bench: Bench, out: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trial = trial_of(out, "magnitude")
    before = tree(out)
    with monkeypatch.context() as patch:
        unreadable(patch, trial / "result.json", number)
        for command in (RUN, (*RUN, "--rerun-changed"), (*RUN, "--retry-failed")):
            shell = bench(*command)
            assert shell.code == 1
            assert (
                f"the record of trial {trial.name} is left out and as it is: it cannot be read"
                in shell.err
            )
            # Its control follows it, and is not run without it.
            assert "1 trials are finished in out; 2 cannot be read" in shell.err
        shell = bench("report", "out", "--format", "md", "--out", "report")
        assert shell.code == 0
        assert f"the record of trial {trial.name} is left out" in shell.err
        assert "have not run yet" not in shell.err
        assert "magnitude " not in shell.out.replace("random (of magnitude)", "")
        for command in (("show", trial.name), ("export", trial.name, "--to", "torch")):
            shell = bench(*command, "--results", "out")
            assert shell.code == 2
            assert "cannot be read" in shell.err
        assert bench("doctor", "out").code == 1
        shell = bench("doctor", "out", "--repair")
        assert shell.code == 1
        assert "Unreadable, and left as they are:" in shell.out
        for command in (
            ("measure", "out", "--effort", "quick"),
            ("status", "out"),
            ("verify", "out"),
        ):
            assert "Traceback" not in bench(*command).err
    assert tree(out).keys() - before.keys() <= {f".{n}" for n in ("measure.lock",)}
    assert {n: f for n, f in tree(out).items() if not n.endswith("cost.json")} == {
        n: f for n, f in before.items() if not n.endswith("cost.json")
    }
    assert "all 3 trials are finished" in bench(*RUN).err


def test_a_record_of_a_newer_version_is_not_damaged(bench: Bench, out: Path) -> None:
    record = trial_of(out, "magnitude") / "result.json"
    rewritten(record, schema=2)
    newer = record.read_bytes()
    shell = bench(*RUN)
    assert shell.code == 1
    assert "its schema is 2, and this version of bench reads 1; a newer one reads it" in shell.err
    assert "left out and as it is" in bench("report", "out", "--format", "md").err
    assert bench("doctor", "out", "--repair").code == 1
    assert record.read_bytes() == newer
    plan = json.loads((out / "plan.json").read_text()) | {"schema": 2}
    (out / "plan.json").write_text(json.dumps(plan))
    shell = bench(*RUN)
    assert (shell.code, "a newer one reads it; nothing was changed" in shell.err) == (2, True)
    assert json.loads((out / "plan.json").read_text()) == plan


@pytest.mark.parametrize("command", ["report", "status", "doctor", "verify"])
def test_reading_moves_no_damaged_record(bench: Bench, out: Path, command: str) -> None:
    (trial_of(out, "magnitude") / "result.json").write_text("{")
    before = tree(out)
    shell = bench(
        command, "out", *(("--format", "md", "--out", "report") if command == "report" else ())
    )
    assert "Traceback" not in shell.err
    assert tree(out) == before
    assert not (out / "quarantine").exists()


def test_a_doctor_names_everything_and_changes_nothing(bench: Bench, out: Path) -> None:
    assert bench("doctor", "out").code == 0
    assert "Everything that is there is sound." in bench("doctor", "out").out
    dense, magnitude, control = (trial_of(out, m) for m in ("dense", "magnitude", "random"))
    shutil.rmtree(magnitude)
    weights = control / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    (dense / "cost.json").write_text("[]")
    (dense / "notes.txt").write_text("my own")
    phase = max(out.glob("phases/*.safetensors"), key=lambda f: f.stat().st_size)
    half = phase.stat().st_size // 2
    phase.write_bytes(phase.read_bytes()[:half] + bytes(half))  # as a crash may leave it
    (out / "trials" / "notes").mkdir()
    (out / "phases" / "x.safetensors.77.part").write_bytes(b"half")
    before = tree(out)
    shell = bench("doctor", "out")
    assert shell.code == 1
    assert tree(out) == before
    for words in (
        f"trials/{dense.name}/cost.json: it should be an object",
        f"trials/{dense.name}/notes.txt: no file of bench",
        "trials/notes: no file of bench",
        f"trials/{control.name}/model.safetensors: it is not what its record was written with",
        f"phases/{phase.name}: its content does not match its checksum",
        "phases/x.safetensors.77.part: half written",
        "--repair moves what is damaged to quarantine/",
        "GiB free",
    ):
        assert words in shell.out
    facts = json.loads(bench("doctor", "out", "--json").out)
    assert {each["kind"] for each in facts["findings"]} >= {
        "damaged",
        "foreign",
        "left over",
        "missing",
    }


def test_what_is_repaired_is_kept_and_computed_again_to_the_bit(bench: Bench, out: Path) -> None:
    sound = {f.relative_to(out): f.read_bytes() for f in out.glob("trials/*/result.json")}
    magnitude, control = trial_of(out, "magnitude"), trial_of(out, "random")
    (magnitude / "result.json").write_text("NaN")
    (control / "masks.safetensors").unlink()
    phases = list(out.glob("phases/*.safetensors"))
    for phase in phases:
        phase.write_bytes(phase.read_bytes()[:-40] + bytes(40))
    old = out / "phases" / "x.safetensors.77.part"
    old.write_bytes(b"half")
    os.utime(old, (1, 1))
    shell = bench("doctor", "out", "--repair")
    assert shell.code == 0
    kept = {each.name for each in (out / "quarantine").iterdir()}
    assert kept >= {f"{magnitude.name}-1", f"{control.name}-1", f"phases-{phases[0].name}-1"}
    assert not old.exists()
    shell = bench(*RUN)
    assert shell.code == 0
    assert "2 trials to run" in shell.err or "Trials: 3 finished" in shell.err
    assert {f.relative_to(out): f.read_bytes() for f in out.glob("trials/*/result.json")} == sound
    assert bench("doctor", "out").code == 0


def test_a_damaged_record_is_quarantined_by_the_run_that_needs_it(bench: Bench, out: Path) -> None:
    magnitude = trial_of(out, "magnitude")
    (magnitude / "result.json").write_text("[" * 100_000)
    shell = bench(*RUN)
    assert shell.code == 0
    assert "nested too deeply" in shell.err
    assert f"{magnitude.name} was damaged, and its folder was moved to " in shell.err
    assert "bench run computes the trial again" in shell.err
    assert [f.name for f in (out / "quarantine").iterdir()] == [f"{magnitude.name}-1"]


@pytest.mark.parametrize(
    "more",
    [
        ("--datasets", "mnist", "--data-dir", "nowhere"),
        ("--methods", "nobody"),
        ("--set", "recipe.epochs=0"),
        ("--weights", "none.safetensors"),
        ("--models", "none.py:build"),
        ("--device", "cuda:99"),
    ],
)
def test_a_refused_request_leaves_nothing_behind(
    bench: Bench, tmp_path: Path, more: tuple[str, ...]
) -> None:
    before = set(tmp_path.rglob("*"))
    assert bench(*RUN, *more).code == 2
    assert set(tmp_path.rglob("*")) == before
    assert "There are no results" in bench("report").err


def test_what_is_no_results_folder_is_said(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shell = bench("doctor", "photos")
    assert (shell.code, "is no results folder" in shell.err) == (2, True)
    assert bench("doctor").code == 2


def test_a_folder_without_permission_stops_its_own_trial_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = execute.write_json

    def refused(path: Path, value: Any) -> None:
        if json.loads(json.dumps(value)).get("spec", {}).get("method") == "random":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        usual(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "write_json", refused)
        shell = bench(*RUN)
    assert shell.code == 1
    assert "Trials: 2 finished, 1 failed" in shell.err
    assert "not run: random" in shell.err
    assert "Traceback" not in shell.err
    assert not list(tmp_path.glob("out/trials/*/error.json"))
    assert bench(*RUN).code == 0  # no --retry-failed is needed
