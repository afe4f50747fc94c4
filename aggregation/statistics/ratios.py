"""The interval of a ratio whose denominator may be near 0, such as that of a normalised alignment gap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.statistics.intervals import percentile_interval


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, estimate: float, level: float = 0.95
) -> tuple[float, float]:
    """Return a confidence interval for a ratio of two means whose denominator may be near 0; its ends may be infinite.

    A ratio r is kept if 0 lies in the percentile interval of (numerator - r * denominator): Fieller's set (1954) with
    bootstrap resamples in place of the normal distribution. Where all denominators are positive that is the percentile
    interval of the ratios. Otherwise no resample is left out: one with a denominator of 0 or less still says on which
    side of 0 that difference falls. Where at least (1 - level) / 2 of them are so, the data cannot tell the denominator
    from 0, and the set has no bound on one side or on both. It may then have a second part, of ratios with a negative
    denominator; what is returned is the part that holds the estimate. No bounds are given where no ratio fits.

    Args:
        numerators: paired resamples, shape ``(m,)``.
        denominators: shape ``(m,)``.
        estimate: the ratio of the means themselves.
        level: in (0, 1).

    References:
        von Luxburg and Franz, "A geometric approach to confidence sets for ratios" (arXiv 0711.0198).

    Examples:
        >>> ratio_interval([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], 1.0, level=0.5)
        (0.75, 1.25)
        >>> ratio_interval([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 4.0, -1.0], 0.5, level=0.6)
        (0.25, inf)
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if (bottom > 0).all():
        return percentile_interval(top / bottom, level)
    ratios = np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)
    ends = np.unique(ratios[bottom != 0])
    if not len(ends):
        return -np.inf, np.inf
    between = np.concatenate([[ends[0] - 1.0], (ends[:-1] + ends[1:]) / 2.0, [ends[-1] + 1.0]])
    tried = np.empty(2 * len(ends) + 1)
    tried[::2], tried[1::2] = between, ends  # the set changes at the resamples' ratios only, and holds its ends
    kept = _in_fieller_set(tried, ratios, top, bottom, (1.0 - level) / 2.0)
    if not kept.any():
        return -np.inf, np.inf
    at = np.flatnonzero(kept)[np.abs(tried[kept] - estimate).argmin()]
    low, high = at, at
    while low > 0 and kept[low - 1]:
        low -= 1
    while high < len(tried) - 1 and kept[high + 1]:
        high += 1
    return (-np.inf if low == 0 else float(tried[low])), (np.inf if high == len(tried) - 1 else float(tried[high]))


def _in_fieller_set(
    tried: FloatArray, ratios: FloatArray, top: FloatArray, bottom: FloatArray, tail: float
) -> BoolArray:
    """Return whether at least a share ``tail`` of top - r * bottom is <= 0 and as much >= 0, for every r tried."""
    rising, falling = np.sort(ratios[bottom > 0]), np.sort(ratios[bottom < 0])
    none = top[bottom == 0]
    below = np.searchsorted(rising, tried, "right") + len(falling) - np.searchsorted(falling, tried, "left")
    above = len(rising) - np.searchsorted(rising, tried, "left") + np.searchsorted(falling, tried, "right")
    below, above = below + (none <= 0).sum(), above + (none >= 0).sum()
    smallest = tail * len(top)
    kept: BoolArray = (below >= smallest) & (above >= smallest)
    return kept
