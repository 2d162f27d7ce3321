"""Statistics are checked against closed forms and scipy, files against what was read."""

import csv
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from made_up_results import (
    DENSE,
    MAGNITUDE,
    RANDOM,
    SHIPPED,
    Maker,
    fill,
    row,
    summary_of,
)
from scipy import stats

from bench.errors import UnknownName, UsageError
from bench.report.load import load
from bench.report.statistics import INDISTINCT, verdict
from bench.report.summary import settings
from bench.report.write import end_table, write_report

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
    text = write_report([maker.results], tmp_path / "out", SHIPPED, ("md",)).text
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


def test_a_coupling_other_than_the_usual_is_named_even_alone(tmp_path: Path) -> None:
    for coupling, named in (("tied", ""), ("branch", "coupling branch")):
        maker = Maker(tmp_path / coupling, coupling=coupling)
        maker.trial(98.0)
        (found,) = settings(summary_of(maker))
        assert found.differs == named


# -- reading and CSV -------------------------------------------------------------------------


def test_csv_files_give_back_every_digit(maker: Maker, tmp_path: Path) -> None:
    write_report([maker.results], tmp_path / "out", SHIPPED, ("csv",))
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
    write_report([maker.results], tmp_path / "out", SHIPPED, ("csv",))
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
    report = write_report([maker.results], tmp_path / "out", SHIPPED, ("csv", "md"))
    assert any(f"trial {broken} is left out, for it is damaged" in w for w in report.warnings)
    assert file.exists()
    assert broken not in (tmp_path / "out" / "runs.csv").read_text()


def test_two_folders_with_the_same_trials_count_them_once(maker: Maker, tmp_path: Path) -> None:
    second = fill(Maker(tmp_path / "second"))
    both = load([maker.results, second.results])
    assert len(both.runs) == len(load([maker.results]).runs)
    assert not both.warnings


def test_nothing_finished_is_an_error_with_its_reason(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    with pytest.raises(UsageError, match="no finished trial"):
        write_report([maker.results], tmp_path / "out", SHIPPED)
    maker.failed("the data are gone")
    with pytest.raises(UsageError, match="the data are gone"):
        write_report([maker.results], tmp_path / "out", SHIPPED)
    assert end_table(maker.results, {"0" * 12}) == ""


def test_unknown_format_is_refused(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'html'"):
        write_report([maker.results], tmp_path / "out", SHIPPED, ("htm",))
