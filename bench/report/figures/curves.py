"""Figures of the curves that methods measured while they searched for a number of theirs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import pandas as pd

from bench.data.tasks import Task
from bench.report.attachments import Curve
from bench.report.figures.axes import (
    Axis,
    Estimate,
    Place,
    estimate,
    limits,
    quality_axis,
    quality_place,
)
from bench.report.figures.charts import Point, Series
from bench.report.figures.palette import Palette, SeriesStyle
from bench.report.figures.scales import scale_of, value_text, words_of
from bench.report.statistics import Middle, middles_of
from bench.report.summary import Setting, SummaryRow, records_of, shortened, slug

MOST_MARKS = 3  # of one line, beyond which only their median is drawn
_N_VALIDATION = 1000  # a curve does not say how many images it was measured on


@dataclass(frozen=True)
class Panel:
    """One quantity over the common x-axis."""

    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Mark:
    """The value that a method went on with."""

    at: float
    text: str
    style: SeriesStyle


@dataclass(frozen=True)
class CurveChart:
    """One figure of panels above each other. Positions are on the axes' own scales."""

    name: str
    title: str
    is_smoke: bool
    x: Axis
    panels: tuple[Panel, ...]
    marks: tuple[Mark, ...]
    caption: str


@dataclass(frozen=True)
class _Line:
    """The trials of one line, one per seed, and the values that they and their like went on with."""

    label: str
    style: SeriesStyle
    is_control: bool
    curves: tuple[Curve, ...]
    marked: tuple[float, ...]


def curve_charts_of(
    setting: Setting,
    runs: pd.DataFrame,
    curves: Iterable[Curve],
    palette: Palette,
) -> list[CurveChart]:
    """Return a figure for each number that methods of this setting looked for.

    Args:
        setting: what is drawn.
        runs: of the whole report.
        curves: of the whole report.
        palette: the styles of everything in the report.
    """
    own = runs[runs["setting"] == setting.groups["setting"].iloc[0]]
    ids = set(own["id"])
    found = [c for c in curves if c.trial in ids]
    by_trial = {str(r["id"]): r for r in records_of(own)} if found else {}
    charts = []
    for name in sorted({c.name for c in found}):
        lines = _lines([c for c in found if c.name == name], by_trial, palette)
        charts.append(_chart(setting, name, lines))
    return charts


def _chart(setting: Setting, name: str, lines: Sequence[_Line]) -> CurveChart:
    scale = scale_of(name, [x for line in lines for c in line.curves for x in c.columns[name]])
    first = setting.task.validation
    columns = {c for line in lines for curve in line.curves for c in curve.columns} - {name}
    panels = tuple(
        _panel(setting.task, name, column, lines, scale.place)
        for column in sorted(columns, key=lambda c: (c != first, c))
    )
    marks = tuple(mark for line in lines for mark in _marks(line, name, scale.place))
    points = [p.x for panel in panels for s in panel.series for p in s.points]
    low, high = limits([*points, *(Estimate(m.at, m.at, m.at) for m in marks)])
    return CurveChart(
        name=f"{setting.name}_{shortened(slug(name), 60)}_curve",
        title=f"What the {words_of(name)} does: {setting.title}",
        is_smoke=setting.is_smoke,
        x=scale.axis(low, high),
        panels=panels,
        marks=marks,
        caption=_caption(setting.task, name, lines),
    )


# -- lines -----------------------------------------------------------------------------------


def _lines(
    curves: Sequence[Curve], by_trial: Mapping[str, SummaryRow], palette: Palette
) -> list[_Line]:
    """Return a line per label, or per label and target where the targets' curves differ."""
    groups: dict[str, dict[float, list[Curve]]] = {}
    for curve in sorted(curves, key=lambda c: int(by_trial[c.trial]["seed"])):
        record = by_trial[curve.trial]
        groups.setdefault(str(record["label"]), {}).setdefault(_target(record), []).append(curve)
    lines = []
    for label, by_target in sorted(groups.items(), key=lambda group: group[0]):
        # The search is often the same for every target, and only what is made of it differs.
        distinct: dict[object, list[list[Curve]]] = {}
        for _, found in sorted(by_target.items()):
            distinct.setdefault(_values(found, by_trial), []).append(found)
        for first, *others in distinct.values():
            record = by_trial[first[0].trial]
            name = label if len(distinct) == 1 else f"{label} at {_target(record):g}×"
            marked = {c.marked for c in [*first, *sum(others, [])] if c.marked is not None}
            lines.append(
                _Line(name, _style(record, palette), record["role"] != "method", tuple(first),
                      tuple(sorted(marked)))
            )  # fmt: skip
    return lines


def _values(curves: Sequence[Curve], by_trial: Mapping[str, SummaryRow]) -> object:
    """Return the values that tell the curves of one target from those of another."""
    return tuple((by_trial[c.trial]["seed"], tuple(sorted(c.columns.items()))) for c in curves)


def _target(record: SummaryRow) -> float:
    target = float(record["target"])
    return 0.0 if math.isnan(target) else target


def _style(record: SummaryRow, palette: Palette) -> SeriesStyle:
    if record["role"] == "method":
        return palette.of_method(record["label"])
    return palette.of_control(record["method"], record["control_of_label"])


def _marks(line: _Line, name: str, place: Place) -> list[Mark]:
    if len(line.marked) > MOST_MARKS:
        middle = median(line.marked)
        return [Mark(place(middle), f"median {value_text(name, middle)}", line.style)]
    return [Mark(place(x), value_text(name, x), line.style) for x in line.marked]


# -- panels ----------------------------------------------------------------------------------


def _panel(
    task: Task,
    name: str,
    column: str,
    lines: Sequence[_Line],
    place_x: Place,
) -> Panel:
    is_headline = column == task.validation
    every = [v for line in lines for c in line.curves for v in c.columns.get(column, ())]
    place = (
        quality_place(task.headline, _N_VALIDATION)
        if is_headline
        else scale_of(column, every).place
    )
    series = []
    for line in lines:
        n, found = middles_of(line.curves, name, column, task.headline.by_median and is_headline)
        points = tuple(
            Point(
                estimate(Middle(x, math.nan, math.nan), place_x),
                estimate(middle, place),
                "",
                f"{line.label}: {words_of(name)} {value_text(name, x)}, "
                f"{words_of(column)} {value_text(column, middle.at)}, n = {n}",
                0,
            )
            for x, middle in found
        )
        if points:
            label = f"{line.label}, n = {n}"
            series.append(Series(label, line.style, points, True, line.is_control))
    estimates = [p.y for s in series for p in s.points]
    if is_headline:
        axis = quality_axis(
            task.headline, estimates, "validation ", may_cut=not task.headline.by_median
        )
    else:
        axis = scale_of(column, every).axis(*limits(estimates))
    # Panels are low: what stands in brackets gets a line of its own.
    return Panel(replace(axis, title=axis.title.replace(" (", "\n(", 1)), tuple(series))


def _caption(task: Task, name: str, lines: Sequence[_Line]) -> str:
    by_median = task.headline.by_median
    means = "means over n seeds, bands: 95 % t intervals"
    if by_median:
        title = task.headline.title
        means = f"{title}: medians over n seeds, bands from the least to the largest; else {means}"
    sentences = [f"On validation images, before the test images were read; {means}."]
    if any(line.marked for line in lines):
        sentences.append(f"Vertical lines: the {words_of(name)} that a method went on with.")
    if any(len({c.columns[name] for c in line.curves}) > 1 for line in lines):
        sentences.append("Where seeds have different points, values between them lie on lines.")
    if not by_median:
        sentences.append("Intervals wider than the figure are cut.")
    return " ".join(sentences)
