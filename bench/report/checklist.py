"""The checklist of a pruning comparison, checked from the records.

The points are those of Blalock et al., "What is the State of Neural Network Pruning?" (MLSys 2020),
plus the controls and numbers of runs that a claim needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from bench.data.tasks import TASKS, Task
from bench.report.statistics import headlines
from bench.store.records import OLDEST_TASK

Verdict = Literal["PASS", "FAIL", "N-A"]
MIN_PAIRS, MIN_POINTS, MIN_SEEDS, SEEDS_TO_CLAIM = 3, 5, 3, 6
# Data sets of this size, with what follows a dash in their names: mnist-5k, fashion-autoencoder.
SMALL_IMAGES = ("digits", "mnist", "fashion", "kuzushiji")


@dataclass(frozen=True)
class Item:
    """One point: what was asked, whether it holds, and what offends or was found."""

    question: str
    verdict: Verdict
    detail: str


def checklist(runs: pd.DataFrame) -> list[Item]:
    """Check every point.

    Args:
        runs: one row per finished trial, as `bench.report.load.load` gives it.
    """
    if "task" not in runs:
        runs = runs.assign(task=OLDEST_TASK)
    return [Item(question, *check(runs)) for question, check in _CHECKS.items()]


def text_of(items: list[Item]) -> str:
    """Return the checklist as lines for a terminal."""
    return "\n".join(["**Checklist**", ""] + [
        f"- {item.verdict:<4} {item.question}: {item.detail}" for item in items
    ])  # fmt: skip


Found = tuple[Verdict, str]
_PAIR = ["model", "dataset", "budget"]


def _of(good: bool, detail: str) -> Found:
    return ("PASS" if good else "FAIL"), detail


def _methods(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods that prune, controls left out."""
    return runs[(runs["role"] == "method") & (runs["method"] != "dense")]


def _of_tasks(runs: pd.DataFrame, wanted: Callable[[Task], bool]) -> pd.DataFrame:
    """Return the rows of some tasks."""
    return runs[runs["task"].isin([name for name, task in TASKS.items() if wanted(task)])]


def _not_smoke(runs: pd.DataFrame) -> Found:
    smoke = int((runs["budget"] == "smoke").sum())
    return _of(smoke == 0, f"{smoke} smoke trials" if smoke else "no smoke run among the trials")


def _one_protocol(runs: pd.DataFrame) -> Found:
    kinds = runs[["protocol", "protocol_version"]].drop_duplicates()
    versions = runs.groupby("method")["method_version"].nunique()
    mixed = sorted(versions[versions > 1].index)
    if mixed:
        return "FAIL", f"several versions of {', '.join(mixed)}"
    return _of(len(kinds) == 1, f"{len(kinds)} protocol version(s)")


def _pairs(runs: pd.DataFrame) -> Found:
    n = len(runs[["model", "dataset"]].drop_duplicates())
    return _of(n >= MIN_PAIRS, f"{n} of at least {MIN_PAIRS}")


def _modern(runs: pd.DataFrame) -> Found:
    datasets = set(_of_tasks(runs, lambda task: task.items == "images")["dataset"])
    if not datasets:
        return "N-A", "no images among the data sets"
    large = sorted(name for name in datasets if name.partition("-")[0] not in SMALL_IMAGES)
    return _of(bool(large), ", ".join(large) or "only data sets of MNIST's size")


def _dense(runs: pd.DataFrame) -> Found:
    have = {tuple(k) for k in runs[runs["method"] == "dense"][_PAIR].drop_duplicates().to_numpy()}
    missing = [k for k in runs[_PAIR].drop_duplicates().to_numpy() if tuple(k) not in have]
    return _of(not missing, f"missing for {len(missing)} settings" if missing else "everywhere")


def _random(runs: pd.DataFrame) -> Found:
    methods = _methods(runs)
    methods = methods[methods["method"] != "random"]
    if methods.empty:
        return "N-A", "no method that prunes"
    followed = set(runs[(runs["method"] == "random") & (runs["role"] != "method")]["control_of"])
    missing = methods[~methods["id"].isin(followed)]
    detail = f"{len(missing)} of {len(methods)} trials without one"
    return _of(missing.empty, detail)


def _magnitude(runs: pd.DataFrame) -> Found:
    have = {
        tuple(k) for k in runs[runs["method"] == "magnitude"][_PAIR].drop_duplicates().to_numpy()
    }
    missing = [k for k in runs[_PAIR].drop_duplicates().to_numpy() if tuple(k) not in have]
    return _of(not missing, f"missing for {len(missing)} settings" if missing else "everywhere")


def _points(runs: pd.DataFrame) -> Found:
    methods = _methods(runs).dropna(subset=["target"])
    if methods.empty:
        return "N-A", "no method with targets"
    counts = methods.groupby(["label", "model", "dataset"])["target"].nunique()
    few = sorted({str(k[0]) for k in counts[counts < MIN_POINTS].index})
    return _of(not few, f"fewer than {MIN_POINTS}: {', '.join(few)}" if few else "every method")


def _collapse(runs: pd.DataFrame) -> Found:
    """Check that rates go up to where accuracy breaks down: somewhere 5 points are lost."""
    runs = _of_tasks(runs, lambda task: task.headline.is_percent)
    if runs.empty:
        return "N-A", "no task whose result is a share of the test images"
    runs = runs.assign(share=headlines(runs))
    methods = _methods(runs).dropna(subset=["target"])
    if methods.empty:
        return "N-A", "no method with targets"
    dense = runs[(runs["method"] == "dense") & (runs["role"] == "method")]
    best = {str(k): share.mean() for k, share in dense.groupby(["model", "dataset"])["share"]}
    short = []
    for (model, dataset), rows in methods.groupby(["model", "dataset"]):
        lowest = rows.groupby(["label", "target"])["share"].mean().min()
        if best.get(str((model, dataset)), 100.0) - lowest < 5:
            short.append(f"{model} on {dataset}")
    return _of(not short, f"no drop of 5 points yet: {', '.join(short)}" if short else "reached")


def _seeds(least: int) -> Callable[[pd.DataFrame], Found]:
    def check(runs: pd.DataFrame) -> Found:
        counts = runs.groupby("group")["seed"].nunique()
        return _of(
            bool((counts >= least).all()), f"between {counts.min()} and {counts.max()} seeds"
        )

    return check


def _columns(*names: str) -> Callable[[pd.DataFrame], Found]:
    def check(runs: pd.DataFrame) -> Found:
        empty = [n for n in names if n not in runs or runs[n].isna().any()]
        return _of(not empty, f"missing in {', '.join(empty)}" if empty else ", ".join(names))

    return check


def _accuracy(runs: pd.DataFrame) -> Found:
    columns = {"top1", "top5"}
    runs = _of_tasks(runs, lambda task: columns <= set(task.columns))
    return ("N-A", "no classification") if runs.empty else _columns("top1", "top5")(runs)


_CHECKS: dict[str, Callable[[pd.DataFrame], Found]] = {
    "Budget above smoke": _not_smoke,
    "One protocol and one version of each method": _one_protocol,
    "At least three pairs of network and data set": _pairs,
    "At least one data set beyond MNIST's size": _modern,
    "The unpruned network as a control": _dense,
    "Random pruning at the same rates as a control": _random,
    "Magnitude pruning as a baseline": _magnitude,
    "At least five operating points per method": _points,
    "Rates up to where accuracy breaks down": _collapse,
    "Top-1 and Top-5": _accuracy,
    "Compression and theoretical speed-up": _columns("compression", "speedup_theoretical"),
    "Cost of the whole training": _columns("epochs_total", "images_forward", "train_seconds"),
    "At least three seeds": _seeds(MIN_SEEDS),
    "At least six seeds, without which no paired test can reach 5 %": _seeds(SEEDS_TO_CLAIM),
    "Device recorded": _columns("device"),
}
