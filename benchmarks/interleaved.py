"""Time variants of one piece of work in turn, and compare them over the rounds that were quiet.

Variants run A B A B ..., so that a slow minute of the machine meets all of them. A round in which
somebody else took the cores shows in involuntary context switches: it is dropped whole. Where no
round is left there is no ratio.
"""

import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MOST_SWITCHES_PER_SECOND = 100.0
LAP_SECONDS = 0.3  # long enough that one switch is not yet a rate above the limit


class NoCleanRound(Exception):
    """Every round was disturbed: there is nothing to compare."""


def own_switches() -> int:
    """Count involuntary context switches of this process, all its threads together."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def childrens_switches() -> int:
    """Count involuntary context switches of the processes that this one started and that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_nivcsw


def childrens_cpu_seconds() -> float:
    """Return CPU time, user and system, of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Meter:
    """A meter that is read before and after a variant.

    Attributes:
        cost_seconds: what is compared: elapsed time, or CPU time.
        wall_seconds: elapsed time, which the rate of switches refers to.
        switches: involuntary context switches so far.
    """

    cost_seconds: Callable[[], float] = time.perf_counter
    wall_seconds: Callable[[], float] = time.perf_counter
    switches: Callable[[], int] = own_switches


CHILDREN_WALL = Meter(switches=childrens_switches)
CHILDREN_CPU = Meter(cost_seconds=childrens_cpu_seconds, switches=childrens_switches)


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Attributes:
        run: what is timed.
        units: how much of the work one call does (images, steps, GFLOP); costs are per unit.
        prepare: called before every `run`, not timed.
        guarded: False for a variant that starts more processes than there are cores: its switches
            are its own doing and say nothing of the neighbours.
    """

    name: str
    run: Callable[[], object]
    units: float = 1.0
    prepare: Callable[[], object] = _nothing
    guarded: bool = True


@dataclass(frozen=True)
class Lap:
    """One timed call of one variant."""

    cost_seconds: float
    wall_seconds: float
    switches: int

    @property
    def switches_per_second(self) -> float:
        return self.switches / self.wall_seconds if self.wall_seconds > 0 else 0.0


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        if len(ordered) < 4:  # too few for quartiles: the extremes
            return cls(statistics.median(ordered), ordered[0], ordered[-1])
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Rounds:
    """The clean rounds of a measurement, a lap per variant in each."""

    units: dict[str, float]
    clean: list[dict[str, Lap]] = field(repr=False)
    every: list[dict[str, Lap]] = field(repr=False)

    @property
    def dropped(self) -> int:
        return len(self.every) - len(self.clean)

    def costs(self, name: str) -> list[float]:
        """Return the seconds per unit of a variant, by round."""
        return [lap[name].cost_seconds / self.units[name] for lap in self.clean]

    def times(self, name: str, other: str) -> Spread:
        """Return the ratios of `name`'s cost a unit to `other`'s, one a round."""
        both = zip(self.costs(name), self.costs(other), strict=True)
        return Spread.of(cost / reference for cost, reference in both)

    def switches_per_second(self, name: str) -> float:
        """Return the median over all rounds, those that were dropped included."""
        return statistics.median(lap[name].switches_per_second for lap in self.every)


def measure(
    variants: list[Variant],
    rounds: int,
    meter: Meter | None = None,
    most_switches_per_second: float = MOST_SWITCHES_PER_SECOND,
    warm_up_rounds: int = 1,
) -> Rounds:
    """Run the variants in turn.

    Args:
        rounds: how many are measured; each runs every variant once.
        meter: what is read; None: elapsed time and the switches of this process.
        most_switches_per_second: a round in which a guarded variant saw more is dropped.
        warm_up_rounds: runs of the same size before, which are not measured.

    Raises:
        NoCleanRound: all of them were dropped.
    """
    meter = meter or Meter()
    for _ in range(warm_up_rounds):
        for variant in variants:
            _lap(variant, meter)
    every = [{v.name: _lap(v, meter) for v in variants} for _ in range(rounds)]
    guarded = [v.name for v in variants if v.guarded]
    clean = [
        laps
        for laps in every
        if all(laps[name].switches_per_second <= most_switches_per_second for name in guarded)
    ]
    measured = Rounds({v.name: v.units for v in variants}, clean, every)
    if not clean:
        seen = ", ".join(f"{n}: {measured.switches_per_second(n):.0f}" for n in guarded)
        raise NoCleanRound(
            f"No ratio: all {rounds} rounds saw more than {most_switches_per_second:g} involuntary "
            f"context switches per second (median by variant: {seen}); another process is using "
            "these cores, so run this again when the machine is quiet"
        )
    return measured


def _lap(variant: Variant, meter: Meter) -> Lap:
    variant.prepare()
    switches = meter.switches()
    wall, cost = meter.wall_seconds(), meter.cost_seconds()
    variant.run()
    return Lap(
        meter.cost_seconds() - cost, meter.wall_seconds() - wall, meter.switches() - switches
    )


def calls_for(
    once: Callable[[], object],
    lap_seconds: float = LAP_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Return how many calls fill a lap; calls twice, to warm up and to be timed."""
    once()
    started = clock()
    once()
    return max(1, math.ceil(lap_seconds / max(clock() - started, 1e-9)))


def repeated(name: str, once: Callable[[], object], units: float) -> Variant:
    """Return a variant that repeats a short piece of work until a lap is long enough to time.

    Args:
        units: of one call.
    """
    calls = calls_for(once)

    def run() -> None:
        for _ in range(calls):
            once()

    return Variant(name, run, units * calls)
