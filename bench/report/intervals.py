"""The stated interval of every mean: 95 %, Student's t."""

import pandas as pd

CONFIDENCE = 0.95


def half_width(sd: "pd.Series[float]", n: "pd.Series[int]") -> "pd.Series[float]":
    """Return half of the 95 % t interval of means; missing for a single value."""
    from scipy.stats import t

    several = n.where(n > 1)
    quantile = pd.Series(t.ppf((1 + CONFIDENCE) / 2, several - 1), index=n.index)
    return quantile * sd / several**0.5
