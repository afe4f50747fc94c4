"""Intervals: of bootstrap resamples, of shares, and of means."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.statistics.checks import check_groups, check_weights, weighted_mean

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: estimates +- Z standard errors are 95 % intervals."""


def percentile_interval(resamples: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of bootstrap resamples that holds a share ``level``; NaN if all of them are NaN.

    Args:
        resamples: of the estimate, shape ``(n_resamples,)``; NaN (a resample without an estimate) is left out.
        level: in (0, 1).

    References:
        Efron, Nonparametric standard errors and confidence intervals, Canadian Journal of Statistics 9 (1981).
    """
    if np.isnan(resamples).all():
        return np.nan, np.nan
    low, high = np.nanquantile(resamples, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


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


def effective_size(weights: ArrayLike, groups: ArrayLike, n_groups: int) -> FloatArray:
    """Return the effective number of observations of every group, (sum w)^2 / sum w^2: n if all weights are equal.

    The n to give to `wilson_interval` for a weighted share: unequal weights make a mean as uncertain as one of fewer
    observations.

    Args:
        weights: of the observations, shape ``(n,)``, >= 0.
        groups: the group of every observation, shape ``(n,)``, in 0 to ``n_groups`` - 1.
        n_groups: number of groups, >= 1.

    Returns:
        Shape ``(n_groups,)``, at most the number of observations; 0 for a group without weight.

    References:
        Kish, Survey Sampling (1965).

    Examples:
        >>> effective_size([1.0, 1.0, 3.0, 1.0], [0, 0, 1, 1], 2).tolist()
        [2.0, 1.6]
    """
    heavy = check_weights(weights, len(np.atleast_1d(np.asarray(weights))))
    group = check_groups(groups, len(heavy), n_groups)
    total, squares = (np.bincount(group, x, n_groups) for x in (heavy, heavy**2))
    return total**2 / np.where(squares > 0.0, squares, 1.0)


def wilson_interval(proportion: ArrayLike, n: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return Wilson's 95 % score intervals of proportions that were observed in n trials each.

    (s + z^2 / 2n +- z sqrt(s (1 - s) / n + z^2 / 4n^2)) / (1 + z^2 / n) with z = 1.96, cut off at 0 and 1. Unlike
    s +- z standard errors it does not take ten right of ten for certainty.

    Args:
        proportion: s, any shape, in [0, 1].
        n: number of trials, >= 0, of the proportion's shape (or one for all); an `effective_size` for weighted ones.

    Returns:
        Low and high ends, of the proportion's shape; NaN where n is 0.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Examples:
        >>> low, high = wilson_interval([1.0, 0.9], 10)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.722, 0.596], [1.0, 0.982])
    """
    given, trials = np.asarray(proportion, dtype=np.float64), np.asarray(n, dtype=np.float64)
    count = np.where(trials > 0, trials, np.nan)
    centre = (given + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(given * (1 - given) / count + Z**2 / (4 * count**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def bounded_mean_interval(
    values: ArrayLike, groups: ArrayLike, n_groups: int, weights: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return 95 % intervals for the means of groups of values in [0, 1], such as the Brier score of every labeler.

    Two values of 0 and two of 1 are added to each group: Agresti and Coull's plus-four rule, extended from shares to
    means. Seven losses of 0 then give [0, 0.41] and not [0, 0].

    Args:
        values: shape ``(n,)``, in [0, 1].
        groups: the group of every value, shape ``(n,)``, in 0 to ``n_groups`` - 1.
        n_groups: number of groups, >= 1.
        weights: of the values, shape ``(n,)``, >= 0. A group counts as many values as its `effective_size`.

    Returns:
        Low and high ends, each of shape ``(n_groups,)``, in [0, 1]; NaN for a group without values.

    References:
        Agresti and Coull, Approximate is better than "exact", The American Statistician 52 (1998).
    """
    vector = np.asarray(values, dtype=np.float64)
    group = check_groups(groups, len(vector), n_groups)
    if weights is None:
        n = np.bincount(group, minlength=n_groups).astype(np.float64)
        heavy = np.ones(len(vector))
    else:
        heavy = check_weights(weights, len(vector))
        n = effective_size(heavy, group, n_groups)
        total = np.bincount(group, heavy, n_groups)
        heavy = heavy * (n / np.where(total > 0.0, total, 1.0))[group]  # so that they add up to n
    count = np.where(n > 0, n, np.nan) + 4.0
    mean = (np.bincount(group, heavy * vector, n_groups) + 2.0) / count
    squares = (np.bincount(group, heavy * vector**2, n_groups) + 2.0) / count
    half = Z * np.sqrt(np.maximum(squares - mean**2, 0.0) / count)
    return np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)


def mean_interval(values: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float, float]:
    """Return the mean of many values with its normal 95 % interval, mean +- 1.96 standard errors.

    The squared standard error is n / (n - 1) sum w^2 (x - mean)^2 / (sum w)^2, by Taylor's linearisation of the
    weighted mean; with equal weights that is the sample variance over n.

    Args:
        values: shape ``(n,)``, n >= 1; independent of one another.
        weights: of the values, shape ``(n,)``, >= 0, not all 0.

    Returns:
        The mean and the two ends. An interval for few values, or for a share near 0 or 1, is too narrow.

    References:
        Sarndal, Swensson and Wretman, Model Assisted Survey Sampling (1992).

    Examples:
        >>> [round(x, 3) for x in mean_interval([0.0, 1.0, 0.0, 1.0])]
        [0.5, -0.066, 1.066]
    """
    vector = np.asarray(values, dtype=np.float64)
    heavy = None if weights is None else check_weights(weights, len(vector))
    mean, less_one = weighted_mean(vector, heavy), max(len(vector) - 1, 1)
    if heavy is None:
        half = float(Z * vector.std() / np.sqrt(less_one))
    else:
        squares = float((heavy**2 * (vector - mean) ** 2).sum() / heavy.sum() ** 2)
        half = float(Z * np.sqrt(squares * len(vector) / less_one))
    return mean, mean - half, mean + half
