"""Statistics of soft labels and panels: growth of regret, accuracy, calibration, agreement.

Every interval is a bootstrap percentile interval whose resamples come from the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from truthful_rlhf.aggregation.base import FloatArray, check_outcomes, check_reports
from truthful_rlhf.aggregation.hindsight import check_soft_labels

_SMALLEST_CHANCE = 1e-12


def percentile_interval(resamples: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of bootstrap resamples that holds a share ``level``; NaN if all of them are NaN."""
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
) -> NDArray[np.bool_]:
    """Return whether at least a share ``tail`` of top - r * bottom is <= 0 and as much >= 0, for every r tried."""
    rising, falling = np.sort(ratios[bottom > 0]), np.sort(ratios[bottom < 0])
    none = top[bottom == 0]
    below = np.searchsorted(rising, tried, "right") + len(falling) - np.searchsorted(falling, tried, "left")
    above = len(rising) - np.searchsorted(rising, tried, "left") + np.searchsorted(falling, tried, "right")
    below, above = below + (none <= 0).sum(), above + (none >= 0).sum()
    smallest = tail * len(top)
    kept: NDArray[np.bool_] = (below >= smallest) & (above >= smallest)
    return kept


def log_log_slope(
    horizons: ArrayLike, regrets: ArrayLike, rng: np.random.Generator, n_resamples: int = 2000
) -> tuple[float, float, float]:
    """Fit log(mean regret) = slope * log(T) + constant; return the slope and its 95 % interval over seeds.

    A slope of 1 is linear regret, 1/2 is sqrt(T). Runs are averaged before the logarithm, so that single runs with
    a regret of zero or less are allowed; resamples with a mean of zero or less are left out.

    Args:
        horizons: T > 0, shape ``(h,)``, at least two different ones.
        regrets: regret by run (rows) and horizon (columns), shape ``(n_runs, h)`` or ``(h,)``; column means > 0.
        rng: draws runs with replacement.
        n_resamples: number of bootstrap resamples, >= 1.

    Examples:
        >>> slope, low, high = log_log_slope([10, 100], [[1.0, 10.0], [1.0, 10.0]], np.random.default_rng(0))
        >>> round(slope, 6)
        1.0
    """
    lengths = np.asarray(horizons, dtype=np.float64)
    runs = np.atleast_2d(np.asarray(regrets, dtype=np.float64))
    if lengths.ndim != 1 or len(np.unique(lengths)) < 2 or not (lengths > 0).all():
        raise ValueError(f"a slope needs at least two different horizons > 0, got {np.unique(lengths).tolist()}")
    if runs.shape[1:] != lengths.shape:
        raise ValueError(f"regrets must have one column per horizon ({len(lengths)}), got shape {runs.shape}")
    means = runs.mean(axis=0)
    if not (means > 0).all():
        raise ValueError(f"mean regrets must be > 0 for a log-log slope, got {means.tolist()}")
    resampled = runs[rng.integers(len(runs), size=(n_resamples, len(runs)))].mean(axis=1)
    resampled = resampled[(resampled > 0).all(axis=1)]
    slopes = _slopes(lengths, resampled) if len(resampled) else np.array([np.nan])
    return (float(_slopes(lengths, means[None])[0]), *percentile_interval(slopes))


def _slopes(lengths: FloatArray, means: FloatArray) -> FloatArray:
    """Return least-squares slopes of log(means), shape ``(m, h)``, in log(lengths), shape ``(m,)``."""
    centred = np.log(lengths) - np.log(lengths).mean()
    slopes: FloatArray = np.log(means) @ centred / (centred @ centred)
    return slopes


def _known(soft_labels: ArrayLike, outcomes: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return soft labels and outcomes of the rounds with an outcome."""
    vector = check_outcomes(outcomes, len(np.atleast_1d(np.asarray(outcomes))))
    stated = check_soft_labels(soft_labels, len(vector))
    known = ~np.isnan(vector)
    return stated[known], vector[known]


def brier(soft_labels: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean of (q - y)^2 over the rounds with an outcome: 0 is perfect, 0.25 is always saying 1/2."""
    stated, known = _known(soft_labels, outcomes)
    return float(np.mean((stated - known) ** 2)) if len(known) else np.nan


def log_loss(soft_labels: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean of -log P(outcome) in nats, with chances kept 1e-12 away from 0 and 1."""
    stated, known = _known(soft_labels, outcomes)
    chance = np.clip(np.where(known == 1.0, stated, 1.0 - stated), _SMALLEST_CHANCE, 1.0)
    return float(-np.mean(np.log(chance))) if len(known) else np.nan


def accuracy(soft_labels: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the share of rounds with the soft label on the outcome's side of 1/2; exactly 1/2 counts half."""
    stated, known = _known(soft_labels, outcomes)
    hits = np.where(stated == 0.5, 0.5, (stated > 0.5) == (known == 1.0))
    return float(hits.mean()) if len(known) else np.nan


@dataclass(frozen=True)
class Reliability:
    """A reliability table: soft labels in equal bins of [0, 1], against how often A was better. NaN in empty bins.

    Attributes:
        edges: of the bins, shape ``(n_bins + 1,)``.
        counts: rounds per bin, shape ``(n_bins,)``.
        stated: mean soft label per bin, shape ``(n_bins,)``.
        observed: share of outcomes 1 per bin, shape ``(n_bins,)``.
        ece: expected calibration error, sum_b (count_b / n) |stated_b - observed_b|; NaN without outcomes.
    """

    edges: FloatArray
    counts: FloatArray
    stated: FloatArray
    observed: FloatArray
    ece: float


def reliability(soft_labels: ArrayLike, outcomes: ArrayLike, n_bins: int = 10) -> Reliability:
    """Return the reliability table and the expected calibration error over ``n_bins`` >= 1 equal bins.

    Examples:
        >>> table = reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], n_bins=2)
        >>> table.observed.tolist(), round(table.ece, 3)
        ([0.0, 0.5], 0.25)
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be >= 1, got {n_bins}")
    stated, known = _known(soft_labels, outcomes)
    bins = np.minimum((stated * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins).astype(np.float64)
    sums = np.full((2, n_bins), np.nan)
    for row, values in zip(sums, (stated, known), strict=True):
        np.divide(np.bincount(bins, values, n_bins), counts, out=row, where=counts > 0)
    gaps = np.abs(sums[0] - sums[1])
    ece = float(np.nansum(counts * gaps) / counts.sum()) if len(known) else np.nan
    return Reliability(np.linspace(0.0, 1.0, n_bins + 1), counts, sums[0], sums[1], ece)


def krippendorff_alpha(
    reports: ArrayLike, rng: np.random.Generator, n_resamples: int = 200, level_of_measurement: str = "interval"
) -> tuple[float, float, float]:
    """Return Krippendorff's alpha of a panel with its 95 % bootstrap interval over pairs.

    Args:
        reports: shape ``(T, N)``, NaN where a labeler did not judge.
        rng: draws pairs with replacement.
        n_resamples: number of bootstrap resamples; the ``krippendorff`` package computes each of them.
        level_of_measurement: ``interval`` (squared differences of reports) or ``nominal``.

    Returns:
        Alpha and interval: 1 full agreement, 0 chance; NaN if fewer than two reports can be compared or all reports
        are equal (alpha is 0 / 0).
    """
    matrix = check_reports(reports)
    comparable = matrix[(~np.isnan(matrix)).sum(axis=1) >= 2]
    if len(comparable) == 0:
        return np.nan, np.nan, np.nan
    resamples = np.array(
        [
            _alpha(comparable[rng.integers(len(comparable), size=len(comparable))], level_of_measurement)
            for _ in range(n_resamples)
        ]
    )
    return (_alpha(comparable, level_of_measurement), *percentile_interval(resamples))


def _alpha(reports: FloatArray, level_of_measurement: str) -> float:
    import krippendorff

    values = reports[~np.isnan(reports)]
    if values.min() == values.max():
        return np.nan
    return float(krippendorff.alpha(reports.T, level_of_measurement=level_of_measurement))
