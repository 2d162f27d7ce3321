"""Axes for columns that the report knows only by name: linear, or logarithmic where they span much."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.report.figures.axes import Axis, Place, error_place, linear_axis, log_axis

_SHARES = ("density",)  # columns from 0 to 1, shown in percent
_ZERO_GAP = 0.06  # of the axis: where 0 stands, left of the smallest value


@dataclass(frozen=True)
class Scale:
    """The scale of a column: the positions and the names of its values."""

    place: Place
    axis: Callable[[float, float], Axis]


def scale_of(column: str, values: Sequence[float]) -> Scale:
    """Return a logarithmic scale where positive values span more than a decade; 0 stands at its edge."""
    factor = 100 if column in _SHARES else 1
    title = f"{words_of(column)} %" if column in _SHARES else words_of(column)
    values = [v for v in values if not math.isnan(v)]

    def within(value: float) -> float:
        """Cut the interval of a share where no share can be."""
        return min(1.0, max(0.0, value)) if column in _SHARES else value

    positive = [factor * v for v in values if v > 0]
    if not positive or min(values) < 0 or max(positive) < 10 * min(positive):
        return Scale(lambda v: factor * within(v), lambda low, high: linear_axis(title, low, high))
    least, most = error_place(min(positive)), error_place(max(positive))
    zero = least - _ZERO_GAP * (most - least)
    has_zero = any(v == 0 for v in values)

    def place(value: float) -> float:
        return max(zero, error_place(factor * within(value))) if value > 0 else zero

    def axis(low: float, high: float) -> Axis:
        made = log_axis(f"{title} (log scale)", low, high)
        if not has_zero:
            return made
        kept = tuple((at, text) for at, text in made.ticks if at >= least - 1e-9)
        return replace(made, ticks=((zero, "0"), *kept))

    return Scale(place, axis)


def words_of(column: str) -> str:
    return column.replace("_", " ")


def value_text(column: str, value: float) -> str:
    return f"{100 * value:.3g} %" if column in _SHARES else f"{value:.4g}"
