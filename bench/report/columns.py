"""The columns of `runs.csv`: their order and types."""

from collections.abc import Collection
from typing import Any, Literal

import pandas as pd

from bench.data.tasks import TASKS, Task
from bench.store.json_values import Scalar
from bench.store.records import latency_column

SUPPORT = ("support_true", "support_read", "support_missed", "support_exact")

IDENTITY = (
    "id", "group", "setting", "label", "method", "options", "method_version", "role",
    "control_of", "control_of_label", "control_of_target", "model", "dataset", "data", "task", "target",
    "seed", "budget", "protocol", "protocol_version", "recipe", "coupling", "weights", "threads",
    "code", "device", "unreachable", "note",
)  # fmt: skip
_MEASURED = (
    "validation_loss", "collapsed", *SUPPORT, "pruning_rate", "pruning_rate_prunable", "compression",
    "density", "live_units", "units_kept_share",
    "units_removed", "kept_output_side", "params_dense", "params_masked", "params_kept",
    "params_effective", "params_compact", "macs_dense", "macs_effective", "macs_compact",
    "compact_max_error", "speedup_theoretical", "epochs_total",
    "images_seen", "images_forward", "multiply_adds_outside", "optimizer_steps", "trainings",
)  # fmt: skip
FILE = ("file_bytes", "file_bytes_fixed", "file_compression", "file_compression_fixed")
MACHINE_COST = ("train_seconds", "peak_memory_mb")
LATENCY = (
    *(
        latency_column(name, batch_size)
        for batch_size in (1, 32)
        for name in ("latency_ms_p50", "latency_ms_p90", "speedup_measured")
    ),
    latency_column("speedup_measured", 1, sparse=True),
)
_TEXT = {"id", "group", "setting", "label", "method", "options", "role", "control_of", "model",
         "control_of_label", "dataset", "data", "task", "budget", "protocol", "recipe", "coupling",
         "weights", "code", "device", "note", "live_units"}  # fmt: skip


Statistic = Literal["mean", "sd", "half_width", "median", "min", "max", "mean_not_collapsed"]
KEPT = "kept_"


def statistic_column(column: str, statistic: Statistic) -> str:
    """Return the name that a column's statistic over seeds has in `summary.csv`: top1_mean.

    Args:
        statistic: `half_width` is half of the 95 % t interval; `mean_not_collapsed` leaves out runs that
            collapsed.
    """
    return f"{column}_{statistic}"


def difference_column(name: str) -> str:
    """Return the name of a column of the difference to the baseline in `summary.csv`: difference_mean."""
    return f"difference_{name}"


def kept_column(state: str, column: str) -> str:
    """Return the name of a column of a kept state in `runs.csv`: kept_before_pruning_top1."""
    return f"{KEPT}{state}_{column}"


def is_kept(name: str, columns: Collection[str]) -> bool:
    """Return True for the columns of kept states that are one of these."""
    return name.startswith(KEPT) and name.endswith(tuple(f"_{column}" for column in columns))


def metrics() -> tuple[str, ...]:
    """Return the columns of what was measured; a user's file may have added a task since the start."""
    tasks = TASKS.values()
    quality = dict.fromkeys(c for task in tasks for c in task.columns)
    validation = dict.fromkeys(task.validation for task in tasks)
    return (*quality, "n_test", *validation, *_MEASURED)


def frame_of(rows: list[dict[str, Scalar]]) -> pd.DataFrame:
    """Put columns into a fixed order, each of one type: whole numbers stay whole where some are missing.

    Columns of tasks that no row is about are left out.
    """
    absent = _of_tasks(TASKS) - _of_tasks({str(row["task"]) for row in rows})
    for some in (FILE, SUPPORT):  # of networks stored as files, and where the true inputs are known
        if not any(some[0] in row for row in rows):
            absent |= set(some)
    known = (*IDENTITY, *metrics(), *FILE, *MACHINE_COST, *LATENCY)
    leading = [name for name in known if name not in absent]
    others = sorted({k for row in rows for k in row} - set(known))
    return pd.DataFrame({k: _column(k, [row.get(k) for row in rows]) for k in leading + others})


def numbers_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns whose means are worth having."""
    headlines = tuple(task.headline.column for task in TASKS.values())
    kept = [c for c in runs.columns if is_kept(c, headlines)]
    known = (*metrics(), *FILE, *MACHINE_COST, *LATENCY)
    counted = ("collapsed", "support_exact", "live_units")
    return [c for c in known if c in runs.columns and c not in counted] + kept


def tasks_of(runs: pd.DataFrame) -> list[Task]:
    """Return the tasks of a report, in the order in which they are known."""
    found = set(runs["task"])
    return [task for name, task in TASKS.items() if name in found]


def _of_tasks(names: Collection[str]) -> set[str]:
    """Return the columns that only some tasks have."""
    return {c for name in names for c in (*TASKS[name].columns, TASKS[name].validation)}


def _column(name: str, values: list[Scalar]) -> "pd.Series[Any]":
    given = [v for v in values if v is not None]
    if name in _TEXT or any(isinstance(v, str) for v in given):
        return pd.Series(values, dtype=object)
    if given and all(isinstance(v, bool) for v in given):
        return pd.Series(values, dtype="boolean")
    if given and all(isinstance(v, int) for v in given):
        return pd.Series(values, dtype="Int64")
    return pd.Series(values, dtype=float)
