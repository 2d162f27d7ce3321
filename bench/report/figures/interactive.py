"""Charts as plotly figures: plain mappings for the page's script, which draws them."""

import html
from typing import Any, TypeAlias

from bench.report.figures.axes import Axis
from bench.report.figures.charts import Chart, Point, Series
from bench.report.figures.curves import CurveChart, Mark
from bench.report.load import SMOKE

Plotly: TypeAlias = dict[str, Any]  # an object of plotly's JSON
_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
    "P": "cross", "X": "x", "p": "pentagon", "h": "hexagon", "H": "hexagon2", "<": "triangle-left",
    ">": "triangle-right", "d": "diamond-tall", "8": "octagon", "*": "star", "": "x",
}  # fmt: skip
_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot", "dashdot": "dashdot"}


def plotly_of(chart: Chart | CurveChart) -> Plotly:
    """Return `data` and `layout`; text from outside is escaped, for plotly reads tags."""
    return _panels(chart) if isinstance(chart, CurveChart) else _chart(chart)


def _chart(chart: Chart) -> Plotly:
    traces = [_trace(series) for series in chart.series]
    shapes: list[Plotly] = []
    if chart.dense is not None:
        traces.insert(0, _dense_trace(chart.dense, chart))
        shapes = [_dense_band(chart.dense)]
    layout = _layout(chart, shapes, len(chart.series))
    return {"data": traces, "layout": {**layout, "yaxis": _axis(chart.y)}}


def _panels(chart: CurveChart) -> Plotly:
    """Lay panels out from the top down; a method's lines share one place in the legend."""
    traces: list[Plotly] = []
    shapes = [_mark_line(mark) for mark in chart.marks]
    layout = _layout(chart, shapes, len(chart.panels[0].series))
    height = 1 / len(chart.panels)
    for number, panel in enumerate(chart.panels, start=1):
        top = 1 - (number - 1) * height
        domain = [top - height * (0.92 if number < len(chart.panels) else 1), top]
        layout["yaxis" if number == 1 else f"yaxis{number}"] = {**_axis(panel.y), "domain": domain}
        for series in panel.series:
            shared = {"yaxis": f"y{number}" if number > 1 else "y", "xaxis": "x",
                      "legendgroup": html.escape(series.label)}  # fmt: skip
            traces.append(_band(series) | shared)
            traces.append(_trace(series, with_bars=False) | shared | {"showlegend": number == 1})
    last = len(chart.panels)
    layout["xaxis"]["anchor"] = f"y{last}" if last > 1 else "y"
    layout["height"] = max(layout["height"], 130 + 230 * last)
    layout["margin"]["t"] = 40
    names = {(mark.at, mark.text): mark for mark in chart.marks}
    layout["annotations"] = [*layout.get("annotations", []), *map(_mark_name, names.values())]
    return {"data": traces, "layout": layout}


def _band(series: Series) -> Plotly:
    points = series.points
    return {
        "type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip",
        "showlegend": False, "opacity": 0.16, "fillcolor": series.style.colour,
        "line": {"width": 0, "color": series.style.colour},
        "x": [p.x.at for p in points] + [p.x.at for p in reversed(points)],
        "y": [p.y.high for p in points] + [p.y.low for p in reversed(points)],
    }  # fmt: skip


def _mark_line(mark: Mark) -> Plotly:
    return {
        "type": "line", "xref": "x", "yref": "paper", "x0": mark.at, "x1": mark.at, "y0": 0,
        "y1": 1, "line": {"color": mark.style.colour, "width": 1.3, "dash": "dash"},
        "layer": "above",
    }  # fmt: skip


def _mark_name(mark: Mark) -> Plotly:
    return {
        "text": html.escape(mark.text), "xref": "x", "yref": "paper", "x": mark.at, "y": 1,
        "yanchor": "bottom", "showarrow": False,
        "font": {"size": 11, "color": mark.style.colour},
    }  # fmt: skip


def _trace(series: Series, with_bars: bool = True) -> Plotly:
    points, style = series.points, series.style
    width = 1.3 if series.is_control else 2.2
    bars = {}
    if with_bars:
        bars["error_y"] = _bars([(p.y.at, p.y.low, p.y.high) for p in points], style.colour)
    if with_bars and not series.is_joined:
        bars["error_x"] = _bars([(p.x.at, p.x.low, p.x.high) for p in points], style.colour)
    return {
        "type": "scatter",
        "mode": "lines+markers" if series.is_joined else "markers",
        "name": html.escape(series.label),
        "x": [p.x.at for p in points],
        "y": [p.y.at for p in points],
        **bars,
        "line": {"color": style.colour, "dash": _DASHES[style.line], "width": width},
        "marker": {
            "color": style.colour,
            "symbol": _SYMBOLS[style.marker] + ("-open" if style.is_hollow else ""),
            "size": 9,
            "line": {"width": 1.5, "color": style.colour},
        },
        **_pointed_at(points),
    }


def _pointed_at(points: tuple[Point, ...]) -> Plotly:
    texts = []
    for point in points:
        collapsed = f", {point.collapsed} collapsed" if point.collapsed else ""
        texts.append(html.escape(point.tooltip + collapsed).replace(": ", "<br>", 1))
    return {"text": texts, "hoverinfo": "text"}


def _dense_trace(dense: Series, chart: Chart) -> Plotly:
    """Return the dashed line from side to side, as a trace so that it has a place in the legend."""
    point = dense.points[0]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(dense.label),
        "x": [chart.x.low, point.x.at, chart.x.high],
        "y": [point.y.at] * 3,
        "line": {"color": dense.style.colour, "dash": "dash", "width": 1.4},
        **_pointed_at((point,) * 3),
    }


def _dense_band(dense: Series) -> Plotly:
    y = dense.points[0].y
    return {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": y.low, "y1": y.high,
        "fillcolor": dense.style.colour, "opacity": 0.08, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _bars(estimates: list[tuple[float, float, float]], colour: str) -> Plotly:
    return {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1.1, "width": 3,
        "array": [high - at for at, _, high in estimates],
        "arrayminus": [at - low for at, low, _ in estimates],
    }  # fmt: skip


def _layout(chart: Chart | CurveChart, shapes: list[Plotly], n_series: int) -> Plotly:
    layout: Plotly = {
        "xaxis": _axis(chart.x),
        "shapes": shapes,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "height": max(440, 150 + 22 * n_series),
        "margin": {"l": 70, "r": 20, "t": 20, "b": 70},
        "legend": {"x": 1.01, "y": 1, "font": {"size": 12}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#333333"},
    }
    if chart.is_smoke:
        layout["annotations"] = [
            {
                "text": SMOKE, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5,
                "showarrow": False, "textangle": -20, "opacity": 0.4,
                "font": {"size": 38, "color": "#D55E00"},
            }
        ]  # fmt: skip
    return layout


def _axis(axis: Axis) -> Plotly:
    return {
        "title": {"text": _lines(axis.title), "standoff": 14},
        "automargin": True,
        "range": [axis.low, axis.high],
        "tickvals": [at for at, _ in axis.ticks],
        "ticktext": [_lines(text) for _, text in axis.ticks],
        "gridcolor": "#E4E4E4",
        "zeroline": False,
        "showline": True,
        "linecolor": "#888888",
        "ticks": "outside",
    }


def _lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")
