"""Measure what a phase's key, checksums and checks add to a training.

    python benchmarks/phase_price.py

The training is LeNet-300-100's, 10 epochs on mnist-5k, as a trial runs it: with the key before it, the
checks of hooks, switches and attributes at both ends, and its result written. The price is the same key,
checks and checksums alone; the checksum is taken twice, as by a run that writes a phase and one that
reads it.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import Variant, calls_for

from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.phase_cache import _checksum
from bench.store.results import Results
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.trial_inputs import trial_of
from bench.training.network_facts import tensors_of
from bench.training.trial import RunningTrial, _key

MOST = 0.05


class Trials:
    """Makes the trial that is trained, each time from its start."""

    def __init__(self, out: Path, given: argparse.Namespace) -> None:
        flags: dict[str, object] = {
            "methods": "dense", "models": given.model, "datasets": "mnist-5k", "seeds": "0",
        }  # fmt: skip
        settings = [f"recipe.epochs={given.epochs}"]
        (self.spec,) = make_plan(Registry(), requests(None, flags, settings)).trials.values()
        Results(out).create()
        self.context = SweepContext(RunConfig(out=out, device="cpu", threads=given.threads))
        self.context.prepare()
        self.begin()

    def begin(self) -> None:
        """Forget what was trained before."""
        for file in self.context.results.folder.glob("phases/**/*.safetensors"):
            file.unlink()
        self.trial: RunningTrial = trial_of(self.context, self.spec, lambda done, of: None)[0]

    def train(self) -> None:
        self.trial.train()


def price_of(trial: RunningTrial) -> None:
    """Do everything that a training phase is accompanied by, and nothing of the training."""
    state = {f"model/{name}": tensor for name, tensor in tensors_of(trial.model).items()}
    with trial._phase("a training") as facts:
        _key(trial, "train", {"clock": 0}, {}, facts)
    for _ in range(2):
        _checksum("{}", state)


def main() -> int:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--model", default="lenet-300-100", help="[default: %(default)s]")
    parser.add_argument("--epochs", type=int, default=10, help="[default: %(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="[default: %(default)s]")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    report = Report("phase_price", settings_of(given))
    with tempfile.TemporaryDirectory() as out:
        trials = Trials(Path(out), given)
        calls = calls_for(lambda: price_of(trials.trial))

        def priced() -> None:
            for _ in range(calls):
                price_of(trials.trial)

        training = f"training of {given.epochs} epochs"
        variants = [
            Variant(training, trials.train, prepare=trials.begin),
            Variant("key, checks and checksums", priced, units=calls),
        ]
        rounds = measured(variants, given)
    report.speeds(f"{given.model}, a phase", rounds, "")
    name = f"{given.model}: key, checks and checksums, share of the training"
    report.ratio(name, rounds, "key, checks and checksums", training, Bound("<=", MOST))
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
