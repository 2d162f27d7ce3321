"""Curves and reconstructions are recovered from what was drawn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_up_results import (
    HOSTILE,
    LABELS,
    NMSE,
    SHIPPED,
    Maker,
    autoencoder,
    curve,
    fill_autoencoder,
    fill_regression,
    metrics,
    palette_of,
    pictures,
)
from scipy import stats

from bench.report.figures.charts import charts_of
from bench.report.figures.curves import CurveChart, curve_charts_of
from bench.report.figures.draw import drawn, figure_of
from bench.report.figures.interactive import plotly_of
from bench.report.figures.palette import COLOURS, SeriesStyle
from bench.report.figures.panels import MARK_GID
from bench.report.figures.reconstructions import Reconstructions, reconstructions_of
from bench.report.load import SMOKE, load
from bench.report.summary import settings, summarise
from bench.report.write import write_report

METHODS = [*LABELS, ("dropneuron", "dropneuron"), ("l1", "l1")]
TOP1 = ((97.0, 96.0, 60.0), (97.4, 96.6, 50.0), (97.2, 96.3, 70.0))
THRESHOLDS = (0.0, 0.001, 0.1)


def curve_charts(maker: Maker) -> list[CurveChart]:
    loaded = load([maker.results])
    (setting,) = settings(summarise(loaded.runs))
    labels = [*METHODS, *zip(loaded.runs["method"], loaded.runs["label"], strict=True)]
    return curve_charts_of(setting, loaded.runs, loaded.curves, palette_of(labels))


def reconstructions(maker: Maker) -> Reconstructions | None:
    loaded = load([maker.results])
    (setting,) = settings(summarise(loaded.runs))
    return reconstructions_of(setting, loaded.runs, loaded.examples)


@pytest.fixture
def of_curves(tmp_path: Path) -> Maker:
    """Three seeds of a method that looked for its threshold, and one that did not."""
    maker = Maker(tmp_path / "r")
    for seed, row in enumerate(TOP1):
        maker.trial(98.0, seed=seed)
        rows = [(x, d, y) for x, d, y in zip(THRESHOLDS, (1.0, 0.5, 0.02), row, strict=True)]
        maker.record(metrics(96.0, 2.0), curves=curve(0.001, "top1", *rows[::-1]), seed=seed,
                     method="dropneuron", task="classification")  # fmt: skip
    return maker


# -- curves ----------------------------------------------------------------------------------


def test_curves_are_averaged_over_seeds(of_curves: Maker) -> None:
    (chart,) = curve_charts(of_curves)
    quality, density = chart.panels
    (line,) = quality.series
    assert line.label == "dropneuron, n = 3"
    assert line.style == SeriesStyle(COLOURS["green"], "^")
    columns = list(zip(*TOP1, strict=True))
    for point, values in zip(line.points, columns, strict=True):
        mean = sum(values) / 3
        half = stats.sem(values) * stats.t.ppf(0.975, 2)
        assert 100 - 10**-point.y.at == pytest.approx(mean)
        assert 100 - 10**-point.y.low == pytest.approx(max(mean - half, 0))
    assert [10**p.y.at for p in density.series[0].points] == pytest.approx([100, 50, 2])
    assert "means over n seeds" in chart.caption
    assert "validation" in chart.caption
    assert quality.y.title.startswith("validation top-1")


def test_a_threshold_of_zero_stands_at_the_left_edge(of_curves: Maker) -> None:
    (chart,) = curve_charts(of_curves)
    zero, *others = [p.x.at for p in chart.panels[0].series[0].points]
    assert others == pytest.approx([-3, -1])
    assert zero < -3
    assert chart.x.ticks[0] == (zero, "0")
    assert (pytest.approx(-3), "0.001") in chart.x.ticks
    assert chart.x.low < zero


def test_the_marked_value_is_a_line_in_the_methods_colour_in_every_panel(of_curves: Maker) -> None:
    (chart,) = curve_charts(of_curves)
    figure = figure_of(chart)
    for axes in figure.axes:
        (mark,) = [line for line in axes.lines if line.get_gid() == MARK_GID]
        assert list(mark.get_xdata()) == pytest.approx([-3, -3])
        assert mark.get_color() == COLOURS["green"]
    assert "0.001" in {text.get_text() for text in figure.axes[0].texts}
    shape = plotly_of(chart)["layout"]["shapes"][0]
    assert (shape["x0"], shape["line"]["color"]) == (pytest.approx(-3), COLOURS["green"])


def test_nothing_is_marked_where_the_method_went_on_with_none(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    rows = ((1.0, 1.0, 97.0), (2.0, 0.9, 96.0))
    maker.record(metrics(96.0), curves=curve(None, "top1", *rows), method="l1")
    (chart,) = curve_charts(maker)
    assert chart.marks == ()
    assert "Vertical" not in chart.caption
    assert "log" not in chart.x.title  # less than a decade
    assert [p.x.at for p in chart.panels[0].series[0].points] == [1.0, 2.0]


def test_curves_of_a_regression_are_medians(tmp_path: Path) -> None:
    (chart,) = curve_charts(fill_regression(Maker(tmp_path / "r")))
    point = chart.panels[0].series[0].points[1]
    assert [10**v for v in (point.y.at, point.y.low, point.y.high)] == pytest.approx(
        [sorted(NMSE)[1], min(NMSE), max(NMSE)]
    )
    assert chart.panels[0].y.low < point.y.low
    assert chart.panels[0].y.high > point.y.high
    assert "medians" in chart.caption


def test_any_number_and_any_columns_make_a_figure(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    names = ("density", "validation_top1", "bits")
    rows = [dict(zip(names, row, strict=True)) for row in ((0.3, 90.0, 4), (0.9, 97.0, 8))]
    scan = {"density": {"marked": 0.3, "rows": rows}}
    for target in (2.0, 8.0):  # the same search for both
        maker.record(metrics(96.0), curves=scan, method="l1", target=target)
    (chart,) = curve_charts(maker)
    assert chart.name.endswith("_density_curve")
    assert chart.x.title == "density %"
    assert [p.y.title.partition("\n")[0] for p in chart.panels] == [
        "validation top-1 accuracy %",
        "bits",
    ]
    assert [s.label for s in chart.panels[0].series] == ["l1, n = 1"]
    assert [m.text for m in chart.marks] == ["30 %"]


def test_targets_with_curves_of_their_own_have_lines_of_their_own(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    for target in (2.0, 8.0):
        rows = ((1.0, 1.0, 97.0), (2.0, 1 / target, 96.0))
        maker.record(metrics(96.0), curves=curve(target, "top1", *rows), method="l1", target=target)
    (chart,) = curve_charts(maker)
    assert [s.label for s in chart.panels[0].series] == ["l1 at 2×, n = 1", "l1 at 8×, n = 1"]
    assert [m.at for m in chart.marks] == [2.0, 8.0]


def test_seeds_with_other_points_are_interpolated_where_all_have_values(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    grids = (((1.0, 1.0, 90.0), (3.0, 0.8, 80.0)), ((2.0, 0.6, 75.0), (4.0, 0.4, 65.0)))
    for seed, rows in enumerate(grids):
        maker.record(metrics(96.0), curves=curve(None, "top1", *rows), method="l1", seed=seed)
    (chart,) = curve_charts(maker)
    points = chart.panels[1].series[0].points  # density: 0.9 and 0.8; 0.6 and 0.5
    assert [p.x.at for p in points] == [2.0, 3.0]
    assert [p.y.at for p in points] == pytest.approx([75, 65])
    assert max(p.y.high for p in points) == 100  # no share is larger
    assert "lie on lines" in chart.caption


def test_curves_are_drawn_in_every_format_and_plotly_accepts_them(
    of_curves: Maker, tmp_path: Path
) -> None:
    import plotly.graph_objects as go

    (chart,) = curve_charts(of_curves)
    assert chart.name == "lenet-300-100_mnist-5k_quick_threshold_curve"
    made = drawn(chart, ("png", "svg", "pdf"))
    assert made == drawn(curve_charts(of_curves)[0], ("png", "svg", "pdf"))
    write_report([of_curves.results], tmp_path, SHIPPED, ("html",))
    assert f'data-figure="{chart.name}"' in (tmp_path / "report.html").read_text("utf-8")
    shown = plotly_of(chart)
    assert len(go.Figure(shown).data) == 4  # a band and a line in each panel
    low, high = shown["layout"]["yaxis2"]["domain"][1], shown["layout"]["yaxis"]["domain"][0]
    assert low < high


def test_hostile_names_in_curves_and_pictures_are_harmless(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", model=f"net/{HOSTILE}", dataset="mnist-autoencoder")
    rows = [{HOSTILE: x, HOSTILE + "y": 0.1, "validation_mse": 0.1} for x in (1.0, 2.0)]
    maker.record(autoencoder(0.1), task="autoencoder", curves={HOSTILE: {"marked": 1.0, "rows": rows}},
                 examples=pictures(1.0), options={"scope": HOSTILE}, method="l1")  # fmt: skip
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("png", "html"))
    assert all(tmp_path / "out" in f.resolve().parents for f in report.files)
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<script>" not in json.dumps(plotly_of(curve_charts(maker)[0]))


# -- charts of errors ------------------------------------------------------------------------


def test_errors_are_drawn_on_a_log_scale_that_says_what_is_better(tmp_path: Path) -> None:
    loaded = load([fill_autoencoder(Maker(tmp_path / "r")).results])
    (setting,) = settings(summarise(loaded.runs))
    chart = charts_of(setting, palette_of(METHODS))[0]
    assert chart.y.title == "pixel MSE (log scale, smaller is better)"
    assert chart.title.startswith("Pixel MSE against")
    series = {s.label.partition(",")[0]: s for s in chart.series}
    assert [10**p.y.at for p in series["magnitude"].points] == pytest.approx([0.012, 0.018])
    assert all(float(text) == pytest.approx(10**at) for at, text in chart.y.ticks)
    assert len(chart.y.ticks) >= 4
    assert "pixel MSE 0.01220 ± 0.00050" in series["dropneuron"].points[0].tooltip


def test_regression_is_drawn_by_medians_and_all_that_was_observed(tmp_path: Path) -> None:
    loaded = load([fill_regression(Maker(tmp_path / "r")).results])
    (setting,) = settings(summarise(loaded.runs))
    chart = charts_of(setting, palette_of(METHODS))[0]
    y = chart.series[0].points[0].y
    assert (y.at, y.low, y.high) == tuple(pytest.approx(math.log10(v)) for v in (5e-4, 3e-4, 4e-2))
    assert chart.y.high > y.high
    assert chart.caption.startswith("Medians over n seeds")


# -- reconstructions -------------------------------------------------------------------------


def test_reconstructions_show_test_images_then_each_method(tmp_path: Path) -> None:
    chart = reconstructions(fill_autoencoder(Maker(tmp_path / "r")))
    assert chart is not None
    labels = ["test images", "dense, seed 0", "dropneuron, seed 0", "l1, seed 0",
              "magnitude, 2×, seed 0", "magnitude, 8×, seed 0"]  # fmt: skip
    assert [row.label for row in chart.rows] == labels
    assert "Left out" not in chart.caption
    (axes,) = figure_of(chart).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == labels
    original = pictures(1.0).images[:, 0]
    shades = (1.0, 1.0, 1.2, 0.2, 0.5, 0.125)
    images = sorted(axes.images, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))
    assert len(images) == len(labels) * 10
    for i, (tick, shade) in enumerate(zip(axes.get_yticks(), shades, strict=True)):
        for j, image in enumerate(images[10 * i : 10 * i + 10]):
            bottom, top = image.get_extent()[2:]
            assert top < tick < bottom  # rows run downwards, each at its label
            assert image.get_clim() == (0, 1)
            drawn_pixels = np.asarray(image.get_array())
            assert np.allclose(drawn_pixels, np.clip(original[j] * shade, 0, 1), atol=1e-6)


def test_colours_are_kept(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", dataset="cifar-autoencoder")
    maker.record(autoencoder(0.1), task="autoencoder", examples=pictures(0.5, 4, channels=3))
    chart = reconstructions(maker)
    assert chart is not None
    assert chart.rows[1].images.shape == (4, 28, 28, 3)
    assert np.allclose(chart.rows[1].images[2, :, :, 1], pictures(0.5, 4, 3).outputs[2, 1])


def test_no_more_than_eight_rows_every_label_before_anyones_second_target(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", dataset="mnist-autoencoder")
    for method in "abcdefg":
        for target in (2.0, 4.0):
            maker.record(autoencoder(0.1), task="autoencoder", examples=pictures(1.0, 2),
                         method=method, target=target)  # fmt: skip
    chart = reconstructions(maker)
    assert chart is not None
    assert [r.label for r in chart.rows[1:]] == [
        "a, 2×, seed 0", "a, 4×, seed 0", *(f"{m}, 2×, seed 0" for m in "bcdefg"),
    ]  # fmt: skip
    assert chart.caption.endswith("Left out: b, 4×; c, 4×; d, 4×; e, 4×; f, 4×; g, 4×.")


def test_a_changed_or_missing_file_and_other_images_are_named(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", dataset="mnist-autoencoder")
    of_task = {"task": "autoencoder", "examples": pictures(1.0, 2)}
    maker.record(autoencoder(0.1), **of_task)
    ids = [maker.record(autoencoder(0.1), method=m, **of_task) for m in ("a", "b")]
    maker.record(autoencoder(0.1), method="c", task="autoencoder", examples=pictures(1.0, 3))
    (maker.results.trial(ids[0]).path / "examples.safetensors").write_bytes(b"other")
    (maker.results.trial(ids[1]).path / "examples.safetensors").unlink()
    chart = reconstructions(maker)
    assert chart is not None
    assert [row.label for row in chart.rows] == ["test images", "dense, seed 0"]
    assert chart.caption.count("its file is missing") == 3


def test_trials_without_examples_have_no_reconstructions(maker: Maker) -> None:
    assert reconstructions(maker) is None


def test_reconstructions_are_in_the_page_and_the_same_each_time(tmp_path: Path) -> None:
    maker = fill_autoencoder(Maker(tmp_path / "r", budget="smoke"))
    chart, again = reconstructions(maker), reconstructions(maker)
    assert chart is not None
    assert again is not None
    assert drawn(chart, ("png", "svg", "pdf")) == drawn(again, ("png", "svg", "pdf"))
    assert any(text.get_text() == SMOKE for text in figure_of(chart).texts)
    write_report([maker.results], tmp_path / "out", SHIPPED, ("html",))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count('alt="Reconstructions: ') == 1
