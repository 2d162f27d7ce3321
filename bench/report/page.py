"""One HTML file that needs no network: tables, figures to point at, definitions, environment."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.figures.draw import Drawing
from bench.report.figures.interactive import Plotly, plotly_of
from bench.report.figures.reconstructions import Reconstructions
from bench.report.load import SMOKE, Environment, Loaded
from bench.report.summary import changes
from bench.report.tables.definitions import definitions_for
from bench.report.tables.rows import Block

TEMPLATE = Path(__file__).with_name("page.html")
_ASKED = (
    ("Networks", "model"),
    ("Data sets", "dataset"),
    ("Targets (compression)", "target"),
    ("Seeds", "seed"),
    ("Budget", "budget"),
    ("Protocol", "protocol"),
)


@dataclass(frozen=True)
class _Section:
    """A table and its figures."""

    block: Block
    figures: tuple["_Figure", ...]


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    caption: str
    picture: str  # a data URI; where there is a figure to point at, for readers without script
    plotly: Plotly | None


def page_of(
    loaded: Loaded,
    blocks: Sequence[Block],
    charts: Mapping[str, Sequence[Drawing]],
    pictures: Mapping[str, bytes],
) -> str:
    """Return the page.

    Args:
        loaded: what the tables were made from.
        blocks: tables, in order.
        charts: the figures of every table, by its name.
        pictures: PNG files by the name of the figure.
    """
    from jinja2 import Environment as Templates
    from jinja2 import StrictUndefined
    from plotly.offline import get_plotlyjs

    sections = [
        _Section(block, tuple(_figure(c, pictures[c.name]) for c in charts[block.name]))
        for block in blocks
    ]
    templates = Templates(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = templates.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        sections=sections,
        asked=_asked(loaded),
        definitions=definitions_for({key for block in blocks for key in block.keys}),
        environments=_environments(loaded.environments),
        failures=loaded.failures,
        warnings=loaded.warnings,
        smoke=SMOKE if any(block.is_smoke for block in blocks) else "",
        plotly_script=get_plotlyjs(),
        figures={f.name: f.plotly for s in sections for f in s.figures if f.plotly},
    )


def _figure(chart: Drawing, picture: bytes) -> _Figure:
    uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    plotly = None if isinstance(chart, Reconstructions) else plotly_of(chart)
    return _Figure(chart.name, chart.title, chart.caption, uri, plotly)


def _asked(loaded: Loaded) -> list[tuple[str, str]]:
    """Return what was run, from what was found; nothing of targets where no trial had one."""
    runs = loaded.runs
    methods = runs.loc[runs["role"] == "method", "label"]
    controls = runs.loc[runs["role"] != "method", "method"]
    counts = [f"{len(runs)} finished"]
    counts += [f"{len(loaded.failures)} failed"] if loaded.failures else []
    counts += [f"{loaded.unfinished} not run yet"] if loaded.unfinished else []
    facts = [
        ("Trials", ", ".join(counts)),
        ("Methods", _distinct(methods)),
        ("Controls", _distinct(controls) or "none"),
        *[(title, _distinct(runs[column])) for title, column in _ASKED],
        ("Recipe", "; ".join(sorted(map(changes, set(runs["recipe"]))))),
    ]
    return [(title, text) for title, text in facts if text]


def _distinct(values: "pd.Series[Any]") -> str:
    found = sorted(set(values.dropna()))
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in found)


def _environments(found: Sequence[Environment]) -> list[tuple[str, list[str]]]:
    """Return a row per fact and a column per environment; only rows that say something."""
    facts = [{"trials": str(e.trials), **dict(e.facts)} for e in found]
    names = dict.fromkeys(name for each in facts for name in each)
    return [(name.replace("_", " "), [each.get(name, "") for each in facts]) for name in names]
