"""Reports are checked against closed forms, scipy and the files they leave behind."""

import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from scipy import stats

from bench.errors import UnknownName, UsageError
from bench.records import Results, sealed
from bench.report import palette
from bench.report.charts import charts_of
from bench.report.interactive import plotly_of
from bench.report.rows import block_of, decimals
from bench.report.summary import INDISTINCT, settings, summarise, verdict
from bench.report.table import SMOKE, load
from bench.report.text import markdown_escaped, markdown_of, tex_escaped
from bench.report.write import FORMATS, end_table, write_report
from bench.spec import SCHEMA, TrialSpec

HOSTILE = '<script>alert(1)</script>|**x**&"$\\mathrm{'


def metrics(top1: float, compression: float = 1.0, **more: Any) -> dict[str, Any]:
    effective = round(266610 / compression)
    return {
        "top1": top1, "top3": min(100.0, top1 + 2), "top5": min(100.0, top1 + 3),
        "test_loss": 0.2, "n_test": 10000, "validation_top1": top1, "validation_loss": 0.2,
        "collapsed": top1 <= 10.5, "pruning_rate": 1 - effective / 266610,
        "pruning_rate_prunable": 1 - effective / 266610, "compression": 266610 / effective,
        "units_kept_share": 1.0, "units_removed": 0, "kept_output_side": 1.0,
        "params_dense": 266610, "params_masked": effective, "params_kept": effective,
        "params_effective": effective, "macs_dense": 266200, "macs_effective": effective,
        "speedup_theoretical": compression, "epochs_total": 20, "images_seen": 70000,
        "images_forward": 70000, "optimizer_steps": 1100, "trainings": 2,
        "units": {"fc1": {"kept": 300, "of": 300}}, **more,
    }  # fmt: skip


def put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")  # write_json waits for the disk


class Maker:
    """Writes finished trials as the harness would."""

    def __init__(self, folder: Path, **base: Any) -> None:
        self.results = Results(folder)
        self.results.create()
        self.base = TrialSpec(
            **{"method": "dense", "method_version": 1, "model": "lenet-300-100",
               "dataset": "mnist-5k", "seed": 0, **base}
        )  # fmt: skip

    def trial(self, top1: float, kept: dict[str, Any] | None = None, **fields: Any) -> str:
        of_metrics = {k: fields.pop(k) for k in list(fields) if k in metrics(0.0)}
        spec = replace(self.base, **fields)
        compression = of_metrics.pop("compression", spec.target or 1.0)
        folder = self.results.trial(spec.id).path
        folder.mkdir(parents=True)
        record = {
            "schema": SCHEMA, "id": spec.id, "spec": spec.as_json(),
            "metrics": metrics(top1, compression, **of_metrics), "kept": kept or {},
            "unreachable": False, "control": {}, "phases": [], "files": {},
        }  # fmt: skip
        put(folder / "result.json", sealed(record))
        put(folder / "cost.json", {"train_seconds": 8.5, "peak_memory_mb": 700.25})
        put(folder / "env.json", {"device": "cpu", "versions": {"torch": "2.11.0"}})
        return spec.id

    def failed(self, error: str, **fields: Any) -> None:
        spec = replace(self.base, **fields)
        folder = self.results.trial(spec.id).path
        folder.mkdir(parents=True)
        put(folder / "spec.json", {"spec": spec.as_json()})
        put(folder / "error.json", {"error": error, "traceback": ""})


DENSE = (98.1, 98.3, 98.2)
MAGNITUDE = {2.0: (98.0, 98.4, 98.1), 8.0: (97.9, 97.6, 97.7)}
RANDOM = {2.0: (98.1, 98.1, 98.2), 8.0: (95.1, 95.2, 94.7)}
LABELS = [("dense", "dense"), ("edropout", "edropout"), ("magnitude", "magnitude")]
EDROPOUT = (97.0, 97.1, 96.9)


def fill(maker: Maker) -> Maker:
    """Three seeds of dense, magnitude at two targets, EDropout at its own rate, and controls."""
    for seed in range(3):
        maker.trial(DENSE[seed], seed=seed)
        for target in (2.0, 8.0):
            of = maker.trial(MAGNITUDE[target][seed], method="magnitude", seed=seed, target=target)
            top1 = RANDOM[target][seed]
            maker.trial(top1, method="random", seed=seed, target=target, rates_of=of)
        masked = {"compression": 3.4 + seed / 10, "units_kept_share": 0.5, "units_removed": 200}
        kept = {"full": metrics(96.5 + seed)}
        of = maker.trial(EDROPOUT[seed], kept, method="edropout", seed=seed, **masked)
        maker.trial(96.8, method="random", seed=seed, rates_of=of, **masked)
    return maker


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return fill(Maker(tmp_path / "results"))


def row(summary: pd.DataFrame, label: str, target: float | None = None) -> Any:
    found = summary[summary["label"] == label]
    found = found[found["target"] == target] if target else found
    assert len(found) == 1
    return found.iloc[0]


def summary_of(maker: Maker, baseline: str = "random") -> pd.DataFrame:
    return summarise(load([maker.results]).runs, baseline)


# -- statistics ------------------------------------------------------------------------------


def test_mean_sd_and_interval_agree_with_scipy(maker: Maker) -> None:
    found = row(summary_of(maker), "magnitude", 8.0)
    values = MAGNITUDE[8.0]
    low, high = stats.t.interval(0.95, 2, loc=0, scale=stats.sem(values))
    assert found["n"] == 3
    assert found["top1_mean"] == pytest.approx(sum(values) / 3, abs=1e-12)
    assert found["top1_sd"] == pytest.approx(stats.tstd(values), abs=1e-12)
    assert found["top1_half_width"] == pytest.approx((high - low) / 2, abs=1e-12)
    assert found["train_seconds_mean"] == 8.5
    assert found["epochs_total_mean"] == 20


def test_interval_of_three_values_has_its_closed_form() -> None:
    # Student's t with 2 degrees: the 97.5 % quantile is 0.95 / sqrt(2 * 0.025 * 0.975).
    quantile = 0.95 / math.sqrt(2 * 0.025 * 0.975)
    assert stats.t.ppf(0.975, 2) == pytest.approx(quantile)


def test_differences_are_paired_by_seed_with_the_rows_own_random_control(maker: Maker) -> None:
    found = row(summary_of(maker), "magnitude", 8.0)
    pairs = [a - b for a, b in zip(MAGNITUDE[8.0], RANDOM[8.0], strict=True)]
    test = stats.ttest_rel(MAGNITUDE[8.0], RANDOM[8.0]).confidence_interval(0.95)
    assert found["difference_n"] == 3
    assert found["difference_mean"] == pytest.approx(sum(pairs) / 3)
    assert found["difference_half_width"] == pytest.approx((test.high - test.low) / 2)
    assert found["difference_verdict"] == "better"
    assert row(summary_of(maker), "magnitude", 2.0)["difference_verdict"] == INDISTINCT
    assert row(summary_of(maker), "edropout")["difference_mean"] == pytest.approx(0.2)


def test_controls_and_dense_have_no_difference_to_random(maker: Maker) -> None:
    summary = summary_of(maker)
    others = summary[(summary["method"] == "random") | (summary["method"] == "dense")]
    assert (others["difference_n"] == 0).all()
    assert (others["difference_verdict"] == "").all()


def test_a_seed_without_its_partner_makes_no_pair(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for seed in range(4):
        of = maker.trial(95.0 + seed, method="magnitude", seed=seed, target=2.0)
        if seed != 1:
            maker.trial(90.0, method="random", seed=seed, target=2.0, rates_of=of)
    found = row(summary_of(maker), "magnitude", 2.0)
    assert (found["n"], found["difference_n"]) == (4, 3)
    assert found["difference_mean"] == pytest.approx((5 + 7 + 8) / 3)
    assert "3 pairs" in end_table(maker.results, {t.id for t in maker.results.trials()})


@pytest.mark.parametrize(
    ("n", "mean", "half", "said"),
    [
        (0, math.nan, math.nan, ""),
        (1, 5.0, math.nan, INDISTINCT),
        (2, 5.0, 0.1, INDISTINCT),
        (3, 5.0, 0.1, "better"),
        (3, -5.0, 0.1, "worse"),
        (9, 0.1, 0.1, INDISTINCT),
        (9, 1e-16, 0.0, INDISTINCT),
    ],
)
def test_verdict_never_ranks_what_cannot_be_told_apart(
    n: int, mean: float, half: float, said: str
) -> None:
    assert verdict(n, mean, half) == said


def test_baseline_dense_pairs_with_the_same_seed(maker: Maker) -> None:
    found = row(summary_of(maker, "dense"), "magnitude", 8.0)
    pairs = [a - b for a, b in zip(MAGNITUDE[8.0], DENSE, strict=True)]
    assert found["difference_mean"] == pytest.approx(sum(pairs) / 3)
    assert row(summary_of(maker, "dense"), "dense")["difference_n"] == 0
    assert row(summary_of(maker, "dense"), "edropout")["difference_n"] == 3


def test_baseline_with_targets_pairs_only_with_the_same_target(maker: Maker) -> None:
    summary = summary_of(maker, "magnitude")
    found = summary[(summary["label"] == "random (of magnitude)") & (summary["target"] == 8.0)]
    assert found.iloc[0]["difference_mean"] == pytest.approx(-2.7333333)
    assert row(summary, "edropout")["difference_n"] == 0


def test_unknown_baseline_is_refused_with_a_suggestion(maker: Maker) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'magnitude'"):
        summary_of(maker, "magnitud")


def test_baseline_that_was_run_in_several_ways_has_to_be_named_in_full(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for step in (4.0, 8.0):
        maker.trial(90.0, method="magnitude", options={"step": step}, target=2.0)
    with pytest.raises(UsageError, match=re.escape("magnitude[step=4.0] or magnitude[step=8.0]")):
        summary_of(maker, "magnitude")
    assert row(summary_of(maker, "magnitude[step=4.0]"), "magnitude[step=8.0]")["difference_n"] == 1


def test_collapsed_runs_count_and_the_mean_of_the_others_stands_beside(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for seed, top1 in enumerate((90.0, 92.0, 10.2)):
        maker.trial(top1, method="magnitude", seed=seed, target=8.0)
    found = row(summary_of(maker), "magnitude", 8.0)
    assert (found["n"], found["n_collapsed"]) == (3, 1)
    assert found["top1_mean"] == pytest.approx(192.2 / 3)
    assert found["top1_mean_not_collapsed"] == pytest.approx(91.0)
    text = write_report([maker.results], tmp_path / "out", ("md",)).text
    assert "3 (1 collapsed)" in text
    assert "(others 91.00)" in text


def test_versions_of_a_method_are_told_apart(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for version in (1, 2):
        maker.trial(90.0, method="magnitude", method_version=version, target=2.0)
    assert set(summary_of(maker)["label"]) == {"magnitude v1", "magnitude v2"}


def test_what_may_not_be_compared_stands_in_tables_of_its_own(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(98.0)
    maker.trial(97.0, recipe={"epochs": 3})
    found = settings(summary_of(maker))
    assert [s.name for s in found] == [
        "lenet-300-100_mnist-5k_quick", "lenet-300-100_mnist-5k_quick_2",
    ]  # fmt: skip
    assert {s.differs for s in found} == {"recipe default", "recipe epochs=3"}


# -- reading and CSV -------------------------------------------------------------------------


def test_csv_files_give_back_every_digit(maker: Maker, tmp_path: Path) -> None:
    write_report([maker.results], tmp_path / "out", ("csv",))
    for name, made in (("runs", load([maker.results]).runs), ("summary", summary_of(maker))):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            header, *rows = list(csv.reader(file))
        assert header == list(made.columns)
        assert len(rows) == len(made)
        for i, column in enumerate(header):
            if pd.api.types.is_float_dtype(made[column]):
                back = [float(row[i] or "nan") for row in rows]
                assert back == pytest.approx(made[column].tolist(), rel=0, abs=0, nan_ok=True)
    assert not list((tmp_path / "out").glob("*.part"))


def test_runs_have_whole_numbers_and_states_kept_beside_the_final_one(
    maker: Maker, tmp_path: Path
) -> None:
    write_report([maker.results], tmp_path / "out", ("csv",))
    with (tmp_path / "out" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (1 + 4 + 2)
    edropout = [r for r in rows if r["method"] == "edropout"]
    assert [r["kept_full_top1"] for r in sorted(edropout, key=lambda r: r["seed"])] == [
        "96.5", "97.5", "98.5",
    ]  # fmt: skip
    assert {r["kept_full_n_test"] for r in rows} == {"10000", ""}
    controls = [r for r in rows if r["role"] != "method"]
    assert {r["control_of_label"] for r in controls} == {"magnitude", "edropout"}


def test_columns_do_not_depend_on_what_was_run(maker: Maker, tmp_path: Path) -> None:
    other = Maker(tmp_path / "other")
    other.trial(98.0)
    few, many = load([other.results]).runs, load([maker.results]).runs
    assert list(few.columns) == [c for c in many.columns if not c.startswith("kept_full")]


def test_a_tampered_record_is_told_and_left_out(maker: Maker, tmp_path: Path) -> None:
    broken = maker.trial(99.0, method="magnitude", seed=7, target=2.0)
    file = maker.results.trial(broken).path / "result.json"
    file.write_text(file.read_text().replace("99.0", "99.9"))
    report = write_report([maker.results], tmp_path / "out", ("csv", "md"))
    assert any(broken in w and "quarantine" in w for w in report.warnings)
    assert broken not in (tmp_path / "out" / "runs.csv").read_text()


def test_two_folders_with_the_same_trials_count_them_once(maker: Maker, tmp_path: Path) -> None:
    second = fill(Maker(tmp_path / "second"))
    both = load([maker.results, second.results])
    assert len(both.runs) == len(load([maker.results]).runs)
    assert not both.warnings


def test_nothing_finished_is_an_error_with_its_reason(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    with pytest.raises(UsageError, match="no finished trial"):
        write_report([maker.results], tmp_path / "out")
    maker.failed("the data are gone")
    with pytest.raises(UsageError, match="the data are gone"):
        write_report([maker.results], tmp_path / "out")
    assert end_table(maker.results, {"0" * 12}) == ""


def test_unknown_format_is_refused(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'html'"):
        write_report([maker.results], tmp_path / "out", ("htm",))


# -- tables ----------------------------------------------------------------------------------


def test_markdown_has_dense_first_controls_below_theirs_and_definitions(
    maker: Maker, tmp_path: Path
) -> None:
    report = write_report([maker.results], tmp_path / "out", ("md",))
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
    ids = {t.id for t in maker.results.trials() if t.result()["spec"]["method"] == "dense"}
    text = end_table(maker.results, ids)
    assert "dense" in text
    assert "magnitude" not in text
    assert "Definitions" not in text


def test_digits_follow_the_interval() -> None:
    assert [decimals(h, 10000) for h in (0.04, 0.35, 3.5, 35.0)] == [2, 2, 1, 0]
    assert [decimals(math.nan, n) for n in (100, 1000, 10000, 50000)] == [0, 1, 2, 2]


# -- figures and the page --------------------------------------------------------------------


def test_every_format_is_written_and_valid(maker: Maker, tmp_path: Path) -> None:
    report = write_report([maker.results], tmp_path / "out", FORMATS)
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
        write_report([maker.results], tmp_path / out, ("png", "svg", "pdf"))
    for file in (tmp_path / "a" / "figures").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "figures" / file.name).read_bytes()


def test_emergent_rates_are_never_joined_and_controls_are_hollow_in_their_colour(
    maker: Maker,
) -> None:
    setting = settings(summary_of(maker))[0]
    chart = charts_of(setting, LABELS)[0]
    series = {s.label.partition(",")[0]: s for s in chart.series}
    assert series["magnitude"].is_joined
    assert not series["edropout"].is_joined
    assert all(p.x.has_interval for p in series["edropout"].points)
    control = series["random (of magnitude)"]
    assert control.look == palette.Look(palette.ORANGE, "D", "dotted", is_hollow=True)
    assert all("n = 3" in s.label for s in chart.series)
    assert chart.dense is not None
    assert "pruning rate" in chart.x.title
    assert [text for _, text in chart.x.ticks][:2] == ["0 %\n1×", "50.0 %\n2×"]


def test_every_method_has_a_look_of_its_own_whatever_else_is_shown() -> None:
    names = [f"method{i:02d}" for i in range(30)] + ["magnitude", "dropnet", "edropout", "fpgm"]
    looks = palette.looks_of((n, n) for n in names)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(names)
    assert palette.looks_of([("fpgm", "fpgm")])["fpgm"] == looks["fpgm"]
    options = palette.looks_of([("fpgm", "fpgm"), ("fpgm", "fpgm[p=1]")])
    assert options["fpgm"] == looks["fpgm"]
    assert options["fpgm"].colour == options["fpgm[p=1]"].colour
    assert options["fpgm"].marker != options["fpgm[p=1]"].marker


def test_perfect_and_single_runs_can_be_drawn(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(100.0)
    maker.trial(100.0, method="magnitude", target=2.0)
    report = write_report([maker.results], tmp_path / "out", ("png",))
    assert len(report.files) == 2
    assert "100.00" in report.text


def test_plotly_accepts_the_interactive_figures(maker: Maker) -> None:
    import plotly.graph_objects as go

    for chart in charts_of(settings(summary_of(maker))[0], LABELS):
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
    report = write_report([maker.results], tmp_path / "out", ("html",))
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
    assert any("1 trials failed" in w or "1 trial failed" in w for w in report.warnings)


def test_smoke_is_loud_in_every_artefact(tmp_path: Path) -> None:
    maker = fill(Maker(tmp_path / "r", budget="smoke"))
    report = write_report([maker.results], tmp_path / "out", FORMATS)
    assert SMOKE in report.text
    for file in report.files:
        if file.suffix in (".csv", ".md", ".tex", ".html"):
            assert SMOKE in file.read_text(encoding="utf-8"), file.name
    rows = (tmp_path / "out" / "runs.csv").read_text().splitlines()
    assert all(SMOKE in line for line in rows[1:])
    setting = settings(summary_of(maker))[0]
    for chart in charts_of(setting, LABELS):
        assert chart.is_smoke
        assert SMOKE in json.dumps(plotly_of(chart))
    assert SMOKE in end_table(maker.results, {t.id for t in maker.results.trials()})


def test_smoke_is_written_across_figures(tmp_path: Path) -> None:
    from bench.report.figures import figure_of

    maker = fill(Maker(tmp_path / "r", budget="smoke"))
    chart = charts_of(settings(summary_of(maker))[0], LABELS)[0]
    assert any(text.get_text() == SMOKE for text in figure_of(chart).texts)


def test_hostile_names_are_harmless_everywhere(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", model=f"net/{HOSTILE}")
    maker.trial(98.0)
    for target in (2.0, 8.0):
        maker.trial(97.0, method="magnitude", options={"scope": HOSTILE}, target=target)
    maker.failed(HOSTILE, method="magnitude", seed=3, target=2.0)
    report = write_report([maker.results], tmp_path / "out", FORMATS)
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


@pytest.mark.slow
def test_ten_thousand_trials_are_reported_in_half_a_minute(tmp_path: Path) -> None:
    import time

    maker = Maker(tmp_path / "r")
    for seed in range(10):
        for option in range(500):
            fields = {"method": f"m{option % 25}", "options": {"a": option}, "target": 2.0}
            of = maker.trial(90.0 + seed, seed=seed, **fields)
            maker.trial(89.0, method="random", seed=seed, target=2.0, rates_of=of)
    started = time.perf_counter()
    report = write_report([maker.results], tmp_path / "out", ("csv", "md"))
    assert time.perf_counter() - started < 30
    assert len(report.files) == 3
