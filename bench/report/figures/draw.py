"""Figures as PNG, SVG and PDF, drawn with matplotlib's objects alone: no window, no global state."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report.figures.charts import Chart, Series
from bench.report.figures.curves import CurveChart
from bench.report.figures.panels import LINES, longest_label, paint_panels
from bench.report.figures.reconstructions import Reconstructions, paint_reconstructions, size_inches
from bench.report.load import SMOKE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION_LETTERS = 140  # that fit into the figure's width
TITLE_LETTERS_PER_INCH = 11
LEGEND_LETTERS = 27  # of a label that the style's figure has room for
STYLE = Path(__file__).with_name("bench.mplstyle")
_DATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
Drawing = Chart | CurveChart | Reconstructions


def drawn(chart: Drawing, formats: tuple[str, ...]) -> dict[str, bytes]:
    """Return a figure's files by format; the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context(fname=STYLE):
        figure = figure_of(chart)
        # Placing everything costs as much as drawing it; once is enough for all files.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return {kind: _saved(figure, kind) for kind in formats}


def figure_of(chart: Drawing) -> "Figure":
    """Draw a figure with the style that is set."""
    from matplotlib.figure import Figure

    figure = Figure()
    if isinstance(chart, Reconstructions):
        figure.set_size_inches(*size_inches(chart))
        paint_reconstructions(figure, chart)
    elif isinstance(chart, CurveChart):
        _make_room(figure, longest_label(chart.panels), 1.5 + 2.2 * len(chart.panels))
        paint_panels(figure, chart)
    else:
        letters = max(len(series.label) for series in (*chart.series, *_only(chart.dense)))
        _make_room(figure, letters, 1.5 + 0.23 * len(chart.series))
        _paint_chart(figure, chart)
    _write_around(figure, chart)
    return figure


def _make_room(figure: "Figure", letters: int, height: float) -> None:
    """Enlarge a figure for a long or wide legend; the axes keep their place."""
    figure.set_figheight(max(figure.get_figheight(), height))
    figure.set_figwidth(figure.get_figwidth() + 0.075 * max(0, letters - LEGEND_LETTERS))


def _write_around(figure: "Figure", chart: Drawing) -> None:
    """Write title, caption, and what a smoke run must say."""
    title = chart.title + (f" ({SMOKE})" if chart.is_smoke else "")
    # Not matplotlib's own wrapping, which takes what stands between dollar signs for a formula.
    title = textwrap.fill(title, int(TITLE_LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
    caption = textwrap.fill(chart.caption, CAPTION_LETTERS)
    figure.supxlabel(caption, fontsize=7, color="#555555", x=0.01, ha="left", multialignment="left")
    if chart.is_smoke:
        figure.text(
            0.4, 0.5, SMOKE, rotation=20, fontsize=26, color="#D55E00", alpha=0.35,
            ha="center", va="center", weight="bold",
        )  # fmt: skip


def _paint_chart(figure: "Figure", chart: Chart) -> None:
    axes = figure.add_subplot()
    if chart.dense is not None:
        _draw_dense(axes, chart.dense, as_point="cost" in chart.name)
    for series in chart.series:
        _draw_band(axes, series)
    for order, series in enumerate(chart.series):
        # Methods lie above their controls.
        _draw(axes, series, zorder=3 + 0.01 * order + (0 if series.is_control else 1))
    for order, series in enumerate(sorted(chart.series, key=lambda s: s.is_control)):
        # In turn above and below, right and left, so that neighbours do not cover each other.
        _draw_notes(axes, series, is_above=order % 2 == 0, is_right=order % 4 < 2)
    _draw_axes(axes, chart)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def _only(dense: Series | None) -> tuple[Series, ...]:
    return () if dense is None else (dense,)


def _saved(figure: "Figure", kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, metadata=_DATED[kind])
    return file.getvalue()


def _draw_axes(axes: "Axes", chart: Chart) -> None:
    axes.set_xlim(chart.x.low, chart.x.high)
    axes.set_ylim(chart.y.low, chart.y.high)
    axes.set_xlabel(chart.x.title)
    axes.set_ylabel(chart.y.title)
    axes.set_xticks([at for at, _ in chart.x.ticks], [text for _, text in chart.x.ticks])
    axes.set_yticks([at for at, _ in chart.y.ticks], [text for _, text in chart.y.ticks])


def _draw_dense(axes: "Axes", dense: Series, as_point: bool) -> None:
    y = dense.points[0].y
    if y.has_interval:
        axes.axhspan(y.low, y.high, color=dense.style.colour, alpha=0.08, linewidth=0, zorder=1)
    axes.axhline(y.at, color=dense.style.colour, linestyle="--", linewidth=1.2, label=dense.label)
    if as_point:
        axes.plot(
            [dense.points[0].x.at], [y.at], dense.style.marker, color=dense.style.colour,
            markersize=9, zorder=5,
        )  # fmt: skip


def _has_band(series: Series) -> bool:
    """Return True for methods, which have bands; controls have bars, for bands upon bands cannot be read."""
    is_line = series.is_joined and not series.is_control and len(series.points) > 1
    return is_line and all(p.y.has_interval for p in series.points)


def _draw_band(axes: "Axes", series: Series) -> None:
    if _has_band(series):
        points = series.points
        axes.fill_between(
            [p.x.at for p in points], [p.y.low for p in points], [p.y.high for p in points],
            color=series.style.colour, alpha=0.16, linewidth=0, zorder=2,
        )  # fmt: skip


def _draw(axes: "Axes", series: Series, zorder: float) -> None:
    x, y = [p.x for p in series.points], [p.y for p in series.points]
    colour = series.style.colour
    has_bars = not _has_band(series)
    axes.errorbar(
        [e.at for e in x], [e.at for e in y],
        xerr=None if series.is_joined else [[e.at - e.low for e in x], [e.high - e.at for e in x]],
        yerr=[[e.at - e.low for e in y], [e.high - e.at for e in y]] if has_bars else None,
        marker=series.style.marker, markersize=5.5, markeredgewidth=1.3, color=colour,
        markerfacecolor="white" if series.style.is_hollow else colour,
        linestyle=LINES[series.style.line] if series.is_joined else "none",
        linewidth=1.2 if series.is_control else 1.9,
        elinewidth=0.9, capsize=2.5, label=series.label, zorder=zorder,
    )  # fmt: skip


def _draw_notes(axes: "Axes", series: Series, is_above: bool, is_right: bool) -> None:
    from matplotlib.patheffects import withStroke

    for point in series.points:
        collapsed = f"{point.collapsed} collapsed" if point.collapsed else ""
        note = " ".join([point.note, collapsed]).strip()
        if not note:
            continue
        axes.annotate(
            note, (point.x.at, point.y.at), fontsize=7.5,
            color=series.style.colour, xytext=(4 if is_right else -4, 5 if is_above else -5),
            textcoords="offset points", zorder=8,
            ha="left" if is_right else "right", va="bottom" if is_above else "top",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
