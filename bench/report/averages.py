"""Curves of several seeds as one: at every x a middle and how far the seeds spread."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report.evidence import Curve
from bench.report.intervals import half_width
from bench.report.tables.numbers import Middle


def middles_of(
    curves: Sequence[Curve], name: str, column: str, by_median: bool
) -> tuple[int, list[tuple[float, Middle]]]:
    """Return the number of seeds, and x with the middle over the seeds."""
    trials = [c for c in curves if column in c.columns]
    if not trials:
        return 0, []
    xs, values = _on_one_grid(trials, name, column)
    table = pd.DataFrame(values, columns=pd.Index(xs)).dropna(axis=1, how="all")
    if by_median:
        ends = zip(table.median(), table.min(), table.max(), strict=True)
        middles = [Middle(float(at), float(low), float(high), True) for at, low, high in ends]
    else:
        halves = half_width(table.std(ddof=1), table.count())
        pairs = zip(table.mean(), halves, strict=True)
        middles = [Middle(float(m), float(m - h), float(m + h)) for m, h in pairs]
    return len(trials), list(zip((float(x) for x in table.columns), middles, strict=True))


def _on_one_grid(
    curves: Sequence[Curve], name: str, column: str
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """Return x and the values (trials, x); where x differ, on all x that lie in every range."""
    grids = [c.columns[name] for c in curves]
    if len(set(grids)) == 1:
        return grids[0], np.array([c.columns[column] for c in curves])
    low, high = max(g[0] for g in grids), min(g[-1] for g in grids)
    xs = tuple(sorted({x for g in grids for x in g if low <= x <= high}))
    rows = [np.interp(xs, g, c.columns[column]) for g, c in zip(grids, curves, strict=True)]
    return xs, np.array(rows)
