"""From a summary to the rows of a printed table: what is shown, with how many digits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from bench.data.tasks import Task, TaskMetric
from bench.report.columns import kept_column, statistic_column
from bench.report.statistics import INDISTINCT, LOG_RATIO, POINTS
from bench.report.summary import Setting, SummaryRow, records_of
from bench.report.tables.numbers import (
    NOTHING,
    before_text,
    decimals,
    factor_text,
    middle_of,
    quality_text,
    ratio_text,
    share_text,
    with_interval,
)

BEFORE = "before_pruning"  # the state that methods which threshold keep


@dataclass(frozen=True)
class Column:
    title: str
    is_number: bool = True


@dataclass(frozen=True)
class Cell:
    """A printed text, and the number it is sorted by."""

    text: str
    value: float = math.nan


@dataclass(frozen=True)
class Row:
    kind: Literal["dense", "method", "control"]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """One printed table.

    Attributes:
        notes: sentences that stand under it.
        keys: of the definitions that it needs.
    """

    name: str
    title: str
    is_smoke: bool
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    keys: frozenset[str]


@dataclass(frozen=True)
class _Shown:
    """A column: what defines it, its heading, and its cell of a record."""

    key: str
    column: Column
    cell: Callable[[SummaryRow], Cell]


def block_of(setting: Setting) -> Block:
    """Lay out one setting's table."""
    records = records_of(setting.groups)
    shown = _shown(setting.task, records)
    rows = tuple(Row(_kind(r), tuple(each.cell(r) for each in shown)) for r in records)
    columns = tuple(each.column for each in shown)
    keys = {each.key for each in shown} | _remarks(records, rows)
    return Block(
        setting.name, setting.title, setting.is_smoke, columns, rows, _notes(setting.task, records),
        frozenset(keys),
    )  # fmt: skip


def target_text(record: SummaryRow) -> str:
    """Return the compression asked for, or whose it is."""
    target = _target(record)
    if not math.isnan(target):
        missed = " (not reached)" if record["n_unreachable"] else ""
        return f"{target:g}×{missed}"
    return "own" if record["pruning_rate_mean"] > 0 else NOTHING


def _shown(task: Task, records: Sequence[SummaryRow]) -> list[_Shown]:
    """Return the columns that have something to say about these records."""
    baseline = records[0]["baseline"]
    found = [
        _Shown("label", Column("method", False), lambda r: Cell(r["label"])),
        _Shown("target", Column("target", False), lambda r: Cell(target_text(r), _target(r))),
        _Shown("n", Column("n"), lambda r: Cell(_n_text(r), r["n"])),
        _headline(task),
        *[_other(task, quality) for quality in task.others],
    ]
    before = kept_column(BEFORE, task.headline.column)
    if any(pd.notna(r.get(statistic_column(before, "mean"))) for r in records):
        found.append(_before(task.headline, before))
    if any(r.get("n_support_known", 0) for r in records):
        found.append(_Shown("support", Column("support exact"), _support))
    found += [
        _Shown("pruning_rate", Column("pruning rate %"), _rate),
        _Shown("compression", Column("compression ×"), _factor("compression")),
    ]
    if any(_masks_weights(r) and r["live_units"] for r in records):
        found.append(_Shown("density", Column("density %"), _density))
        found.append(_Shown("live_units", Column("live units"), _live))
        found.append(_Shown("compact", Column("compact size %"), _compact))
    if any(_masks_units(r) for r in records):
        found.append(_Shown("units", Column("units kept %"), _units))
    if any(r.get("file_bytes_mean", math.nan) > 0 for r in records):
        for column, coding in (
            ("file_compression_fixed", "fixed"),
            ("file_compression", "Huffman"),
        ):
            found.append(_Shown("file", Column(f"file × ({coding})"), _factor(column)))
    title = Column("theoretical speed-up ×")
    found.append(_Shown("speedup_theoretical", title, _factor("speedup_theoretical")))
    if any(r["speedup_measured_mean"] > 0 for r in records):
        found.append(_Shown("speedup_measured", Column("measured speed-up ×"), _measured))
    found.append(_Shown("epochs", Column("epochs"), _epochs))
    if any(r["difference_n"] > 0 for r in records):
        found.append(_difference(task, baseline))
    return found


def _headline(task: Task) -> _Shown:
    quality = task.headline
    title = f"{quality.title}: median (range)" if quality.by_median else quality.title
    return _Shown(task.name, Column(title), lambda r: _quality(r, quality, True))


def _other(task: Task, quality: TaskMetric) -> _Shown:
    return _Shown(task.name, Column(quality.title), lambda r: _quality(r, quality, False))


def _quality(record: SummaryRow, quality: TaskMetric, with_spread: bool) -> Cell:
    text = quality_text(record, quality, with_spread)
    return Cell(text, middle_of(record, quality).at)


def _before(quality: TaskMetric, column: str) -> _Shown:
    title = Column(f"before pruning: {quality.title}")
    return _Shown(
        "before",
        title,
        lambda r: Cell(before_text(r, column), middle_of(r, quality, column).at),
    )


def _difference(task: Task, baseline: str) -> _Shown:
    if task.headline.is_percent:
        title = f"difference to {baseline} (points)"
        return _Shown(POINTS, Column(title), _points)
    title = f"{task.headline.title}: ratio to {baseline} (below 1: better)"
    return _Shown(LOG_RATIO, Column(title), _ratio)


# -- cells -----------------------------------------------------------------------------------


def _kind(record: SummaryRow) -> Literal["dense", "method", "control"]:
    if record["role"] != "method":
        return "control"
    return "dense" if record["method"] == "dense" else "method"


def _target(record: SummaryRow) -> float:
    """Return a row's target; a control at another trial's cost is listed with the one it follows."""
    own = float(record["target"])
    return float(record["control_of_target"]) if math.isnan(own) else own


def _masks_units(record: SummaryRow) -> bool:
    return float(record["units_removed_mean"]) > 0


def _masks_weights(record: SummaryRow) -> bool:
    return float(record["density_mean"]) < 1 and not _masks_units(record)


def _n_text(record: SummaryRow) -> str:
    collapsed = f" ({record['n_collapsed']} collapsed)" if record["n_collapsed"] else ""
    return f"{record['n']}{collapsed}"


def _support(record: SummaryRow) -> Cell:
    exact, known = int(record["n_support_exact"]), int(record["n_support_known"])
    return Cell(f"{exact} of {known}", exact / known) if known else Cell(NOTHING)


def _rate(record: SummaryRow) -> Cell:
    rate, half = 100 * record["pruning_rate_mean"], 100 * record["pruning_rate_half_width"]
    # A method that works to a target reaches nearly the same rate with every seed.
    shown_half = half if math.isnan(_target(record)) and rate > 0 else math.nan
    return Cell(with_interval(rate, shown_half, 1), rate)


def _factor(column: str) -> Callable[[SummaryRow], Cell]:
    def cell(record: SummaryRow) -> Cell:
        factor = float(record[statistic_column(column, "mean")])
        return Cell(NOTHING if math.isnan(factor) else factor_text(factor), factor)

    return cell


def _density(record: SummaryRow) -> Cell:
    density = float(record["density_mean"])
    return Cell(NOTHING if math.isnan(density) else share_text(density), density)


def _compact(record: SummaryRow) -> Cell:
    share = float(record["params_compact_mean"]) / float(record["params_dense_mean"])
    return Cell(NOTHING if math.isnan(share) else share_text(share), share)


def _live(record: SummaryRow) -> Cell:
    return Cell(record["live_units"] or NOTHING)


def _units(record: SummaryRow) -> Cell:
    units = 100 * record["units_kept_share_mean"]
    return Cell(f"{units:.1f}", units) if _masks_units(record) else Cell(NOTHING)


def _measured(record: SummaryRow) -> Cell:
    measured = record["speedup_measured_mean"]
    return Cell(NOTHING if math.isnan(measured) else f"{measured:.2f}", measured)


def _epochs(record: SummaryRow) -> Cell:
    epochs = record["epochs_total_mean"]
    return Cell(f"{epochs:.0f}" if epochs == round(epochs) else f"{epochs:.1f}", epochs)


def _points(record: SummaryRow) -> Cell:
    if not record["difference_n"]:
        return Cell(NOTHING)
    mean, half = record["difference_mean"], record["difference_half_width"]
    text = with_interval(mean, half, decimals(half, record["n_test_mean"]), "+")
    remarks = _remarks_on_pairs(record)
    return Cell(f"{text} ({', '.join(remarks)})" if remarks else text, mean)


def _ratio(record: SummaryRow) -> Cell:
    if not record["difference_n"]:
        return Cell(NOTHING)
    mean, half = record["difference_mean"], record["difference_half_width"]
    remarks = _remarks_on_pairs(record)
    if not math.isnan(half):
        low, high = (ratio_text(_ratio_of(at)) for at in (mean - half, mean + half))
        remarks.insert(0, f"{low} to {high}")
    text = ratio_text(_ratio_of(mean))
    return Cell(f"{text} ({', '.join(remarks)})" if remarks else text, mean)


def _ratio_of(logarithm: float) -> float:
    """Return the ratio of a logarithm, cut where an interval of two pairs is wider than any number."""
    return math.exp(max(-99.0, min(99.0, logarithm)))


def _remarks_on_pairs(record: SummaryRow) -> list[str]:
    remarks = [INDISTINCT] if record["difference_verdict"] == INDISTINCT else []
    if record["difference_n"] != record["n"]:
        remarks.append(f"{record['difference_n']} pairs")
    return remarks


# -- below the table -------------------------------------------------------------------------


def _remarks(records: Sequence[SummaryRow], rows: Sequence[Row]) -> set[str]:
    """Return the keys of what needs a definition without being a column."""
    found = {"±"} if any("±" in cell.text for row in rows for cell in row.cells) else set()
    found |= {"collapsed"} if any(r["n_collapsed"] for r in records) else set()
    is_random = [r["method"] == "random" and r["role"] != "method" for r in records]
    return found | ({"random"} if any(is_random) else set())


def _notes(task: Task, records: Sequence[SummaryRow]) -> tuple[str, ...]:
    sizes = sorted({int(r["n_test_mean"]) for r in records})
    notes = [f"Test {task.items}: {' or '.join(str(n) for n in sizes)}."]
    collapsed = sum(int(r["n_collapsed"]) for r in records)
    if collapsed:
        middle = "median" if task.headline.by_median else "mean"
        notes.append(f"Collapsed runs: {collapsed}; they are part of every {middle} and n.")
    if any(r["n_unreachable"] for r in records):
        notes.append("Not reached: the target lies below what leaves every layer a unit.")
    return tuple(notes)
