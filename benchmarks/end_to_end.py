"""`bench run` against the loop a user would write: train, prune to half, train again, six seeds.

    python benchmarks/end_to_end.py --data data

Wall time of whole processes, from the command line to the last result. Test accuracy of both sides
stands beside the times: the work must be the same. Without --data a small set of seeded random
images in Fashion-MNIST's format is used, which only shows that the script runs.
"""

import argparse
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import CHILDREN_WALL, Variant

from bench.plan.registry import Registry
from bench.store.results import Results
from bench.training.network import about
from bench.training.recipe import Recipe

HERE = Path(__file__).resolve().parent
FASTER_AT_LEAST = {"lenet-300-100": 4.0, "lenet-5": 1.7}


@dataclass
class Side:
    """One side's way to run, and the accuracies that its last run reached."""

    given: argparse.Namespace
    model: str
    data: Path
    top1: list[float] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        return about(Registry().model(self.model)).recipe


@dataclass
class Ours(Side):
    """`bench run` in a fresh results folder."""

    place: Path = Path()
    _number: Any = field(default_factory=itertools.count)

    def run(self, seeds: int, epochs: int) -> None:
        folder = self.place / f"{self.model}-{next(self._number)}"
        _finish(
            "-m", "bench", "run", "--methods", "magnitude", "--targets", "2",
            "--models", self.model, "--datasets", "fashion", "--data-dir", str(self.data),
            "--seeds", f"0-{seeds - 1}", "--controls", "none", "--set", f"recipe.epochs={epochs}",
            "--jobs", str(self.given.jobs), "--device", "cpu", "--out", str(folder),
        )  # fmt: skip
        records = [trial.result() for trial in Results(folder).trials()]
        assert len(records) == seeds
        self.top1 = [record.metrics.number("top1") for record in records]


@dataclass
class Theirs(Side):
    """`users_loop.py`, with the recipe of the harness."""

    workers: int = 0

    def run(self, seeds: int, epochs: int) -> float:
        """Return the seconds it took without imports."""
        recipe = self.recipe
        nesterov = ["--nesterov"] if recipe.nesterov else []
        printed = _finish(
            str(HERE / "users_loop.py"), "--data", str(self.data),
            "--model", self.model, "--workers", str(self.workers),
            "--seeds", str(seeds), "--epochs", str(epochs), "--threads", str(self.given.threads),
            "--batch", str(recipe.batch_size), "--lr", str(recipe.lr),
            "--momentum", str(recipe.momentum), "--weight-decay", str(recipe.weight_decay),
            *nesterov,
        )  # fmt: skip
        result = json.loads(printed)
        self.top1 = result["top1"]
        return float(result["seconds"])

    def choose_workers(self, report: Report) -> None:
        """Take the number of workers that a short training is fastest with."""
        seconds = {}
        for workers in self.given.workers:
            self.workers = workers
            seconds[workers] = self.run(seeds=1, epochs=1)
        self.workers = min(seconds, key=lambda workers: seconds[workers])
        shown = ", ".join(f"{w} workers {s:.1f} s" for w, s in seconds.items())
        report.note(f"{self.model}: user's loop, 1 + 1 epochs: {shown}; taken: {self.workers}")


def _finish(*arguments: str) -> str:
    """Run Python with arguments; returns what it printed."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stderr}")
    return done.stdout


def write_random_set(root: Path, training: int, test: int) -> None:
    """Write noisy pictures of ten classes as the files of Fashion-MNIST."""
    draw = np.random.default_rng(0)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    classes = draw.integers(0, 256, (10, 28, 28))
    for name, n in (("train", training), ("t10k", test)):
        labels = np.arange(n, dtype=np.uint8) % 10
        pixels = classes[labels] + draw.normal(0, 64, (n, 28, 28))
        images = pixels.clip(0, 255).astype(np.uint8)
        header = struct.pack(">4I", 0x803, n, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 0x801, n)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def compare(model: str, given: argparse.Namespace, data: Path, place: Path, report: Report) -> None:
    ours, theirs = Ours(given, model, data, place=place), Theirs(given, model, data)
    theirs.choose_workers(report)  # which also warms it up; and then ourselves
    ours.run(seeds=1, epochs=1)
    variants = [
        Variant("bench run", lambda: ours.run(given.seeds, given.epochs), given.seeds),
        Variant("user's loop", lambda: theirs.run(given.seeds, given.epochs), given.seeds,
                guarded=theirs.workers == 0),
    ]  # fmt: skip
    rounds = measured(variants, given, CHILDREN_WALL)
    report.speeds(f"{model}, seconds a seed", rounds, "")
    for name, side in (("bench run", ours), ("user's loop", theirs)):
        shown = ", ".join(f"{top1:.2f}" for top1 in side.top1)
        mean = statistics.mean(side.top1)
        report.note(f"  {model}, {name}: top1 {mean:.2f} on average ({shown})")
    name = f"{model}: bench run is faster than the user's loop, times"
    bound = Bound(">=", FASTER_AT_LEAST[model])
    report.ratio(name, rounds, "user's loop", "bench run", bound)


def main() -> int:
    parser = options(__doc__, rounds=1)
    numbers: Any = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--data", type=Path, help="torchvision's folder; else random images")
    parser.add_argument("--images", type=int, default=1280, help="without --data")
    parser.add_argument("--models", default="lenet-300-100,lenet-5", help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=6, help="[default: %(default)s]")
    parser.add_argument("--epochs", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--jobs", type=int, default=2, help="[default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="of the user's loop")
    parser.add_argument("--workers", type=numbers, default=[0, 2], help="[default: 0,2]")
    parser.set_defaults(warm_up=0)  # a whole round is minutes; one epoch of one seed warms up
    given = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    report = Report("end_to_end", settings_of(given))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = given.data.resolve() if given.data else place / "data"
        if given.data is None:
            write_random_set(data, given.images, given.images // 4)
        report.note(f"images from {given.data}" if given.data else "images: seeded random pictures")
        for model in given.models.split(","):
            compare(model, given, data, place, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
