"""The checklist passes what a good comparison has and names what is missing."""

import pandas as pd

from bench.report.checklist import checklist, text_of


def good() -> pd.DataFrame:
    """Runs that satisfy every point: three pairs, six seeds, five targets, two controls."""
    rows = []
    for model, dataset in (("a", "cifar10"), ("b", "mnist"), ("c", "fashion")):
        for seed in range(6):
            base = {"model": model, "dataset": dataset, "budget": "quick", "seed": seed, "device": "cpu",
                    "protocol": "common", "protocol_version": 1, "method_version": 1, "top5": 99.0,
                    "compression": 2.0, "speedup_theoretical": 2.0, "epochs_total": 1,
                    "images_forward": 1, "train_seconds": 1.0}  # fmt: skip
            rows.append(base | {"id": f"d{model}{seed}", "group": f"d{model}", "label": "dense",
                                "method": "dense", "role": "method", "top1": 95.0})  # fmt: skip
            for target in (2.0, 4.0, 8.0, 16.0, 32.0):
                name = f"{model}{seed}{target}"
                rows.append(base | {"id": f"m{name}", "group": f"m{model}{target}", "label": "magnitude",
                                    "method": "magnitude", "role": "method", "target": target,
                                    "top1": 95.0 - target / 4})  # fmt: skip
                rows.append(base | {"id": f"r{name}", "group": f"r{model}{target}", "label": "random",
                                    "method": "random", "role": "control at its rates",
                                    "control_of": f"m{name}", "target": target, "top1": 80.0})  # fmt: skip
    return pd.DataFrame(rows)


def failing(runs: pd.DataFrame) -> set[str]:
    return {item.question for item in checklist(runs) if item.verdict == "FAIL"}


def test_a_good_comparison_passes_everything() -> None:
    items = checklist(good())
    assert {item.verdict for item in items} == {"PASS"}
    assert text_of(items).count("PASS") == len(items)


def test_each_gap_fails_its_own_point() -> None:
    runs = good()
    random = runs["method"] == "random"
    gaps = {
        "Budget above smoke": runs.assign(budget="smoke"),
        "One protocol and one version of each method": runs.assign(
            method_version=[1, 2] * (len(runs) // 2) + [1] * (len(runs) % 2)
        ),
        "At least three pairs of network and data set": runs[runs["model"] != "b"],
        "At least one data set beyond MNIST's size": runs[runs["model"] != "a"],
        "The unpruned network as a control": runs[runs["method"] != "dense"],
        "Random pruning at the same rates as a control": runs[~random | (runs["seed"] > 0)],
        "Magnitude pruning as a baseline": runs[
            (runs["method"] != "magnitude") | (runs["model"] != "c")
        ],
        "At least five operating points per method": runs[runs["target"] != 8.0],
        "Rates up to where accuracy breaks down": runs[~runs["target"].isin([16.0, 32.0])],
        "Top-1 and Top-5": runs.assign(top5=None),
        "At least three seeds": runs[runs["seed"] < 2],
        "At least six seeds, without which no paired test can reach 5 %": runs[runs["seed"] < 5],
    }
    for question, damaged in gaps.items():
        assert question in failing(damaged), question


def test_points_that_cannot_apply_are_not_judged() -> None:
    dense = good()[lambda r: r["method"] == "dense"]
    verdicts = {item.question: item.verdict for item in checklist(dense)}
    assert verdicts["At least five operating points per method"] == "N-A"
    assert verdicts["Random pruning at the same rates as a control"] == "N-A"
