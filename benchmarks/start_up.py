"""CPU seconds of the command line: help, planning, skipping what is finished, reporting.

    python benchmarks/start_up.py

Planning, skipping and reporting are measured on a results folder of made-up finished trials. Every
figure is also given as a multiple of `python -c "import torch"`, measured in the same rounds.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import CHILDREN_CPU, Variant

ROOT = Path(__file__).resolve().parent.parent
MODELS, DATASETS = "lenet-300-100,lenet-5", "mnist-5k,digits"
METHODS, TARGETS = "magnitude,dropnet", "2,4,8,16,32"
TRIALS_PER_SEED = 2 * 2 * (1 + 2 * 5 * 2)  # dense, and each method's targets with their controls
IMPORT_TORCH = "import torch"


@dataclass(frozen=True)
class Command:
    """A command line and the most CPU time it may take."""

    name: str
    arguments: tuple[str, ...]
    most_seconds: float
    calls: int = 1


def commands(folder: Path, seeds: int, trials: int) -> list[Command]:
    plan = ("run", "--methods", METHODS, "--models", MODELS, "--datasets", DATASETS,
            "--targets", TARGETS, "--seeds", f"0-{seeds - 1}", "--jobs", "1")  # fmt: skip
    empty, full = ("--out", str(folder / "empty")), ("--out", str(folder / "full"))
    return [
        Command("help", ("--help",), 0.3, calls=10),
        Command(f"plan {trials} trials", (*plan, *empty, "--dry-run"), 3),
        Command(f"skip {trials} finished trials", (*plan, *full), 10),
        Command(f"report {trials} trials", ("report", str(folder / "full")), 30),
    ]


def variant(name: str, arguments: tuple[str, ...], calls: int = 1) -> Variant:
    """Run a command in a process of its own, silently; a short one several times in a row.

    Starting a process costs some involuntary switches by itself: a process that only lives for a
    moment shows more of them a second than the guard allows on the quietest machine.
    """

    def run() -> None:
        for _ in range(calls):
            done = subprocess.run(
                [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr.decode()}")

    return Variant(name, run, units=calls, guarded=calls == 1)


def fill(folder: Path, seeds: int) -> int:
    """Write the planned trials as finished ones with made-up numbers; returns how many."""
    sys.path.insert(0, str(ROOT / "tests" / "report"))
    from made_up_results import Maker, put  # type: ignore[import-not-found]

    from bench.plan.expand import make_plan
    from bench.plan.registry import Registry
    from bench.plan.request import Request
    from bench.store.trial_identity import TrialSpec

    registry = Registry()
    asked = Request(methods=METHODS, models=MODELS, datasets=DATASETS, targets=TARGETS,
                    seeds=f"0-{seeds - 1}")  # fmt: skip
    plan = make_plan(registry, [asked])
    maker = Maker(folder)
    for position, spec in enumerate(plan.trials.values()):
        top1 = 98 - (spec.target or 1) / 8 - (spec.method == "random") - position % 97 / 100
        values = {f.name: getattr(spec, f.name) for f in fields(TrialSpec)}
        maker.trial(top1, **values)
        record = {"spec": spec.as_json(), "resolved": {}, "sources": registry.sources_of(spec)}
        put(maker.results.trial(spec.id).path / "spec.json", record)
    maker.results.add_to_plan(plan.trials)
    return len(plan.trials)


def profile(command: Command) -> str:
    """Return where the time of a command goes: the heaviest functions, own time and cumulative."""
    code = (
        "import cProfile, pstats, sys; from bench.cli.main import main; p = cProfile.Profile()\n"
        f"sys.argv = ['bench', *{list(command.arguments)!r}]\n"
        "try: p.runcall(main)\nexcept SystemExit: pass\n"
        "s = pstats.Stats(p, stream=sys.stderr); s.sort_stats('cumtime').print_stats(45)\n"
        "s.sort_stats('tottime').print_stats(25)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr


def main() -> int:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--trials", type=int, default=10_000, help="[default: %(default)s]")
    parser.add_argument("--profile", action="store_true", help="profile what misses its bound")
    given = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    seeds = max(1, round(given.trials / TRIALS_PER_SEED))
    report = Report("start_up", settings_of(given))
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        folder = Path(place)
        trials = fill(folder / "full", seeds)
        chosen = commands(folder, seeds, trials)
        compare(chosen, given, report)
        if given.profile:
            missed = {f.name for f in report.findings if f.is_met is False}
            for command in (c for c in chosen if any(c.name in name for name in missed)):
                print(f"\n{command.name}:\n{profile(command)}")
    return report.end(given.json)


def compare(chosen: list[Command], given: argparse.Namespace, report: Report) -> None:
    variants = [variant(IMPORT_TORCH, ("-c", "import torch"))]
    variants += [variant(c.name, ("-m", "bench", *c.arguments), c.calls) for c in chosen]
    rounds = measured(variants, given, CHILDREN_CPU)
    report.speeds("CPU seconds, user and system", rounds, "")
    for command in chosen:
        bound = Bound("<=", command.most_seconds)
        report.seconds(command.name, rounds, command.name, bound)
        report.ratio(f"{command.name}, multiples of import torch", rounds, command.name,
                     IMPORT_TORCH)  # fmt: skip


if __name__ == "__main__":
    run_script(main)
