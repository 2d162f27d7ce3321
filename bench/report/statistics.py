"""Statistics over seeds: intervals of means, averaged curves, and differences paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.data.tasks import TASKS
from bench.errors import UnknownName, UsageError
from bench.report.attachments import Curve
from bench.report.columns import difference_column

CONFIDENCE = 0.95  # of every interval: Student's t
FEWEST_PAIRS = 3
INDISTINCT = "not distinguishable"
POINTS, LOG_RATIO = "points", "log ratio"
COLUMNS = ("n", "mean", "sd", "half_width", "unit", "verdict")


@dataclass(frozen=True)
class Middle:
    """One number for a group of trials and how far they spread.

    Attributes:
        low, high: the ends of the 95 % t interval of a mean, or the least and the largest where
            `at` is a median; missing for a single trial.
    """

    at: float
    low: float
    high: float
    is_median: bool = False

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def half_width(sd: "pd.Series[float]", n: "pd.Series[int]") -> "pd.Series[float]":
    """Return half of the 95 % t interval of means; missing for a single value."""
    from scipy.stats import t

    several = n.where(n > 1)
    quantile = pd.Series(t.ppf((1 + CONFIDENCE) / 2, several - 1), index=n.index)
    return quantile * sd / several**0.5


def middles_of(
    curves: Sequence[Curve], name: str, column: str, by_median: bool
) -> tuple[int, list[tuple[float, Middle]]]:
    """Return the number of seeds, and x with the middle over the seeds."""
    trials = [c for c in curves if column in c.columns]
    if not trials:
        return 0, []
    xs, values = _on_one_grid(trials, name, column)
    table = pd.DataFrame(values, columns=pd.Index(xs)).dropna(axis=1, how="all")
    if by_median:
        ends = zip(table.median(), table.min(), table.max(), strict=True)
        middles = [Middle(float(at), float(low), float(high), True) for at, low, high in ends]
    else:
        halves = half_width(table.std(ddof=1), table.count())
        pairs = zip(table.mean(), halves, strict=True)
        middles = [Middle(float(m), float(m - h), float(m + h)) for m, h in pairs]
    return len(trials), list(zip((float(x) for x in table.columns), middles, strict=True))


def _on_one_grid(
    curves: Sequence[Curve], name: str, column: str
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """Return x and the values (trials, x); where x differ, on all x that lie in every range."""
    grids = [c.columns[name] for c in curves]
    if len(set(grids)) == 1:
        return grids[0], np.array([c.columns[column] for c in curves])
    low, high = max(g[0] for g in grids), min(g[-1] for g in grids)
    xs = tuple(sorted({x for g in grids for x in g if low <= x <= high}))
    rows = [np.interp(xs, g, c.columns[column]) for g, c in zip(grids, curves, strict=True)]
    return xs, np.array(rows)


def differences(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return a row per group: its headline against the baseline's.

    Percentages are subtracted. Of errors, whose size means little by itself, the natural logarithm
    of the ratio is taken: half as much and twice as much lie equally far from 0.
    """
    own = headlines(runs)
    others = runs.assign(headline=own)
    other = _against_random(others) if baseline == "random" else _against(others, baseline)
    is_share = runs["task"].map(lambda task: TASKS[task].headline.is_percent).astype(bool)
    # An error of 0 has no ratio to anything: such a pair is left out.
    ratio = own.where(own > 0) / other.where(other > 0)
    logarithm = ratio.map(math.log, na_action="ignore")
    difference = (own - other).where(is_share, logarithm).dropna()
    grouped = difference.groupby(runs["group"].loc[difference.index])
    found = pd.DataFrame({"n": grouped.size(), "mean": grouped.mean(), "sd": grouped.std(ddof=1)})
    found["half_width"] = half_width(found["sd"], found["n"])
    found = found.reindex(runs["group"].unique())
    found["n"] = found["n"].fillna(0).astype(int)
    task = runs.groupby("group", sort=False)["task"].first()
    metrics = [TASKS[name].headline for name in task]
    found["unit"] = [POINTS if quality.is_percent else LOG_RATIO for quality in metrics]
    found["verdict"] = [
        verdict(n, mean, half, quality.higher_is_better)
        for n, mean, half, quality in zip(
            found["n"], found["mean"], found["half_width"], metrics, strict=True
        )
    ]
    return found[list(COLUMNS)].rename(columns=difference_column)


def verdict(n: int, mean: float, half: float, higher_is_better: bool = True) -> str:
    """Say what a paired difference shows; nothing without pairs."""
    if not n:
        return ""
    # The tolerance is rounding: differences that are all zero may average to 1e-16.
    if n < FEWEST_PAIRS or abs(mean) <= half + 1e-9:
        return INDISTINCT
    return "better" if (mean > 0) == higher_is_better else "worse"


def headlines(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return each row's headline metric."""
    values = pd.Series(np.nan, index=runs.index)
    for task in runs["task"].unique():
        values = values.where(runs["task"] != task, runs[TASKS[task].headline.column].astype(float))
    return values


def _against_random(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return the headline of each row's own random control, which for controls is that of the same trial."""
    is_random = (runs["method"] == "random") & (runs["role"] == "control at its rates")
    # Where somebody ran it with options too, the plain one counts: "{}" sorts behind '{"'.
    plain_first = runs[is_random].sort_values("options", ascending=False)
    headline = plain_first.drop_duplicates("control_of").set_index("control_of")["headline"]
    key = runs["id"].where(runs["role"] == "method", runs["control_of"])
    found = key.map(headline.astype(float))
    return found.where(~is_random & (runs["role"] != "control at its cost"))


def _against(runs: pd.DataFrame, baseline: str) -> "pd.Series[float]":
    """Return the headline of a named method on the same setting and seed, and target where it has one."""
    reference = runs[(runs["role"] == "method") & (runs["label"] == baseline)]
    if reference.empty:
        of_name = runs[(runs["role"] == "method") & (runs["method"] == baseline)]
        if of_name["label"].nunique() > 1:
            labels = " or ".join(sorted(of_name["label"].unique()))
            raise UsageError(f"--baseline {baseline} was run in several ways: {labels}?")
        reference = of_name
    if reference.empty:
        known = runs.loc[runs["role"] == "method", "label"].unique()
        raise UnknownName("baseline", baseline, {"random", *known})
    # A control at another trial's cost has no target of its own, but belongs to one.
    where = runs.assign(target=runs["target"].fillna(runs["control_of_target"]))
    keys = ["setting", "seed"]
    if reference["target"].notna().any():
        keys.append("target")
    newest = reference.sort_values("method_version").drop_duplicates(keys, keep="last")
    matched = where[keys].merge(newest[[*keys, "headline"]], on=keys, how="left")["headline"]
    own = (runs["role"] == "method") & runs["label"].isin(reference["label"])
    return matched.astype(float).set_axis(runs.index).where(~own)
