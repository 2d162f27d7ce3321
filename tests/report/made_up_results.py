"""Finished trials with made-up numbers, written as the harness would."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import Results, sealed
from bench.report.summary import summarise
from bench.report.table import load
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


def row(summary: pd.DataFrame, label: str, target: float | None = None) -> Any:
    found = summary[summary["label"] == label]
    found = found[found["target"] == target] if target else found
    assert len(found) == 1
    return found.iloc[0]


def summary_of(maker: Maker, baseline: str = "random") -> pd.DataFrame:
    return summarise(load([maker.results]).runs, baseline)
