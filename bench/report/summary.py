"""Means, intervals and paired differences over seeds: a row per group of trials."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bench.data.tasks import TASKS, Task
from bench.report.columns import (
    Statistic,
    difference_column,
    is_kept,
    numbers_of,
    statistic_column,
    tasks_of,
)
from bench.report.statistics import COLUMNS as DIFFERENCE
from bench.report.statistics import differences, half_width

_KEYS = (
    "group", "setting", "label", "method", "options", "method_version", "role",
    "control_of_label", "control_of_target", "model", "dataset", "data", "task", "target", "budget",
    "protocol", "protocol_version", "recipe", "coupling", "weights", "threads", "code", "note",
)  # fmt: skip
_SPREAD: tuple[Statistic, ...] = ("mean", "sd", "half_width")
_RANGE: tuple[Literal["median", "min", "max"], ...] = ("median", "min", "max")


@dataclass(frozen=True)
class Setting:
    """The subject of one table or figure: groups that may be compared.

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
    def task(self) -> Task:
        return TASKS[self.groups["task"].iloc[0]]

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
        runs: of `bench.report.load.load`.
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
    summary["live_units"] = grouped["live_units"].agg(_mean_units)
    summary["baseline"] = baseline
    headlines = [task.headline.column for task in tasks_of(runs)]
    rest = runs[~runs["collapsed"].astype(bool)].groupby("group")[headlines].mean()
    rest = rest.reindex(summary.index).rename(columns=_of_the_rest)
    others = [_support(runs), _ranges(runs), _spreads(runs)]
    summary = summary.join(rest).join(differences(runs, baseline))
    for each in others:
        summary = summary.join(each)
    columns = _columns(headlines, [str(c) for each in others for c in each.columns])
    return _in_order(summary.reset_index()[columns])


def settings(summary: pd.DataFrame) -> list[Setting]:
    """Split a summary into what may be compared; dense rows stand first, controls under theirs."""
    found = []
    names: set[str] = set()
    for _, groups in summary.groupby("setting", sort=False):
        first = groups.iloc[0]
        three = ["model", "dataset", "budget"]
        same = summary[(summary[three] == first[three]).all(axis=1)]
        name = base = shortened("_".join(slug(str(first[k])) for k in three))
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.add(name)
        differs = ", ".join(
            f"{what.replace('_', ' ')} {_in_words(what, first[what])}"
            for what in ("protocol", "protocol_version", "recipe", "coupling", "threads", "code")
            if same[what].nunique() > 1 or (what == "coupling" and first[what] != "tied")
        )
        model, dataset, budget = (str(first[k]) for k in three)
        found.append(Setting(model, dataset, budget, name, differs, groups))
    return found


def _spreads(runs: pd.DataFrame) -> pd.DataFrame:
    columns = numbers_of(runs)
    values = runs[columns].astype(float)
    grouped = values.groupby(runs["group"], sort=False)
    mean, sd, n = grouped.mean(), grouped.std(ddof=1), grouped.count()
    spread = {}
    for column in columns:
        spread[statistic_column(column, "mean")] = mean[column]
        spread[statistic_column(column, "sd")] = sd[column]
        spread[statistic_column(column, "half_width")] = half_width(sd[column], n[column])
    return pd.DataFrame(spread)


def _ranges(runs: pd.DataFrame) -> pd.DataFrame:
    """Return median, least and largest of errors: a few failed runs may rule their mean."""
    found = {}
    for column in errors_of(runs):
        values = runs[column].astype(float).groupby(runs["group"], sort=False)
        for name in _RANGE:
            found[statistic_column(column, name)] = values.agg(name)
    return pd.DataFrame(found, index=runs["group"].unique())


def _support(runs: pd.DataFrame) -> pd.DataFrame:
    """Count the runs whose inputs that are read are just those that matter, where these are known."""
    groups = runs["group"].unique()
    if "support_exact" not in runs:
        return pd.DataFrame(index=groups)
    known = runs["support_exact"].dropna().astype(bool)
    grouped = known.groupby(runs["group"].loc[known.index])
    found = pd.DataFrame(
        {
            "n_support_known": grouped.size(),
            "n_support_exact": grouped.sum(),
        }
    ).reindex(groups)
    counts = found.fillna(0).astype(int)
    return counts.assign(support_exact_share=found["n_support_exact"] / found["n_support_known"])


def errors_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns of the report's tasks that are errors, those of kept states too."""
    shown = [q for task in tasks_of(runs) for q in task.metrics]
    own = dict.fromkeys(q.column for q in shown if not q.is_percent)
    kept = [c for c in runs.columns if is_kept(c, own) and "_validation_" not in c]
    return [*own, *kept]


def _mean_units(texts: "pd.Series[str]") -> str:
    """Average counts such as 542-82-61-10 place by place."""
    counts = [[int(n) for n in text.split("-")] for text in texts if text]
    if len({len(row) for row in counts}) != 1:
        return ""
    return "-".join(f"{sum(place) / len(counts):.0f}" for place in zip(*counts, strict=True))


def _of_the_rest(column: str) -> str:
    return statistic_column(column, "mean_not_collapsed")


def _columns(headlines: list[str], numbers: list[str]) -> list[str]:
    counts = ["n", "seeds", "n_collapsed", "n_unreachable"]
    first = [statistic_column(h, s) for h in headlines for s in (*_SPREAD, *_RANGE)]
    first = [name for name in first if name in numbers] + [_of_the_rest(h) for h in headlines]
    difference = [difference_column(s) for s in DIFFERENCE]
    rest = [c for c in numbers if c not in first]
    return [*_KEYS, *counts, *first, "baseline", *difference, "live_units", *rest]


def _in_order(summary: pd.DataFrame) -> pd.DataFrame:
    """Order rows: dense first, then methods by name and target, each with its controls below."""
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


def _in_words(what: str, value: object) -> str:
    """Return what a setting differs in, as a title says it."""
    if what == "recipe":
        return changes(str(value))
    if what == "code":
        code: dict[str, object] = json.loads(str(value) or "{}")
        return ", ".join(f"{role} {str(each)[:8]}" for role, each in code.items()) or "not kept"
    return str(value)


def changes(recipe: str) -> str:
    """Return what a recipe, stored as JSON, changes from the defaults, as a reader would type it."""
    given: dict[str, object] = json.loads(recipe)
    return " ".join(f"{k}={v}" for k, v in sorted(given.items())) or "default"


def slug(name: str) -> str:
    """Return a name that is safe in every file system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "unnamed"


_LONGEST = 100  # of 255 that file systems allow, some 143: endings and kinds of figures come on top


def shortened(name: str, longest: int = _LONGEST) -> str:
    """Return a name that file systems allow: the beginning of a long one, and a hash of the whole."""
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: longest - 11]}-{digest}"


SummaryRow = dict[str, Any]


def records_of(groups: pd.DataFrame) -> list[SummaryRow]:
    """Return rows as plain mappings, missing numbers as nan."""
    return [{str(k): v for k, v in row.items()} for row in groups.to_dict("records")]
