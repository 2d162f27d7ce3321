"""Panels above each other with one x-axis, painted with matplotlib."""

from collections import Counter
from typing import TYPE_CHECKING

from bench.report.figures.charts import Series
from bench.report.figures.curves import CurveChart, Mark, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
MARK_GID = "mark"  # names the vertical lines in a figure
_STROKE = 3.0  # of a dashed mark, in points


def paint_panels(figure: "Figure", chart: CurveChart) -> None:
    """Paint everything but title and caption."""
    rows = figure.subplots(len(chart.panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(rows, chart.panels, strict=True):
        for series in panel.series:
            _paint_line(axes, series)
        _paint_marks(axes, chart.marks)
        axes.set_xlim(chart.x.low, chart.x.high)
        axes.set_ylim(panel.y.low, panel.y.high)
        axes.set_ylabel(panel.y.title)
        axes.set_yticks([at for at, _ in panel.y.ticks], [text for _, text in panel.y.ticks])
    rows[-1].set_xlabel(chart.x.title)
    rows[-1].set_xticks([at for at, _ in chart.x.ticks], [text for _, text in chart.x.ticks])
    rows[0].figure.align_ylabels(rows)
    rows[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    _name_marks(rows[0], chart.marks)


def longest_label(panels: tuple[Panel, ...]) -> int:
    """Return the number of letters of the longest label, which the figure needs room for."""
    return max((len(series.label) for panel in panels for series in panel.series), default=0)


def _paint_line(axes: "Axes", series: Series) -> None:
    points, style = series.points, series.style
    x = [p.x.at for p in points]
    if any(p.y.has_interval for p in points):
        axes.fill_between(
            x, [p.y.low for p in points], [p.y.high for p in points],
            color=style.colour, alpha=0.16, linewidth=0, zorder=2,
        )  # fmt: skip
    axes.plot(
        x, [p.y.at for p in points],
        marker=style.marker, markersize=4.5, color=style.colour, linestyle=LINES[style.line],
        markerfacecolor="white" if style.is_hollow else style.colour,
        linewidth=1.2 if series.is_control else 1.9, label=series.label,
        zorder=3 if series.is_control else 4,
    )  # fmt: skip


def _paint_marks(axes: "Axes", marks: tuple[Mark, ...]) -> None:
    """Paint marks; those at one place take turns along the line, so that every colour is seen."""
    together = Counter(mark.at for mark in marks)
    passed: Counter[float] = Counter()
    for mark in marks:
        gap = _STROKE * max(1, together[mark.at] - 1)
        dashes = (_STROKE * passed[mark.at], (_STROKE, gap))
        passed[mark.at] += 1
        axes.axvline(
            mark.at, color=mark.style.colour, linestyle=dashes, linewidth=1.3, zorder=1.5,
            gid=MARK_GID,
        )  # fmt: skip


def _name_marks(axes: "Axes", marks: tuple[Mark, ...]) -> None:
    """Write each value above its line, once, however many methods went on with it."""
    passed: Counter[float] = Counter()
    said = set()
    for mark in marks:
        if (mark.at, mark.text) in said:
            continue
        said.add((mark.at, mark.text))
        axes.annotate(
            mark.text, (mark.at, 1), xycoords=("data", "axes fraction"), fontsize=7.5,
            color=mark.style.colour, xytext=(0, 3 + 9 * passed[mark.at]),
            textcoords="offset points", ha="center", va="bottom",
        )  # fmt: skip
        passed[mark.at] += 1
