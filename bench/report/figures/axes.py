"""Axes of figures: where values stand on them, their limits, and ticks at values people say.

Positions are on the axes' own scales, so that whoever paints them draws straight lines.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.data.tasks import TaskMetric
from bench.report.statistics import Middle
from bench.report.tables.numbers import error_text

LEAST_ERROR = 1e-12  # stands for an error of 0, which has no logarithm
LEAST_SPAN = 0.05  # of a logarithmic axis: 12 %, within which three digits make ticks
_ACCURACIES = (90, 50, 99, 95, 80, 70, 98, 97, 99.5, 99.9, 60, 30, 10, 85, 96, 92, 94, 93, 99.8)
# Beginnings of numbers, from round ones on: the first row with enough ticks is taken.
_DIGITS = (
    (1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), (*range(1, 10), 1.5),
    tuple(d / 10 for d in range(10, 100)), tuple(d / 100 for d in range(100, 1000)),
)  # fmt: skip
_ENOUGH = 4


@dataclass(frozen=True)
class Estimate:
    """A middle and its interval, as positions on an axis."""

    at: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        return self.low < self.high

    def moved(self, by: float) -> "Estimate":
        return Estimate(self.at + by, self.low + by, self.high + by)


@dataclass(frozen=True)
class Axis:
    """Title, limits, and ticks as (position, text)."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


Place = Callable[[float], float]


def estimate(middle: Middle, place: Place) -> Estimate:
    """Put a middle and its interval, if it has one, onto an axis."""
    if math.isnan(middle.low):
        return Estimate(*[place(middle.at)] * 3)
    return Estimate(place(middle.at), place(middle.low), place(middle.high))


# -- places ----------------------------------------------------------------------------------


def quality_place(quality: TaskMetric, n_test: float) -> Place:
    """Return a scale: percentages spaced by their distance to 100, errors by their size, both logarithmic."""
    if quality.is_percent:
        floor = 50 / n_test  # half an image, for networks without an error
        return lambda value: accuracy_place(value, floor)
    return error_place


def accuracy_place(accuracy: float, floor: float = 0.01) -> float:
    return -math.log10(min(100.0, max(100 - accuracy, floor)))


def error_place(error: float) -> float:
    return math.log10(max(error, LEAST_ERROR))


def rate_place(rate: float) -> float:
    """Return log2 of the compression; where nothing is left, as in an interval that reaches 1, 2^40."""
    return -math.log2(min(1.0, max(1 - rate, 2**-40)))


def count_place(count: float) -> float:
    return math.log10(max(count, 1))


# -- axes ------------------------------------------------------------------------------------


def quality_axis(
    quality: TaskMetric, estimates: Sequence[Estimate], prefix: str = "", may_cut: bool = True
) -> Axis:
    """Return the axis of a task's headline.

    Args:
        prefix: says of which images.
        may_cut: whether intervals may end at the edge; what was observed may not.
    """
    low, high = limits(estimates)
    # Two runs, or one that collapsed, can have an interval of 100 points: it is cut at the edge
    # rather than let it press all means together. 0.3 is a factor of two in error.
    top, bottom = max(e.at for e in estimates), min(e.at for e in estimates)
    room = 0.3 + 0.6 * (top - bottom)
    if may_cut:
        low, high = max(low, bottom - room), min(high, top + room)
    if not quality.is_percent:
        return log_axis(f"{prefix}{quality.title} (log scale, smaller is better)", low, high)
    values = [*_ACCURACIES, *range(99), 99.7, 99.6, 99.95]
    for finer in ([], [i / 10 for i in range(1000)], [i / 100 for i in range(9000, 10000)]):
        values += finer
        ticks = _ticks({accuracy_place(a): f"{a:g}" for a in values}, low, high, 9)
        if len(ticks) >= _ENOUGH:
            break
    title = f"{prefix}{quality.title.removesuffix(' %')} accuracy % (spaced by error, log scale)"
    return Axis(title, low, high, ticks)


def log_axis(title: str, low: float, high: float) -> Axis:
    """Return an axis of positive values between two of their decimal logarithms."""
    wider = max(0.0, (LEAST_SPAN - (high - low)) / 2)
    low, high = low - wider, high + wider
    exponents = range(math.floor(low), math.ceil(high) + 1)
    ticks: tuple[tuple[float, str], ...] = ()
    for digits in _DIGITS:
        places = {
            math.log10(digit) + e: error_text(digit * 10.0**e, _significant(digit))
            for digit in digits
            for e in exponents
        }
        ticks = _ticks(places, low, high, 9)
        if len(ticks) >= _ENOUGH:
            break
    return Axis(title, low, high, ticks)


def rate_axis(estimates: Sequence[Estimate], reached: Iterable[float]) -> Axis:
    """Return an axis with ticks at the rates that were reached, in their order of importance."""
    low, high = limits(estimates)
    high = min(high, max(e.at for e in estimates) + 1)  # one doubling beyond what was observed
    chosen = apart([0.0, *reached], (high - low) / 13)
    ticks = tuple((at, f"{_percent(1 - 2**-at)}\n{_times(2**at)}×") for at in chosen)
    title = "pruning rate: share of parameters removed (spaced by compression, log scale)"
    return Axis(title, low, high, ticks)


def cost_axis(estimates: Sequence[Estimate]) -> Axis:
    """Return an axis of counted images."""
    low, high = limits(estimates)
    steps = [(d, e) for d in (1, 3, 2, 5, 7) for e in range(13)]
    places = {math.log10(d * 10**e): _count(d * 10**e) for d, e in steps}
    title = "images passed forward in all training (log scale)"
    return Axis(title, low, high, _ticks(places, low, high, 9))


def linear_axis(title: str, low: float, high: float) -> Axis:
    """Return an axis with ticks at round numbers."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * f for f in (0.1, 0.2, 0.25, 0.5, 1, 2) if (high - low) / (step * f) <= 7)
    whole = range(math.ceil(low / step), math.floor(high / step) + 1)
    return Axis(title, low, high, tuple((i * step, f"{i * step:.6g}") for i in whole))


def limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return what an axis must span, with a margin."""
    low, high = min(e.low for e in estimates), max(e.high for e in estimates)
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def apart(places: Sequence[float], distance: float) -> list[float]:
    """Take places in the given order, leaving out those too near to one that was taken."""
    taken: list[float] = []
    for place in places:
        if all(abs(place - other) >= distance for other in taken):
            taken.append(place)
    return sorted(taken)


def _significant(digit: float) -> int:
    return len(f"{digit:g}".replace(".", ""))


def _ticks(
    places: dict[float, str], low: float, high: float, most: int
) -> tuple[tuple[float, str], ...]:
    chosen = apart([at for at in places if low <= at <= high], (high - low) / most)
    return tuple((at, places[at]) for at in chosen)


def _percent(rate: float) -> str:
    if rate == 0:
        return "0 %"
    nines = math.floor(-math.log10(max(1 - rate, 1e-12)) + 1e-9)
    return f"{100 * rate:.{max(1, nines)}f} %"


def _times(compression: float) -> str:
    return f"{compression:.3g}" if compression < 999.5 else f"{compression:,.0f}"


def _count(value: int) -> str:
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return str(value)
