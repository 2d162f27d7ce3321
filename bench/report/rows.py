"""From a summary to the rows of a printed table: what is shown, with how many digits."""

import math
from dataclasses import dataclass
from typing import Literal

from bench.report.summary import INDISTINCT, Record, Setting, records_of

NOTHING = "–"

DEFINITIONS = (
    (
        "±",
        "half of the 95 % t interval of the mean over seeds; it covers seeds, not the choice of "
        "test images. A single run has none.",
    ),
    ("n", "finished runs, one per seed."),
    (
        "top-1, top-5",
        "share of test images whose label is the first, or among the first five, of the outputs; "
        "one pass after the last decision.",
    ),
    (
        "collapsed",
        "top-1 within 0.5 points of chance. Means are over all runs; where some collapsed, the "
        "mean of the others follows in brackets.",
    ),
    (
        "target",
        "the compression asked for; it binds the kept parameters. Figures and columns use what "
        "was reached. 'own' is a rate that the method arrives at by itself.",
    ),
    (
        "pruning rate",
        "1 − effective / dense parameters, all parameters counted. A kept weight whose input or "
        "output unit is dead is not effective, so two masks of equal size may differ in it.",
    ),
    ("compression", "dense / effective parameters."),
    ("units kept", "share of neurons and filters left, for methods that drop whole units."),
    (
        "theoretical speed-up",
        "multiply-adds of convolutions and linear layers for one sample, dense / effective; "
        "counted, not timed.",
    ),
    (
        "measured speed-up",
        "time of the dense network / time of the network after real removal, batch size 1, taken in "
        "turn on the machine named below, median. Zeros inside a layer make nothing faster: a "
        "network masked weight by weight runs at its dense speed, but for the units it lost.",
    ),
    (
        "epochs",
        "all training the final network needed, its dense start included, whoever computed it.",
    ),
    (
        "random (of X)",
        "lots drawn instead of scores, at X's own counts in every layer, with X's start, rounds and "
        "retraining; where X rewinds or trains in its own way, one training under a mask drawn "
        "before it.",
    ),
    (
        "difference",
        "top-1 minus that of the named control or method, paired by seed: mean ± half of its 95 % "
        f"t interval, not corrected for the number of rows. '{INDISTINCT}': the interval holds 0, "
        "or there are fewer than 3 pairs.",
    ),
)


@dataclass(frozen=True)
class Column:
    title: str
    is_number: bool = True


@dataclass(frozen=True)
class Cell:
    """What is printed, and the number it is sorted by."""

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
    """

    name: str
    title: str
    is_smoke: bool
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def block_of(setting: Setting) -> Block:
    """Lay out one setting's table."""
    records = records_of(setting.groups)
    with_units = any(_masks_units(r) for r in records)
    baseline = records[0]["baseline"]
    titles = ["n", "top-1 %", "top-5 %", "pruning rate %", "compression ×"]
    titles += ["units kept %"] if with_units else []
    timed = any(record["speedup_measured_mean"] > 0 for record in records)
    titles += ["theoretical speed-up ×"]
    titles += ["measured speed-up ×"] if timed else []
    titles += ["epochs", f"difference to {baseline} (points)"]
    columns = (Column("method", False), Column("target", False), *map(Column, titles))
    rows = tuple(_row(record, with_units, timed) for record in records)
    return Block(setting.name, setting.title, setting.is_smoke, columns, rows, _notes(records))


def decimals(half: float, n_test: float) -> int:
    """Digits after the point that an accuracy in percent deserves."""
    if math.isnan(half):
        return max(0, min(2, math.ceil(math.log10(max(n_test, 1))) - 2))
    return 0 if half >= 10 else 1 if half >= 1 else 2


def with_interval(mean: float, half: float, digits: int, sign: str = "") -> str:
    text = f"{mean:{sign}.{digits}f}"
    return text if math.isnan(half) else f"{text} ± {half:.{digits}f}"


def target_text(record: Record) -> str:
    """The compression asked for, or whose it is."""
    target = _target(record)
    if not math.isnan(target):
        missed = " (not reached)" if record["n_unreachable"] else ""
        return f"{target:g}×{missed}"
    return "own" if record["pruning_rate_mean"] > 0 else NOTHING


def _target(record: Record) -> float:
    """A control at another trial's cost has no target but is listed with the one it follows."""
    own = float(record["target"])
    return float(record["control_of_target"]) if math.isnan(own) else own


def _row(record: Record, with_units: bool, timed: bool) -> Row:
    rate, rate_half = 100 * record["pruning_rate_mean"], 100 * record["pruning_rate_half_width"]
    # A method that works to a target reaches nearly the same rate with every seed.
    shown_half = rate_half if math.isnan(_target(record)) and rate > 0 else math.nan
    units = 100 * record["units_kept_share_mean"]
    speedup, epochs = record["speedup_theoretical_mean"], record["epochs_total_mean"]
    compression = record["compression_mean"]
    cells = [
        Cell(record["label"]),
        Cell(target_text(record), _target(record)),
        Cell(_n_text(record), record["n"]),
        Cell(_top1_text(record), record["top1_mean"]),
        Cell(f"{record['top5_mean']:.{_digits(record, 'top5')}f}", record["top5_mean"]),
        Cell(with_interval(rate, shown_half, 1), rate),
        Cell(_factor_text(compression), compression),
        Cell(_factor_text(speedup), speedup),
        Cell(f"{epochs:.0f}" if epochs == round(epochs) else f"{epochs:.1f}", epochs),
        Cell(_difference_text(record), record["difference_mean"]),
    ]
    if timed:
        measured = record["speedup_measured_mean"]
        text = NOTHING if math.isnan(measured) else f"{measured:.2f}"
        cells.insert(8, Cell(text, measured))
    if with_units:
        shown = f"{units:.1f}" if _masks_units(record) else NOTHING
        cells.insert(7, Cell(shown, units if _masks_units(record) else math.nan))
    is_dense = record["method"] == "dense"
    kind: Literal["dense", "method"] = "dense" if is_dense else "method"
    return Row(kind if record["role"] == "method" else "control", tuple(cells))


def _masks_units(record: Record) -> bool:
    return float(record["units_removed_mean"]) > 0


def _n_text(record: Record) -> str:
    collapsed = f" ({record['n_collapsed']} collapsed)" if record["n_collapsed"] else ""
    return f"{record['n']}{collapsed}"


def _digits(record: Record, metric: str) -> int:
    return decimals(record[f"{metric}_half_width"], record["n_test_mean"])


def _top1_text(record: Record) -> str:
    text = with_interval(record["top1_mean"], record["top1_half_width"], _digits(record, "top1"))
    if record["n_collapsed"] and record["n_collapsed"] < record["n"]:
        text += f" (others {record['top1_mean_not_collapsed']:.2f})"
    return text


def _factor_text(factor: float) -> str:
    return f"{factor:.1f}" if factor < 1000 else f"{factor:.0f}"


def _difference_text(record: Record) -> str:
    if not record["difference_n"]:
        return NOTHING
    mean, half = record["difference_mean"], record["difference_half_width"]
    text = with_interval(mean, half, decimals(half, record["n_test_mean"]), "+")
    remarks = [INDISTINCT] if record["difference_verdict"] == INDISTINCT else []
    if record["difference_n"] != record["n"]:
        remarks.append(f"{record['difference_n']} pairs")
    return f"{text} ({', '.join(remarks)})" if remarks else text


def _notes(records: list[Record]) -> tuple[str, ...]:
    images = sorted({int(r["n_test_mean"]) for r in records})
    notes = [f"Test images: {' or '.join(str(n) for n in images)}."]
    collapsed = sum(int(r["n_collapsed"]) for r in records)
    if collapsed:
        notes.append(f"Collapsed runs: {collapsed}; they are part of every mean and n.")
    if any(r["n_unreachable"] for r in records):
        notes.append("Not reached: the target lies below what leaves every layer a unit.")
    return tuple(notes)
