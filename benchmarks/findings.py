"""Findings of a benchmark script: ratios with their bounds, and the machine they are of."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from interleaved import (
    MOST_SWITCHES_PER_SECOND,
    Meter,
    NoCleanRound,
    Rounds,
    Spread,
    Variant,
    measure,
)

ALL_MET, REFUSED, BOUND_MISSED = 0, 1, 3


@dataclass(frozen=True)
class Bound:
    """The bound of a figure."""

    sign: Literal[">=", "<="]
    value: float

    def is_met(self, figure: float) -> bool:
        return figure >= self.value if self.sign == ">=" else figure <= self.value


@dataclass(frozen=True)
class Finding:
    """One figure: a ratio, or a time in seconds."""

    name: str
    spread: Spread
    rounds: int
    dropped: int
    bound: Bound | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        return None if self.bound is None else self.bound.is_met(self.spread.median)

    def sentence(self) -> str:
        ends = "quartiles" if self.rounds >= 4 else "extremes"
        median, low, high = (f"{v:.4g}" for v in asdict(self.spread).values())
        text = f"{self.name}: {median}{self.unit} ({ends} {low} to {high}, {self.rounds} rounds, "
        text += f"{self.dropped} dropped)"
        if self.bound is None:
            return text
        verdict = "met" if self.is_met else "MISSED"
        return f"{text}; bound {self.bound.sign} {self.bound.value:g}{self.unit}: {verdict}"


@dataclass
class Report:
    """Collects what a script finds, printing as it goes."""

    script: str
    settings: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    variants: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        cpu = machine()
        print(f"{self.script} on {cpu['cpu']}, {cpu['cores']} cores, torch {cpu['torch']}")
        print("  " + ", ".join(f"{k}={v}" for k, v in self.settings.items()))

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(text, flush=True)

    def speeds(self, group: str, rounds: Rounds, unit: str) -> None:
        """Print every variant's own figures; they hold for this machine and this hour alone."""
        self.note(f"{group}:")
        for name in rounds.units:
            cost = Spread.of(rounds.costs(name))
            switches = rounds.switches_per_second(name)
            self.variants.append(
                {"group": group, "name": name, "seconds_per_unit": asdict(cost), "unit": unit,
                 "involuntary_switches_per_second": switches}
            )  # fmt: skip
            shown = f"{1 / cost.median:,.5g} {unit}/s" if unit else f"{cost.median:.4g} s"
            print(f"  {name:<34} {shown:>22}   {switches:5.0f} involuntary switches/s")

    def ratio(
        self, name: str, rounds: Rounds, of: str, to: str, bound: Bound | None = None
    ) -> Finding:
        """Note how many times the cost of one variant is that of another."""
        return self.add(name, rounds, rounds.times(of, to), bound)

    def seconds(self, name: str, rounds: Rounds, of: str, bound: Bound | None = None) -> Finding:
        """Note what a variant costs."""
        return self.add(name, rounds, Spread.of(rounds.costs(of)), bound, " s")

    def add(
        self, name: str, rounds: Rounds, spread: Spread, bound: Bound | None, unit: str = ""
    ) -> Finding:
        found = Finding(name, spread, len(rounds.clean), rounds.dropped, bound, unit)
        self.findings.append(found)
        print("  " + found.sentence(), flush=True)
        return found

    def end(self, file: Path | None) -> int:
        """Write the figures and return the exit code."""
        if file is not None:
            findings = [{**asdict(f), "is_met": f.is_met} for f in self.findings]
            content = {"script": self.script, "machine": machine(), "settings": self.settings,
                       "findings": findings, "variants": self.variants, "notes": self.notes}  # fmt: skip
            file.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        return BOUND_MISSED if any(f.is_met is False for f in self.findings) else ALL_MET


def machine() -> dict[str, Any]:
    """Name the processor and the versions."""
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "torch": version("torch"),
            "torchvision": version("torchvision"), "python": platform.python_version()}  # fmt: skip


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts share."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=layout)
    parser.add_argument("--rounds", type=int, default=rounds, help="[default: %(default)s]")
    parser.add_argument(
        "--warm-up", type=int, default=1, metavar="N",
        help="rounds before, of the same size, that are not measured  [default: %(default)s]",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--most-switches", type=float, default=MOST_SWITCHES_PER_SECOND, metavar="N",
        help="drop rounds with more involuntary switches per second  [default: %(default)s]",
    )  # fmt: skip
    return parser


def measured(
    variants: list[Variant], given: argparse.Namespace, meter: Meter | None = None
) -> Rounds:
    """Measure as the shared options say."""
    return measure(variants, given.rounds, meter, given.most_switches, given.warm_up)


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """Return what a run was asked for, without where its figures go."""
    return {k: v for k, v in vars(given).items() if k != "json"}


def run_script(main: Callable[[], int]) -> None:
    """Run a script and exit: 0 all bounds met, 1 no clean round, 2 usage, 3 a bound missed."""
    try:
        code = main()
    except NoCleanRound as refusal:
        print(refusal, file=sys.stderr)
        code = REFUSED
    sys.exit(code)
