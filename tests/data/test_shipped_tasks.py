"""Every shipped task says all that is asked of one, and its words are in the documentation."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data.tasks import TASKS, Task
from bench.plan.build_network import build
from bench.plan.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [task for task in TASKS.values() if type(task).__module__.startswith("bench.data.tasks.")]
DEFINED = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")


def test_the_order_of_columns_is_that_of_old_reports() -> None:
    assert [t.name for t in SHIPPED] == ["classification", "regression", "autoencoder"]


@pytest.mark.parametrize("task", SHIPPED, ids=lambda task: task.name)
def test_every_metric_has_a_title_and_a_definition(task: Task) -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", DEFINED))
    assert {*task.columns, task.validation} <= named
    assert task.meaning.endswith(".")
    titles = [metric.title for metric in task.metrics]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    assert all(m.title.endswith(" %") == m.is_percent for m in task.metrics)


@pytest.mark.parametrize("task", SHIPPED, ids=lambda task: task.name)
def test_its_default_model_fits_its_data_sets(task: Task) -> None:
    registry = Registry()
    found = [registry.dataset(name) for name in registry.entries("datasets")]
    # One small data set is enough: networks are of any size of image.
    own = sorted((d for d in found if d.task.name == task.name), key=lambda d: d.shape)
    assert own
    build(registry, task.default_model, own[0], seed=0)


def test_reports_and_lists_know_tasks_without_torch() -> None:
    program = (
        "import sys; import bench.report.write, bench.cli.report, bench.cli.show_trial, "
        "bench.sweep.progress; from bench.data.tasks import TASKS; "
        "assert len(TASKS) >= 3; print('torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert told.stdout == "False\n"


def test_no_other_file_asks_for_the_name_of_a_task() -> None:
    names = {task.name for task in SHIPPED}
    for room in ("bench", "methods", "models"):
        for file in (ROOT / room).rglob("*.py"):
            # Records of before there were others name no task.
            is_of_old_records = file == ROOT / "bench" / "store" / "records.py"
            if (ROOT / "bench" / "data" / "tasks") in file.parents or is_of_old_records:
                continue
            if file.is_symlink():
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)
                     and isinstance(n.value, str)}  # fmt: skip
            assert not found & names, file
