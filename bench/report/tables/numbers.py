"""Numbers as they are printed: how many digits, in which notation, with which spread."""

import math

from bench.data.tasks import TASKS, TaskMetric
from bench.report.columns import Statistic, statistic_column
from bench.report.statistics import Middle
from bench.report.summary import SummaryRow

NOTHING = "–"
_ENDS: tuple[Statistic, ...] = ("min", "max")


def middle_of(record: SummaryRow, quality: TaskMetric, column: str = "") -> Middle:
    """Return the middle of a column; without one, of the quality's own."""
    column = column or quality.column
    if quality.by_median:
        low, high = (float(record[statistic_column(column, end)]) for end in _ENDS)
        alone = low == high
        low, high = (math.nan, math.nan) if alone else (low, high)
        return Middle(float(record[statistic_column(column, "median")]), low, high, is_median=True)
    return mean_of(record, column)


def mean_of(record: SummaryRow, column: str) -> Middle:
    """Return the mean of a column with its interval."""
    mean = float(record[statistic_column(column, "mean")])
    half = float(record[statistic_column(column, "half_width")])
    return Middle(mean, mean - half, mean + half)


def quality_text(record: SummaryRow, quality: TaskMetric, with_spread: bool = True) -> str:
    """Return how well a group of trials did."""
    middle = middle_of(record, quality)
    text = _text(record, quality, middle, with_spread)
    others = float(record.get(statistic_column(quality.column, "mean_not_collapsed"), math.nan))
    some_collapsed = record["n_collapsed"] and record["n_collapsed"] < record["n"]
    if some_collapsed and not middle.is_median and with_spread and not math.isnan(others):
        shown = f"{others:.2f}" if quality.is_percent else error_text(others)
        text += f" (others {shown})"
    return text


def before_text(record: SummaryRow, column: str) -> str:
    """Return the headline of a state that was kept beside the final one."""
    quality = headline_of(record)
    middle = middle_of(record, quality, column)
    return NOTHING if math.isnan(middle.at) else _text(record, quality, middle, False)


def headline_of(record: SummaryRow) -> TaskMetric:
    return TASKS[record["task"]].headline


def _text(record: SummaryRow, quality: TaskMetric, middle: Middle, with_spread: bool) -> str:
    if quality.is_percent:
        digits = decimals(middle.half, record["n_test_mean"])
        return with_interval(middle.at, middle.half if with_spread else math.nan, digits)
    if not with_spread or math.isnan(middle.half):
        return error_text(middle.at)
    return error_with_range(middle) if middle.is_median else error_with_interval(middle)


def decimals(half: float, n_test: float) -> int:
    """Return the digits after the point that an accuracy in percent deserves."""
    if math.isnan(half):
        return max(0, min(2, math.ceil(math.log10(max(n_test, 1))) - 2))
    return 0 if half >= 10 else 1 if half >= 1 else 2


def with_interval(mean: float, half: float, digits: int, sign: str = "") -> str:
    text = f"{mean:{sign}.{digits}f}"
    return text if math.isnan(half) else f"{text} ± {half:.{digits}f}"


def error_text(value: float, digits: int = 3, is_scientific: bool | None = None) -> str:
    """Return an error with some significant digits: 0.0121, 3.58e-04.

    Args:
        is_scientific: by default where plain digits would begin with many zeros.
    """
    if math.isnan(value):
        return NOTHING
    if is_scientific is None:
        is_scientific = _is_scientific(value)
    if is_scientific and value:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - _exponent(value))}f}" if value else "0"


def error_with_range(middle: Middle) -> str:
    """Return a median with the least and the largest value, all in one notation."""
    three = (middle.at, middle.low, middle.high)
    is_scientific = any(_is_scientific(value) for value in three)
    at, low, high = (error_text(value, 3, is_scientific) for value in three)
    return f"{at} ({low} to {high})"


def error_with_interval(middle: Middle) -> str:
    """Return a mean with as many digits as two of its interval need."""
    exponent = _exponent(middle.at) if _is_scientific(middle.at) else 0
    at, half = middle.at / 10.0**exponent, middle.half / 10.0**exponent
    # Beyond four digits of the mean nobody reads on.
    most = max(0, 3 - _exponent(at))
    digits = min(most, max(0, 1 - _exponent(half))) if half else min(most, 2 - _exponent(at))
    ending = f"e{exponent:+03d}" if exponent else ""
    return f"{at:.{digits}f}{ending} ± {half:.{digits}f}{ending}"


def factor_text(factor: float) -> str:
    return f"{factor:.1f}" if factor < 1000 else f"{factor:.0f}"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 10 else error_text(ratio, 2)


def share_text(share: float) -> str:
    """Return a share in percent; small ones keep two digits that say something."""
    percent = 100 * share
    return f"{percent:.1f}" if percent >= 1 or not percent else error_text(percent, 2)


def _is_scientific(value: float) -> bool:
    return bool(value) and not 1e-3 <= abs(value) < 1e5


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
