"""Finished trials with made-up numbers, written as the harness would."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from bench.plan.plugins import declared_styles
from bench.report.attachments import Examples
from bench.report.figures.palette import Palette, pairs_of
from bench.report.load import load
from bench.report.summary import summarise
from bench.store.records import CostRecord, seal_cost, sealed
from bench.store.results import Results, file_digest
from bench.store.trial_identity import SCHEMA, TrialSpec

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


LATER = ("density", "live")
_QUALITY = ("top1", "top3", "top5", "validation_top1")


def live(*counts: int) -> dict[str, dict[str, int]]:
    """Units left of 784 inputs and layers of up to 300."""
    names = ("input", *(f"fc{i}" for i in range(1, len(counts))))
    return {
        n: {"live": c, "of": 300, "place": i}
        for i, (n, c) in enumerate(zip(names, counts, strict=True))
    }


def _of_error(column: str, value: float, compression: float, **more: Any) -> dict[str, Any]:
    sizes = {k: v for k, v in metrics(0.0, compression).items() if k not in _QUALITY}
    errors = {column: value, "test_loss": value, f"validation_{column}": value, "collapsed": False}
    return sizes | {"density": 1 / compression} | errors | more


def regression(nmse: float, compression: float = 1.0, **more: Any) -> dict[str, Any]:
    errors = {"mse": nmse * 9, "max_error": nmse**0.5, "n_test": 500}
    return _of_error("nmse", nmse, compression, **(errors | more))


def autoencoder(mse: float, compression: float = 1.0, **more: Any) -> dict[str, Any]:
    return _of_error("mse", mse, compression, **more)


def support(read: int, missed: int = 0) -> dict[str, Any]:
    exact = read == 5 and not missed
    return {
        "support_true": 5,
        "support_read": read,
        "support_missed": missed,
        "support_exact": exact,
    }


def curve(marked: float | None, column: str, *rows: tuple[float, float, float]) -> dict[str, Any]:
    """Rows are threshold, density and the quality on validation."""
    names = ("threshold", "density", f"validation_{column}")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return {"threshold": {"marked": marked, "rows": found}}


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
        """A classification as records were before there were other tasks, unless more is given."""
        of_metrics = {k: fields.pop(k) for k in list(fields) if k in metrics(0.0) or k in LATER}
        compression = of_metrics.pop("compression", fields.get("target") or 1.0)
        return self.record(metrics(top1, compression, **of_metrics), kept, **fields)

    def record(
        self,
        measured: dict[str, Any],
        kept: dict[str, Any] | None = None,
        task: str | None = None,
        curves: dict[str, Any] | None = None,
        examples: Examples | None = None,
        **fields: Any,
    ) -> str:
        spec = replace(self.base, **fields)
        folder = self.results.trial(spec.id).path
        folder.mkdir(parents=True)
        files = {}
        if examples is not None:
            file = folder / "examples.safetensors"
            save_file({"images": examples.images, "outputs": examples.outputs}, file)
            files = {file.name: file_digest(file)}
        record = {
            "schema": SCHEMA, "id": spec.id, "spec": spec.as_json(),
            "metrics": measured, "kept": kept or {},
            "unreachable": False, "control": {}, "phases": [], "files": files,
        }  # fmt: skip
        record |= {"task": task} if task else {}
        record |= {"curves": curves} if curves else {}
        put(folder / "result.json", sealed(record))
        cost = CostRecord(train_seconds=8.5, peak_memory_mb=700.25)
        put(folder / "cost.json", seal_cost(cost, spec.id).as_json())
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
SHIPPED = declared_styles()
LABELS = [("dense", "dense"), ("edropout", "edropout"), ("magnitude", "magnitude")]


def palette_of(labels: list[tuple[str, str]]) -> Palette:
    """The palette of a report that shows these methods and labels."""
    return Palette(pairs_of([method for method, _ in labels], SHIPPED, []), labels)


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


# -- other tasks -----------------------------------------------------------------------------

NMSE = (3e-4, 5e-4, 4e-2)  # the third seed failed
RANDOM_NMSE = (6e-4, 2e-3, 8e-2)  # log ratios to it: ln 1/2, ln 1/4, ln 1/2
MSE = (0.0120, 0.0124, 0.0122)
RANDOM_MSE = (0.0300, 0.0310, 0.0305)


def fill_regression(maker: Maker) -> Maker:
    """Three seeds of dense and DropNeuron with its random control; on a data set of its own."""
    place = {"model": "linear", "dataset": "sparse-regression"}
    of_task: dict[str, Any] = {"task": "regression", **place}
    for seed in range(3):
        maker.record(regression(2e-4, **support(20), live=live(20, 5, 1)), **of_task, seed=seed)
        measured = regression(NMSE[seed], 8.0, **support(5 if seed < 2 else 4, missed=seed // 2),
                              live=live(5 - seed // 2, 1 + seed % 2, 1))  # fmt: skip
        kept = {"before_pruning": regression(NMSE[seed] / 2)}
        rows = ((1e-4, 0.9, 1e-4), (1e-2, 0.125, NMSE[seed]), (1e-1, 0.05, 0.8 + seed / 10))
        of = maker.record(measured, kept, curves=curve(1e-2, "nmse", *rows), method="dropneuron",
                          seed=seed, **of_task)  # fmt: skip
        random = regression(RANDOM_NMSE[seed], 8.0, **support(12, missed=1), live=live(12, 4, 1))
        maker.record(random, method="random", seed=seed, rates_of=of, **of_task)
    return maker


def pictures(shade: float, images: int = 10, channels: int = 1) -> Examples:
    """A rising ramp of greys, and the same times a shade, which may leave the range."""
    pixels = channels * 28 * 28
    ramp = np.linspace(0, 1, images * pixels, dtype=np.float32).reshape(images, channels, 28, 28)
    return Examples(ramp, ramp * np.float32(shade))


def fill_autoencoder(maker: Maker) -> Maker:
    """Three seeds of dense, DropNeuron at its own rate and magnitude at two targets."""
    of_task: dict[str, Any] = {
        "task": "autoencoder",
        "model": "autoencoder",
        "dataset": "mnist-5k-autoencoder",
    }
    for seed in range(3):
        of_task["seed"] = seed
        maker.record(autoencoder(0.01), examples=pictures(1.0), **of_task)
        for i, method in enumerate(("dropneuron", "l1")):
            kept = {"before_pruning": autoencoder(MSE[seed] - 0.001)}
            rows = (
                (0.0, 1.0, 0.011),
                (1e-4, 0.9, 0.011 + seed / 1000),
                (1e-2, 0.2, 0.0125),
                (1e-1, 0.03, 0.09),
            )
            measured = autoencoder(MSE[seed] + i / 500, 5.0, live=live(542 - seed, 82, 61, 784))
            of = maker.record(measured, kept, curves=curve(1e-2 * (i + 1), "mse", *rows),
                              examples=pictures(1.2 - i), method=method, **of_task)  # fmt: skip
            random = autoencoder(RANDOM_MSE[seed], 5.0, live=live(700, 90, 64, 784))
            maker.record(random, method="random", rates_of=of, **of_task)
        for target in (2.0, 8.0):
            maker.record(autoencoder(0.01 + target / 1000, target), examples=pictures(1 / target),
                         method="magnitude", target=target, **of_task)  # fmt: skip
    return maker
