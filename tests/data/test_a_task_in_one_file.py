"""A task and its data set, in one file of a user's, go from the command line to the report."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bench.cli.main import main
from bench.data.tasks import TASKS
from bench.errors import UsageError
from bench.plan.plugins import in_file
from bench.plan.registry import Registry

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "add-a-data-set-or-task.md"
RUN = ("run", "--methods", "magnitude,l1", "--datasets", "events", "--seeds", "0,1", "--targets", "2",
       "--budget", "smoke", "--jobs", "1", "--plugin", "events.py")  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the file that the documentation shows; its task is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text("utf-8"), flags=re.S)
    path = tmp_path / "events.py"
    path.write_text(source, encoding="utf-8")
    before = dict(TASKS._by_name)
    yield path
    sys.modules.pop("events", None)
    TASKS._by_name.clear()
    TASKS._by_name.update(before)


@pytest.fixture
def finished(file: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Run two methods and two seeds on it; return the results folder."""
    code, printed = call(capsys, *RUN)
    assert code == 0, printed
    assert "deviance" in printed  # in the lines of finished trials and in the table at the end
    return file.parent / "results" / "default"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["bench", *arguments])
        main()
    printed = capsys.readouterr()
    return (ended.value.code if isinstance(ended.value.code, int) else 0), printed.out + printed.err


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_it_runs_and_is_reported_by_its_own_columns(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [json.loads(p.read_text()) for p in finished.glob("trials/*/result.json")]
    assert {r["spec"]["method"] for r in records} == {"dense", "random", "magnitude", "l1"}
    assert {r["spec"]["seed"] for r in records} == {0, 1}
    assert {r["task"] for r in records} == {"counting"}
    assert {r["spec"]["model"] for r in records} == {"fc-20-20"}  # the task's own
    stored = load_file(next(finished.glob("trials/*/predictions.safetensors")))
    assert stored["test"].shape == (200, 1)

    code, printed = call(capsys, "report", "--plugin", "events.py", "--format", "csv,md,html,png")
    assert code == 0, printed
    heads = next(line for line in printed.splitlines() if line.startswith("| method"))
    for head in ("deviance", "within one %", "deviance: ratio to random (below 1: better)"):
        assert head in heads
    assert "deviance: mean Poisson deviance" in re.sub(r"[*`]", "", printed)
    runs, summary = (rows_of(finished / name) for name in ("runs.csv", "summary.csv"))
    of_trial = {r["id"]: r["metrics"] for r in records}
    for row in runs:
        for column in ("deviance", "within_one", "validation_deviance"):
            assert float(row[column]) == of_trial[row["id"]][column]
    assert {"deviance_mean", "deviance_median", "within_one_mean"} <= summary[0].keys()
    foreign = {"top1", "nmse", "max_error", "support_exact"}
    assert not foreign & {c for row in (runs[0], summary[0]) for c in row}
    assert {p.stem for p in finished.glob("figures/*.png")} >= {
        "fc-20-20_events_smoke_rate", "fc-20-20_events_smoke_cost",
    }  # fmt: skip

    code, printed = call(capsys, "show", records[0]["id"], "--plugin", "events.py")
    assert code == 0, printed
    assert re.search(r"quality +deviance [\d.]+ on 200 test images", printed)


def test_a_report_that_is_not_told_the_file_says_how(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del TASKS._by_name["counting"]  # as in a new process
    trial = next(finished.glob("trials/*")).name
    for arguments, wanted in ((("report",), 2), (("show", trial), 0)):
        code, printed = call(capsys, *arguments)
        assert code == wanted, printed
        assert "the task 'counting', which this version does not know" in printed
        assert "--plugin FILE" in printed


# -- slips -----------------------------------------------------------------------------------------


def test_a_task_is_no_data_set(file: Path) -> None:
    assert [(e.kind, e.name) for e in in_file(file)] == [("datasets", "events")]
    text = file.read_text("utf-8").replace("TaskMetric, generator", "TaskMetric, generator, api")
    for imported, base in (("Task as Question", "Question"), ("Task", "Base")):
        middle = "class Base(Task): pass\n" if base == "Base" else ""
        file.write_text(
            f"from bench.api import {imported}\n{middle}class C({base}):\n    name = 'x'\n{text}"
        )
        assert [(e.kind, e.name) for e in in_file(file)] == [("datasets", "events")]


@pytest.mark.parametrize(
    ("changed", "by", "said"),
    [('name = "counting"', 'name = "regression"', "both define the task 'regression'; rename one"),
     ('targets = "numbers"', "", "the task 'counting' of .*events.py lacks targets"),
     ("task = Counting()", "task = Counting", "such as task = MyTask\\(\\)"),
     ('default_model = "fc-20-20"', "", "the task 'counting' of events .* name one with --models"),
     ('"deviance": deviance, ', "", "declares the columns deviance, within_one, but .* gives within_one"),
     ("100 * int(hits.sum())", "200 * len(hits)", "within_one .* is 200.0, but must be a share from 0 to"),
     ('"deviance": deviance,', '"deviance": -1,', "deviance .* is -1, but must be an error from 0 on"),
     ('targets = "numbers"', 'targets = "labels"', "events: the task 'counting' wants labels"),
     ("classes = 1 ", "classes = 2 ", "2 targets for each")],
)  # fmt: skip
def test_a_slip_is_answered_in_a_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], changed: str, by: str, said: str
) -> None:
    text = file.read_text("utf-8")
    assert changed in text
    file.write_text(text.replace(changed, by))
    code, printed = call(capsys, *RUN, "--methods", "dense", "--seeds", "0")
    assert code in (1, 2)
    assert re.search(said, printed.replace("\n", " ")), printed
    assert "Traceback" not in printed


def test_one_file_under_two_names_is_no_double(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    (file.parent / "more.py").write_text(
        "from bench.api import Dataset\nfrom events import Events\n"
        "class More(Events):\n    name = 'more-events'\n"
    )
    registry = Registry([file, file.parent / "more.py"])
    assert registry.dataset("events").task.name == registry.dataset("more-events").task.name
    other = file.parent / "other.py"
    other.write_text(file.read_text("utf-8").replace('"events"', '"other-events"'))
    with pytest.raises(
        UsageError, match="other.py and .*events.py both define the task 'counting'"
    ):
        Registry([other]).dataset("other-events")
