"""Tables, figures and the page are checked by what they leave behind."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from made_up_results import HOSTILE, LABELS, SHIPPED, Maker, fill, palette_of, summary_of

from bench.report.figures.charts import charts_of
from bench.report.figures.interactive import plotly_of
from bench.report.figures.palette import COLOURS, SeriesStyle
from bench.report.load import SMOKE
from bench.report.statistics import INDISTINCT
from bench.report.summary import settings
from bench.report.tables.numbers import decimals
from bench.report.tables.rows import block_of
from bench.report.tables.text import markdown_escaped, markdown_of, tex_escaped
from bench.report.write import FORMATS, end_table, write_report

PALETTE = palette_of(LABELS)

# -- tables ----------------------------------------------------------------------------------


def test_markdown_has_dense_first_controls_below_theirs_and_definitions(
    maker: Maker, tmp_path: Path
) -> None:
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("md",))
    lines = [line for line in report.text.splitlines() if line.startswith("|")]
    labels = [line.split("|")[1].strip() for line in lines[2:]]
    assert labels == [
        "dense", "edropout", "random (of edropout)",
        "magnitude", "random (of magnitude)", "magnitude", "random (of magnitude)",
    ]  # fmt: skip
    assert "98.17 ± 0.52" in report.text  # magnitude at 2: 98.0, 98.4, 98.1
    assert f"({INDISTINCT})" in report.text
    assert "**pruning rate**: 1 − effective / dense parameters" in report.text
    assert "50.0" in next(line for line in lines if "edropout" in line)  # units kept
    assert report.files[0].read_text() == report.text
    assert "SMOKE" not in report.text


def test_end_table_shows_only_the_sweeps_own_trials(maker: Maker) -> None:
    ids = {t.id for t in maker.results.trials() if t.result().spec.method == "dense"}
    text = end_table(maker.results, ids)
    assert "dense" in text
    assert "magnitude" not in text
    assert "Definitions" not in text


def test_digits_follow_the_interval() -> None:
    assert [decimals(h, 10000) for h in (0.04, 0.35, 3.5, 35.0)] == [2, 2, 1, 0]
    assert [decimals(math.nan, n) for n in (100, 1000, 10000, 50000)] == [0, 1, 2, 2]


# -- figures and the page --------------------------------------------------------------------


def test_every_format_is_written_and_valid(maker: Maker, tmp_path: Path) -> None:
    report = write_report([maker.results], tmp_path / "out", SHIPPED, FORMATS)
    assert all(file.stat().st_size for file in report.files)
    names = {str(f.relative_to(tmp_path / "out")) for f in report.files}
    base = "lenet-300-100_mnist-5k_quick"
    figures = {f"figures/{base}_{k}.{e}" for k in ("rate", "cost") for e in ("png", "svg", "pdf")}
    assert names == figures | {
        f"tables/{base}.md", f"tables/{base}.tex", "runs.csv", "summary.csv", "report.html",
    }  # fmt: skip
    for kind in ("rate", "cost"):
        stem = tmp_path / "out" / "figures" / f"{base}_{kind}"
        assert Path(f"{stem}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert Path(f"{stem}.pdf").read_bytes().startswith(b"%PDF-")
        assert ElementTree.parse(f"{stem}.svg").getroot().tag.endswith("svg")


def test_the_same_trials_give_the_same_figures(maker: Maker, tmp_path: Path) -> None:
    for out in ("a", "b"):
        write_report([maker.results], tmp_path / out, SHIPPED, ("png", "svg", "pdf"))
    for file in (tmp_path / "a" / "figures").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "figures" / file.name).read_bytes()


def test_emergent_rates_are_never_joined_and_controls_are_hollow_in_their_colour(
    maker: Maker,
) -> None:
    setting = settings(summary_of(maker))[0]
    chart = charts_of(setting, PALETTE)[0]
    series = {s.label.partition(",")[0]: s for s in chart.series}
    assert series["magnitude"].is_joined
    assert not series["edropout"].is_joined
    assert all(p.x.has_interval for p in series["edropout"].points)
    control = series["random (of magnitude)"]
    assert control.style == SeriesStyle(COLOURS["orange"], "D", "dotted", is_hollow=True)
    assert all("n = 3" in s.label for s in chart.series)
    assert chart.dense is not None
    assert "pruning rate" in chart.x.title
    assert [text for _, text in chart.x.ticks][:2] == ["0 %\n1×", "50.0 %\n2×"]


def test_perfect_and_single_runs_can_be_drawn(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(100.0)
    maker.trial(100.0, method="magnitude", target=2.0)
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("png",))
    assert len(report.files) == 2
    assert "100.00" in report.text
    assert "difference to random" not in report.text  # no control, so no column of dashes


def test_very_small_networks_stand_at_their_own_rate(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(98.0)
    for compression in (2.0**15, 2.0**17):
        kept = 1 / compression
        maker.trial(90.0, method="magnitude", target=compression, pruning_rate=1 - kept)
    chart = charts_of(settings(summary_of(maker))[0], PALETTE)[0]
    (series,) = chart.series
    assert [point.x.at for point in series.points] == pytest.approx([15.0, 17.0])
    assert 17.0 < chart.x.high < 18.1
    told = [text for _, text in chart.x.ticks]
    assert told == ["0 %\n1×", "99.9969 %\n32,768×", "99.99924 %\n131,072×"]


def test_an_interval_of_rates_that_reaches_everything_does_not_press_the_means(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(98.0)
    for seed, rate in enumerate((0.5, 0.9)):
        maker.trial(97.0, method="edropout", seed=seed, pruning_rate=rate)
    chart = charts_of(settings(summary_of(maker))[0], PALETTE)[0]
    (point,) = chart.series[0].points
    assert point.x.high > 30  # two runs: the interval ends above 100 %
    assert chart.x.high == pytest.approx(point.x.at + 1)


@pytest.mark.parametrize(("top1", "shown"), [((98.1, 98.7), 3), ((99.31, 99.38), 3), ((20, 99), 5)])
def test_an_axis_of_accuracy_has_ticks_enough_to_read_it(
    tmp_path: Path, top1: tuple[float, float], shown: int
) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(top1[1])
    maker.trial(top1[0], method="magnitude", target=2.0)
    axis = charts_of(settings(summary_of(maker))[0], PALETTE)[0].y
    assert len(axis.ticks) >= shown
    for place, text in axis.ticks:
        assert axis.low <= place <= axis.high
        assert place == pytest.approx(-math.log10(100 - float(text)))


def test_plotly_accepts_the_interactive_figures(maker: Maker) -> None:
    import plotly.graph_objects as go

    for chart in charts_of(settings(summary_of(maker))[0], PALETTE):
        assert len(go.Figure(plotly_of(chart)).data) == 5


class Loads(HTMLParser):
    """Collects what a page would load, and the text of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]


def test_page_loads_nothing_and_has_plotly_once(maker: Maker, tmp_path: Path) -> None:
    maker.failed("it ran out of memory", method="dropnet", target=4.0)
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("html",))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    parser = Loads()
    parser.feed(page)
    assert len(parser.loaded) == 2
    assert all(v.startswith("data:image/png;base64,") for v in parser.loaded)
    assert "link" not in parser.tags
    assert "@import" not in page.partition("</style>")[0]
    assert "default-src 'none'" in page
    assert "modeBarButtons: [[" in page  # the default ones can send a chart to a server
    assert page.count("* plotly.js v") == 1
    assert "it ran out of memory" in page
    assert "2.11.0" in page
    assert any("failed: 1 trial" in w for w in report.warnings)


def test_page_names_targets_where_there_are_any(tmp_path: Path) -> None:
    def facts() -> dict[str, str]:
        write_report([maker.results], tmp_path / "out", SHIPPED, ("html",))
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        return dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page.partition("</dl>")[0]))

    maker = Maker(tmp_path / "r")
    maker.trial(98.0, method="edropout", compression=2.0)  # at a rate of its own
    assert "Targets (compression)" not in facts()
    for target in (2.0, 8.0):
        maker.trial(97.0, method="magnitude", target=target)
    assert facts()["Targets (compression)"] == "2, 8"
    assert facts()["Methods"] == "edropout, magnitude"


def test_smoke_is_loud_in_every_artefact(tmp_path: Path) -> None:
    maker = fill(Maker(tmp_path / "r", budget="smoke"))
    report = write_report([maker.results], tmp_path / "out", SHIPPED, FORMATS)
    assert SMOKE in report.text
    for file in report.files:
        if file.suffix in (".csv", ".md", ".tex", ".html"):
            assert SMOKE in file.read_text(encoding="utf-8"), file.name
    rows = (tmp_path / "out" / "runs.csv").read_text().splitlines()
    assert all(SMOKE in line for line in rows[1:])
    setting = settings(summary_of(maker))[0]
    for chart in charts_of(setting, PALETTE):
        assert chart.is_smoke
        assert SMOKE in json.dumps(plotly_of(chart))
    assert SMOKE in end_table(maker.results, {t.id for t in maker.results.trials()})


def test_smoke_is_written_across_figures(tmp_path: Path) -> None:
    from bench.report.figures.draw import figure_of

    maker = fill(Maker(tmp_path / "r", budget="smoke"))
    chart = charts_of(settings(summary_of(maker))[0], PALETTE)[0]
    assert any(text.get_text() == SMOKE for text in figure_of(chart).texts)


def test_hostile_names_are_harmless_everywhere(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", model=f"net/{HOSTILE}")
    maker.trial(98.0)
    for target in (2.0, 8.0):
        maker.trial(97.0, method="magnitude", options={"scope": HOSTILE}, target=target)
    maker.failed(HOSTILE, method="magnitude", seed=3, target=2.0)
    report = write_report([maker.results], tmp_path / "out", SHIPPED, FORMATS)
    assert all(tmp_path / "out" in f.resolve().parents for f in report.files)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    tex = next(f for f in report.files if f.suffix == ".tex").read_text()
    assert r"\textless{}script\textgreater{}" in tex
    assert not re.search(r"(?<!\\)\$\\mathrm", tex)
    table = [line for line in report.text.splitlines() if line.startswith("|")]
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<script>" not in report.text


def test_escapes() -> None:
    assert tex_escaped("a_b & 50 % -3") == r"a\_b \& 50 \% $-$3"
    assert tex_escaped("\\x\n{y}") == r"\textbackslash{}x \{y\}"
    assert markdown_escaped("a|b\n`c` <d> [e](f)") == r"a\|b \`c\` &lt;d&gt; [e]\(f)"


def test_markdown_columns_line_up(maker: Maker) -> None:
    lines = markdown_of([block_of(s) for s in settings(summary_of(maker))]).splitlines()
    assert len({len(line) for line in lines if line.startswith("|")}) == 1


def test_a_thousand_trials_of_many_methods_are_reported(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for seed in range(10):
        for option in range(50):
            fields = {"method": f"m{option % 25}", "options": {"a": option}, "target": 2.0}
            of = maker.trial(90.0 + seed, seed=seed, **fields)
            maker.trial(89.0, method="random", seed=seed, target=2.0, rates_of=of)
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("csv", "md"))
    assert len(report.files) == 3
    assert len(pd.read_csv(tmp_path / "out" / "runs.csv")) == 1000
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 100
