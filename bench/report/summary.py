"""Means, intervals and paired differences over seeds: a row per group of trials."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.errors import UnknownName, UsageError
from bench.report.table import LATENCY, MACHINE_COST, METRICS

CONFIDENCE = 0.95
FEWEST_PAIRS = 3
INDISTINCT = "not distinguishable"

_KEYS = (
    "group", "setting", "label", "method", "options", "method_version", "role",
    "control_of_label", "control_of_target", "model", "dataset", "target", "budget", "protocol",
    "protocol_version", "recipe", "coupling", "weights", "threads", "note",
)  # fmt: skip
_SPREAD = ("mean", "sd", "half_width")


@dataclass(frozen=True)
class Setting:
    """What one table or figure is about: groups that may be compared.

    Attributes:
        name: for files; unlike that of every other setting of the report.
        differs: what tells it from others with the same network, data and budget; often nothing.
    """

    model: str
    dataset: str
    budget: str
    name: str
    differs: str
    groups: pd.DataFrame

    @property
    def title(self) -> str:
        more = f", {self.differs}" if self.differs else ""
        return f"{self.model} on {self.dataset}, budget {self.budget}{more}"

    @property
    def is_smoke(self) -> bool:
        return self.budget == "smoke"


def summarise(runs: pd.DataFrame, baseline: str = "random") -> pd.DataFrame:
    """Return one row per group of trials that differ in nothing but the seed.

    Args:
        runs: of `bench.report.table.load`.
        baseline: `random` takes each difference against the row's own random control; the label
            of a method against that method on the same network, data and seed, and at the same
            target where it has one.

    Raises:
        UnknownName: no finished trial is called like the baseline.
    """
    grouped = runs.groupby("group", sort=False)
    summary = grouped[list(_KEYS[1:])].first().astype(object)
    summary["n"] = grouped.size()
    summary["seeds"] = grouped["seed"].agg(lambda s: " ".join(str(v) for v in sorted(s)))
    summary["n_collapsed"] = grouped["collapsed"].sum().astype(int)
    summary["n_unreachable"] = grouped["unreachable"].sum().astype(int)
    spreads = _spreads(runs)
    rest = runs[~runs["collapsed"].astype(bool)].groupby("group")["top1"].mean()
    summary["top1_mean_not_collapsed"] = rest.reindex(summary.index)
    summary["baseline"] = baseline
    summary = summary.join(_differences(runs, baseline)).join(spreads)
    return _in_order(summary.reset_index()[_columns(list(spreads.columns))])


def settings(summary: pd.DataFrame) -> list[Setting]:
    """Split a summary into what may be compared; dense rows stand first, controls under theirs."""
    found = []
    names: set[str] = set()
    for _, groups in summary.groupby("setting", sort=False):
        first = groups.iloc[0]
        three = ["model", "dataset", "budget"]
        same = summary[(summary[three] == first[three]).all(axis=1)]
        name = base = "_".join(_slug(str(first[k])) for k in three)
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.add(name)
        differs = ", ".join(
            f"{what.replace('_', ' ')} {changes(first[what]) if what == 'recipe' else first[what]}"
            for what in ("protocol", "protocol_version", "recipe", "coupling", "threads")
            if same[what].nunique() > 1
        )
        model, dataset, budget = (str(first[k]) for k in three)
        found.append(Setting(model, dataset, budget, name, differs, groups))
    return found


def half_width(sd: "pd.Series[float]", n: "pd.Series[int]") -> "pd.Series[float]":
    """Return half of the 95 % t interval of means; missing for a single value."""
    from scipy.stats import t

    several = n.where(n > 1)
    quantile = pd.Series(t.ppf((1 + CONFIDENCE) / 2, several - 1), index=n.index)
    return quantile * sd / several**0.5


def _spreads(runs: pd.DataFrame) -> pd.DataFrame:
    kept = [c for c in runs.columns if c.startswith("kept_") and c.endswith("_top1")]
    columns = [c for c in (*METRICS, *MACHINE_COST, *LATENCY, *kept) if c != "collapsed"]
    values = runs[columns].astype(float)
    grouped = values.groupby(runs["group"], sort=False)
    mean, sd, n = grouped.mean(), grouped.std(ddof=1), grouped.count()
    spread = {}
    for column in columns:
        spread[f"{column}_mean"] = mean[column]
        spread[f"{column}_sd"] = sd[column]
        spread[f"{column}_half_width"] = half_width(sd[column], n[column])
    return pd.DataFrame(spread)


def _differences(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of top-1 in points, paired by seed."""
    other = _against_random(runs) if baseline == "random" else _against(runs, baseline)
    difference = (runs["top1"].astype(float) - other).dropna()
    grouped = difference.groupby(runs["group"].loc[difference.index])
    found = pd.DataFrame({"n": grouped.size(), "mean": grouped.mean(), "sd": grouped.std(ddof=1)})
    found["half_width"] = half_width(found["sd"], found["n"])
    found = found.rename(columns=lambda name: f"difference_{name}")
    found = found.reindex(runs["group"].unique())
    found["difference_n"] = found["difference_n"].fillna(0).astype(int)
    verdicts = [
        verdict(n, mean, half)
        for n, mean, half in zip(
            found["difference_n"],
            found["difference_mean"],
            found["difference_half_width"],
            strict=True,
        )
    ]
    return found.assign(difference_verdict=verdicts)


def verdict(n: int, mean: float, half: float) -> str:
    """Say what a paired difference shows; nothing without pairs."""
    if not n:
        return ""
    # The tolerance is rounding: differences that are all zero may average to 1e-16.
    if n < FEWEST_PAIRS or abs(mean) <= half + 1e-9:
        return INDISTINCT
    return "better" if mean > 0 else "worse"


def _against_random(runs: pd.DataFrame) -> "pd.Series[float]":
    """Top-1 of each row's own random control, which for controls is the one of the same trial."""
    is_random = (runs["method"] == "random") & (runs["role"] == "control at its rates")
    # Where somebody ran it with options too, the plain one counts: "{}" sorts behind '{"'.
    plain_first = runs[is_random].sort_values("options", ascending=False)
    top1 = plain_first.drop_duplicates("control_of").set_index("control_of")["top1"].astype(float)
    key = runs["id"].where(runs["role"] == "method", runs["control_of"])
    return key.map(top1).where(~is_random & (runs["role"] != "control at its cost"))


def _against(runs: pd.DataFrame, baseline: str) -> "pd.Series[float]":
    """Top-1 of a named method on the same setting and seed, and target where it has one."""
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
    matched = where[keys].merge(newest[[*keys, "top1"]], on=keys, how="left")["top1"]
    own = (runs["role"] == "method") & runs["label"].isin(reference["label"])
    return matched.astype(float).set_axis(runs.index).where(~own)


def _columns(spreads: list[str]) -> list[str]:
    counts = ["n", "seeds", "n_collapsed", "n_unreachable"]
    top1 = [f"top1_{s}" for s in _SPREAD]
    difference = [f"difference_{s}" for s in ("n", *_SPREAD, "verdict")]
    rest = [c for c in spreads if c not in top1]
    return [*_KEYS, *counts, *top1, "top1_mean_not_collapsed", "baseline", *difference, *rest]


def _in_order(summary: pd.DataFrame) -> pd.DataFrame:
    """Dense first, then methods by name and target, each with its controls, random first, below."""
    is_method = summary["role"] == "method"
    order = pd.DataFrame(
        {
            **{k: summary[k] for k in ("model", "dataset", "budget", "setting")},
            "dense": ~(is_method & (summary["method"] == "dense")),
            "family": summary["label"].where(is_method, summary["control_of_label"]),
            "target": summary["target"].fillna(summary["control_of_target"]).astype(float),
            "control": ~is_method,
            "kind": summary["method"] != "random",
            "label": summary["label"],
            "group": summary["group"],
        }
    )
    ordered = order.sort_values(list(order.columns), na_position="first").index
    return summary.loc[ordered].reset_index(drop=True)


def changes(recipe: str) -> str:
    """Return what a recipe, stored as JSON, changes from the defaults, as a reader would type it."""
    given: dict[str, object] = json.loads(recipe)
    return " ".join(f"{k}={v}" for k, v in sorted(given.items())) or "default"


def _slug(name: str) -> str:
    """A name that is safe in every file system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "unnamed"


Record = dict[str, Any]


def records_of(groups: pd.DataFrame) -> list[Record]:
    """Return rows as plain mappings, missing numbers as nan."""
    return [{str(k): v for k, v in row.items()} for row in groups.to_dict("records")]
