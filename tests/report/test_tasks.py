"""Regression and autoencoders are reported as classification is, by their own columns."""

import csv
import math
import re
from pathlib import Path
from statistics import geometric_mean

import pytest
from made_up_results import (
    DENSE,
    MSE,
    NMSE,
    RANDOM_MSE,
    RANDOM_NMSE,
    SHIPPED,
    Maker,
    autoencoder,
    fill,
    fill_autoencoder,
    fill_regression,
    live,
    metrics,
    regression,
    row,
    summary_of,
)
from scipy import stats

from bench.report.checklist import checklist
from bench.report.load import load
from bench.report.statistics import INDISTINCT, Middle, verdict
from bench.report.summary import settings
from bench.report.tables.definitions import definitions_for
from bench.report.tables.numbers import error_text, error_with_interval, error_with_range
from bench.report.tables.rows import Block, block_of
from bench.report.write import end_table, write_report

RATIO = "ratio to random (below 1: better)"


@pytest.fixture
def of_regression(tmp_path: Path) -> Maker:
    return fill_regression(Maker(tmp_path / "regression"))


@pytest.fixture
def of_autoencoders(tmp_path: Path) -> Maker:
    return fill_autoencoder(Maker(tmp_path / "autoencoders"))


@pytest.fixture
def of_all(tmp_path: Path) -> Maker:
    return fill_autoencoder(fill_regression(fill(Maker(tmp_path / "all"))))


def blocks_of(maker: Maker) -> list[Block]:
    return [block_of(s) for s in settings(summary_of(maker))]


def cells(block: Block, label: str, place: int = 0) -> dict[str, str]:
    found = [r for r in block.rows if r.cells[0].text == label][place]
    return {c.title: cell.text for c, cell in zip(block.columns, found.cells, strict=True)}


# -- statistics ------------------------------------------------------------------------------


def test_errors_have_median_least_and_largest_beside_their_mean(of_regression: Maker) -> None:
    found = row(summary_of(of_regression), "dropneuron")
    assert found["nmse_median"] == 5e-4
    assert (found["nmse_min"], found["nmse_max"]) == (3e-4, 4e-2)
    assert found["nmse_mean"] == pytest.approx(sum(NMSE) / 3)
    assert found["kept_before_pruning_nmse_median"] == 2.5e-4
    assert (found["n_support_known"], found["n_support_exact"]) == (3, 2)
    assert found["support_exact_share"] == pytest.approx(2 / 3)
    assert found["support_missed_mean"] == pytest.approx(1 / 3)
    assert found["density_mean"] == 0.125


def test_errors_are_compared_by_their_ratio(of_regression: Maker, of_autoencoders: Maker) -> None:
    found = row(summary_of(of_regression), "dropneuron")
    logarithms = [-math.log(2), -math.log(4), -math.log(2)]
    assert [math.log(a / b) for a, b in zip(NMSE, RANDOM_NMSE, strict=True)] == pytest.approx(
        logarithms
    )
    sem = stats.sem(logarithms)
    assert found["difference_unit"] == "log ratio"
    assert found["difference_mean"] == pytest.approx(-math.log(16) / 3)
    assert found["difference_half_width"] == pytest.approx(sem * stats.t.ppf(0.975, 2))
    assert found["difference_verdict"] == INDISTINCT  # 0.40, from 0.15 to 1.07
    found = row(summary_of(of_autoencoders), "dropneuron")
    ratios = [a / b for a, b in zip(MSE, RANDOM_MSE, strict=True)]
    assert math.exp(found["difference_mean"]) == pytest.approx(geometric_mean(ratios))
    assert found["difference_verdict"] == "better"


def test_lower_errors_are_better_against_any_baseline(of_autoencoders: Maker) -> None:
    summary = summary_of(of_autoencoders, "dense")
    found = row(summary, "dropneuron")
    assert math.exp(found["difference_mean"]) == pytest.approx(geometric_mean(MSE) / 0.01)
    assert found["difference_verdict"] == "worse"
    assert row(summary, "magnitude", 8.0)["difference_verdict"] == "worse"
    assert verdict(3, 5.0, 0.1, higher_is_better=False) == "worse"
    assert verdict(3, -5.0, 0.1, higher_is_better=False) == "better"


def test_an_error_of_zero_makes_no_pair(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", dataset="sparse-regression")
    for seed, nmse in enumerate((0.0, 1e-3, 2e-3)):
        of = maker.record(regression(nmse), task="regression", method="l1", seed=seed)
        maker.record(regression(4e-3), task="regression", method="random", seed=seed, rates_of=of)
    found = row(summary_of(maker), "l1")
    assert (found["n"], found["difference_n"]) == (3, 2)
    assert math.exp(found["difference_mean"]) == pytest.approx(math.sqrt(1 / 4 * 1 / 2))
    assert write_report([maker.results], tmp_path / "out", SHIPPED, ("png",)).files


def test_classification_still_differs_in_points(of_all: Maker) -> None:
    found = row(summary_of(of_all, "dense")[lambda s: s["task"] == "classification"], "edropout")
    assert found["difference_unit"] == "points"
    assert found["difference_mean"] == pytest.approx(97.0 - sum(DENSE) / 3)
    assert found["difference_verdict"] == "worse"


def test_live_units_are_averaged_place_by_place(of_autoencoders: Maker) -> None:
    runs = load([of_autoencoders.results]).runs
    own = runs[runs["label"] == "dropneuron"].sort_values("seed")["live_units"]
    assert list(own) == ["542-82-61-784", "541-82-61-784", "540-82-61-784"]
    assert row(summary_of(of_autoencoders), "dropneuron")["live_units"] == "541-82-61-784"
    assert row(summary_of(of_autoencoders), "magnitude", 2.0)["live_units"] == ""


def test_live_units_come_in_layer_order_inputs_first_and_not_of_deep_networks(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "r")
    places = {
        "decode": {"live": 7, "of": 9, "place": 2},
        "encode": {"live": 3, "of": 9, "place": 1},
    }
    maker.trial(98.0, live={**places, "input": {"live": 5, "of": 9, "place": 0}})
    maker.trial(98.0, seed=1, live=live(*range(1, 8)))
    assert set(load([maker.results]).runs["live_units"]) == {"5-3-7", ""}


# -- tables ----------------------------------------------------------------------------------


def test_a_regression_table(of_regression: Maker) -> None:
    (block,) = blocks_of(of_regression)
    shown = cells(block, "dropneuron")
    assert shown["NMSE: median (range)"] == "5.00e-04 (3.00e-04 to 4.00e-02)"
    assert shown["before pruning: NMSE"] == "2.50e-04"
    assert shown["support exact"] == "2 of 3"
    assert shown["density %"] == "12.5"
    assert shown["live units"] == "5-1-1"
    assert shown[f"NMSE: {RATIO}"] == f"0.40 (0.15 to 1.07, {INDISTINCT})"
    assert cells(block, "dense")["NMSE: median (range)"] == "2.00e-04"
    assert cells(block, "random (of dropneuron)")["before pruning: NMSE"] == "–"
    assert not [t for t in shown if "top" in t or t == "units kept %"]
    assert block.notes == ("Test samples: 500.",)


def test_an_autoencoder_table(of_autoencoders: Maker) -> None:
    (block,) = blocks_of(of_autoencoders)
    shown = cells(block, "dropneuron")
    half = stats.sem(MSE) * stats.t.ppf(0.975, 2)
    assert shown["pixel MSE"] == f"0.01220 ± {half:.5f}"
    assert shown["before pruning: pixel MSE"] == "0.0112"
    assert shown[f"pixel MSE: {RATIO}"] == "0.40 (0.40 to 0.40)"
    assert "support exact" not in shown


def test_collapsed_runs_of_a_mean_are_told(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r", dataset="mnist-autoencoder")
    for seed, mse in enumerate((0.010, 0.014, 0.3)):
        maker.record(autoencoder(mse, collapsed=mse > 0.1), task="autoencoder", seed=seed)
    (block,) = blocks_of(maker)
    assert "(others 0.0120)" in cells(block, "dense")["pixel MSE"]
    assert "collapsed" in block.keys
    assert row(summary_of(maker), "dense")["mse_mean_not_collapsed"] == pytest.approx(0.012)


def test_definitions_are_those_of_the_columns(of_all: Maker) -> None:
    images, classes, numbers = blocks_of(of_all)
    terms = [{d.term for d in definitions_for(b.keys)} for b in (images, classes, numbers)]
    assert [("top-1, top-5" in t, "NMSE" in t, "pixel MSE" in t) for t in terms] == [
        (False, False, True), (True, False, False), (False, True, False),
    ]  # fmt: skip
    assert [("difference" in t, "ratio" in t) for t in terms] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert ["units kept" in t for t in terms] == [False, True, False]
    assert ["live units" in t for t in terms] == [True, False, True]
    assert not any("measured speed-up" in t or "collapsed" in t for t in terms)
    assert not definitions_for(())


def test_errors_are_printed_with_three_digits_and_intervals_in_their_notation() -> None:
    assert [error_text(v) for v in (3.58e-4, 0.0121, 0.31249, 12.345, 0.0, math.nan)] == [
        "3.58e-04", "0.0121", "0.312", "12.3", "0", "–",
    ]  # fmt: skip
    assert error_with_interval(Middle(3.58e-4, 3.46e-4, 3.70e-4)) == "3.58e-04 ± 0.12e-04"
    assert error_with_interval(Middle(0.0121, 0.0118, 0.0124)) == "0.01210 ± 0.00030"
    assert error_with_interval(Middle(0.5, 0.1, 0.9)) == "0.50 ± 0.40"
    assert error_with_range(Middle(0.02, 0.01, 0.5)) == "0.0200 (0.0100 to 0.500)"
    assert error_with_range(Middle(0.02, 1e-4, 0.5)) == "2.00e-02 (1.00e-04 to 5.00e-01)"


# -- files -----------------------------------------------------------------------------------


def header(file: Path) -> list[str]:
    with file.open(newline="") as lines:
        return next(csv.reader(lines))


def test_tables_of_numbers_have_the_columns_of_the_tasks_they_are_about(
    maker: Maker, of_regression: Maker, of_all: Maker, tmp_path: Path
) -> None:
    found = {}
    for name, made in (("classes", maker), ("numbers", of_regression), ("all", of_all)):
        write_report([made.results], tmp_path / name, SHIPPED, ("csv",))
        for kind in ("runs", "summary"):
            found[name, kind] = set(header(tmp_path / name / f"{kind}.csv"))
    assert {"task", "top1", "top5", "density", "live_units"} <= found["classes", "runs"]
    assert not {"nmse", "mse", "support_exact"} & found["classes", "runs"]
    assert {"nmse", "mse", "max_error", "validation_nmse", "support_exact"} <= found[
        "numbers", "runs"
    ]
    assert (
        not {"top1", "top3", "top5", "validation_top1", "validation_mse"} & found["numbers", "runs"]
    )
    assert not [c for c in found["numbers", "summary"] if "top" in c]
    assert {"top1", "nmse", "mse", "validation_mse"} <= found["all", "runs"]
    assert {"top1_mean", "nmse_median", "mse_mean", "n_support_exact"} <= found["all", "summary"]


def test_a_mixed_report_has_every_task_in_every_format(of_all: Maker, tmp_path: Path) -> None:
    report = write_report([of_all.results], tmp_path / "out", SHIPPED, ("csv", "md", "tex", "html"))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    for text in (report.text, page):
        assert all(t in text for t in ("top-1 %", "NMSE: median (range)", "pixel MSE", "2 of 3"))
    figures = set(re.findall('data-figure="(.+?)"', page))
    linear, images = "linear_sparse-regression_quick", "autoencoder_mnist-5k-autoencoder_quick"
    assert {
        f"{n}_{k}" for n in (linear, images) for k in ("rate", "cost", "threshold_curve")
    } < figures
    assert page.count('alt="Reconstructions') == 1
    tex = (tmp_path / "out" / "tables" / "linear_sparse-regression_quick.tex").read_text()
    assert "5.00e-04 (3.00e-04 to 4.00e-02)" in tex
    assert "top-5" not in tex
    assert not report.warnings


def test_end_table_of_other_tasks(of_regression: Maker) -> None:
    text = end_table(of_regression.results, {t.id for t in of_regression.results.trials()})
    assert "5.00e-04" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_records_from_before_there_were_tasks_are_classification(maker: Maker) -> None:
    runs = load([maker.results]).runs
    assert set(runs["task"]) == {"classification"}
    assert runs["density"].isna().all()
    (block,) = blocks_of(maker)
    assert "density %" not in {c.title for c in block.columns}


def test_an_unknown_task_is_told_and_left_out(maker: Maker) -> None:
    unknown = maker.record(metrics(1.0), task="translation", seed=9)
    loaded = load([maker.results])
    assert unknown not in set(loaded.runs["id"])
    assert any("translation" in warning for warning in loaded.warnings)


def test_the_checklist_leaves_accuracy_to_classification(
    of_regression: Maker, of_all: Maker
) -> None:
    items = {i.question: i for i in checklist(load([of_regression.results]).runs)}
    assert items["Top-1 and Top-5"].verdict == "N-A"
    assert items["Rates up to where accuracy breaks down"].verdict == "N-A"
    assert items["At least one data set beyond MNIST's size"].verdict == "N-A"
    assert items["Cost of the whole training"].verdict == "PASS"
    items = {i.question: i for i in checklist(load([of_all.results]).runs)}
    assert items["Top-1 and Top-5"].verdict == "PASS"
    assert items["At least one data set beyond MNIST's size"].verdict == "FAIL"
    assert re.search("lenet", items["Rates up to where accuracy breaks down"].detail)
