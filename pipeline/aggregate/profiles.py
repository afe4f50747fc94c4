"""One row per labeler: how many reports, how accurate, how well calibrated, how much in agreement with the others.

Computed from the sparse reports, so that thousands of labelers with a handful of reports each cost no dense matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.aggregate.patterns import mean_of_others

_Z = 1.959963984540054
_BINS = 10


@dataclass(frozen=True)
class Profiles:
    """Columns over labelers, each of shape ``(N,)``; NaN where a labeler has too few reports for the figure."""

    n_reports: IntArray
    n_scored: IntArray
    """Reports on pairs whose outcome was revealed; what follows up to the calibration error is measured on them."""
    accuracy: FloatArray
    accuracy_low: FloatArray
    accuracy_high: FloatArray
    brier: FloatArray
    brier_low: FloatArray
    brier_high: FloatArray
    calibration_error: FloatArray
    agreement: FloatArray
    """1 - mean distance to the mean report of the others."""


def labeler_profiles(annotations: Annotations, revealed: FloatArray) -> Profiles:
    """Measure every labeler on the revealed outcomes, shape ``(T,)``, NaN where not revealed."""
    N, who = annotations.n_labelers, annotations.labeler
    outcome = revealed[annotations.round_of_report]
    scored = ~np.isnan(outcome)
    own, report, y = who[scored], annotations.report[scored], outcome[scored]
    n = np.bincount(own, minlength=N)
    right = np.where(report == 0.5, 0.5, (report > 0.5) == (y > 0.5))
    accuracy = _mean(own, right, n)
    accuracy_low, accuracy_high = wilson(accuracy, n)
    loss = (report - y) ** 2
    brier = _mean(own, loss, n)
    brier_low, brier_high = _plus_four(n, *(np.bincount(own, x, N).astype(float) for x in (loss, loss**2)))
    others = mean_of_others(annotations)
    shared = ~np.isnan(others)
    distance = np.abs(annotations.report - others)[shared]
    return Profiles(
        n_reports=np.bincount(who, minlength=N),
        n_scored=n,
        accuracy=accuracy,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        brier=brier,
        brier_low=np.minimum(brier_low, brier),
        brier_high=brier_high,
        calibration_error=_calibration_error(own, report, y, n),
        agreement=1.0 - _mean(who[shared], distance, np.bincount(who[shared], minlength=N)),
    )


def wilson(share: FloatArray, n: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return Wilson's 95 % interval of shares out of ``n`` (NaN where n is 0).

    Examples:
        >>> low, high = wilson(np.array([0.9]), np.array([10]))
        >>> round(float(low[0]), 3), round(float(high[0]), 3)
        (0.596, 0.982)
    """
    count = np.where(n > 0, n, np.nan)
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def calibration_bins(report: FloatArray, outcome: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean report, frequency of "A better" and number of reports in each of ten bins that is not empty."""
    bins = _bin(report)
    n = np.bincount(bins, minlength=_BINS).astype(np.float64)
    kept = n > 0
    stated = np.bincount(bins, report, _BINS)[kept] / n[kept]
    happened = np.bincount(bins, outcome, _BINS)[kept] / n[kept]
    return stated, happened, n[kept]


def _bin(report: FloatArray) -> IntArray:
    return np.minimum((report * _BINS).astype(np.int64), _BINS - 1)


def _calibration_error(own: IntArray, report: FloatArray, y: FloatArray, n: IntArray) -> FloatArray:
    """Return sum over bins of |sum of (report - outcome)| / n per labeler."""
    cell = own * _BINS + _bin(report)
    gaps = np.abs(np.bincount(cell, report - y, len(n) * _BINS)).reshape(-1, _BINS).sum(axis=1)
    return gaps / np.where(n > 0, n, np.nan)


def _mean(group: IntArray, values: FloatArray, n: IntArray) -> FloatArray:
    return np.bincount(group, values, len(n)) / np.where(n > 0, n, np.nan)


def _plus_four(n: IntArray, total: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a 95 % interval for the mean of losses in [0, 1], NaN without any.

    Two losses of 0 and two of 1 are added (Agresti and Coull's plus-four rule, extended from shares to means): seven
    losses of 0 then give [0, 0.41] and not [0, 0].
    """
    count = np.where(n > 0, n, np.nan) + 4.0
    mean = (total + 2.0) / count
    half = _Z * np.sqrt(np.maximum((squares + 2.0) / count - mean**2, 0.0) / count)
    return np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)
