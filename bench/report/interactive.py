"""Charts as plotly figures: plain mappings for the page's script, which draws them."""

import html
from typing import Any

from bench.report.charts import Axis, Chart, Point, Series
from bench.report.table import SMOKE

_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
    "P": "cross", "X": "x", "p": "pentagon", "h": "hexagon", "<": "triangle-left",
    ">": "triangle-right", "d": "diamond-tall", "8": "octagon", "*": "star", "": "x",
}  # fmt: skip
_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot", "dashdot": "dashdot"}


def plotly_of(chart: Chart) -> dict[str, Any]:
    """Return `data` and `layout`; text from outside is escaped, for plotly reads tags."""
    traces = [_trace(series) for series in chart.series]
    shapes: list[dict[str, Any]] = []
    if chart.dense is not None:
        traces.insert(0, _dense_trace(chart.dense, chart))
        shapes = [_dense_band(chart.dense)]
    return {"data": traces, "layout": _layout(chart, shapes)}


def _trace(series: Series) -> dict[str, Any]:
    points, look = series.points, series.look
    width = 1.3 if series.is_control else 2.2
    return {
        "type": "scatter",
        "mode": "lines+markers" if series.is_joined else "markers",
        "name": html.escape(series.label),
        "x": [p.x.at for p in points],
        "y": [p.y.at for p in points],
        "error_y": _bars([(p.y.at, p.y.low, p.y.high) for p in points], look.colour),
        **(
            {}
            if series.is_joined
            else {"error_x": _bars([(p.x.at, p.x.low, p.x.high) for p in points], look.colour)}
        ),
        "line": {"color": look.colour, "dash": _DASHES[look.line], "width": width},
        "marker": {
            "color": look.colour,
            "symbol": _SYMBOLS[look.marker] + ("-open" if look.is_hollow else ""),
            "size": 9,
            "line": {"width": 1.5, "color": look.colour},
        },
        **_pointed_at(points),
    }


def _pointed_at(points: tuple[Point, ...]) -> dict[str, Any]:
    texts = []
    for point in points:
        collapsed = f", {point.collapsed} collapsed" if point.collapsed else ""
        texts.append(html.escape(point.told + collapsed).replace(": ", "<br>", 1))
    return {"text": texts, "hoverinfo": "text"}


def _dense_trace(dense: Series, chart: Chart) -> dict[str, Any]:
    """The dashed line from side to side, as a trace so that it has a place in the legend."""
    point = dense.points[0]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(dense.label),
        "x": [chart.x.low, point.x.at, chart.x.high],
        "y": [point.y.at] * 3,
        "line": {"color": dense.look.colour, "dash": "dash", "width": 1.4},
        **_pointed_at((point,) * 3),
    }


def _dense_band(dense: Series) -> dict[str, Any]:
    y = dense.points[0].y
    return {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": y.low, "y1": y.high,
        "fillcolor": dense.look.colour, "opacity": 0.08, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _bars(estimates: list[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1.1, "width": 3,
        "array": [high - at for at, _, high in estimates],
        "arrayminus": [at - low for at, low, _ in estimates],
    }  # fmt: skip


def _layout(chart: Chart, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y),
        "shapes": shapes,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "height": max(440, 150 + 22 * len(chart.series)),
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


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(axis.title), "standoff": 14},
        "automargin": True,
        "range": [axis.low, axis.high],
        "tickvals": [at for at, _ in axis.ticks],
        "ticktext": [html.escape(text).replace("\n", "<br>") for _, text in axis.ticks],
        "gridcolor": "#E4E4E4",
        "zeroline": False,
        "showline": True,
        "linecolor": "#888888",
        "ticks": "outside",
    }
