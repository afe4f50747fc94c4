"""Calibration: whether things that were given a probability of 0.8 happen four times in five."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.statistics.checks import against_probabilities, check_groups

N_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram that are not empty, in rising order, each array of shape ``(n,)``.

    Attributes:
        stated: mean soft label of the bin, in [0, 1].
        observed: mean target of the bin: how often A was better, in [0, 1].
        count: observations in the bin, or the sum of their weights.
    """

    stated: FloatArray
    observed: FloatArray
    count: FloatArray


def reliability(
    soft_labels: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, *, n_bins: int = N_BINS
) -> Reliability:
    """Return the reliability diagram over equal bins of [0, 1], the last one closed.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        targets: outcomes or probabilities, shape ``(T,)``, in [0, 1] or NaN.
        weights: of the rounds, shape ``(T,)``, >= 0.
        n_bins: number of bins, >= 1.

    References:
        DeGroot and Fienberg, The comparison and evaluation of forecasters, The Statistician 32 (1983).

    Examples:
        >>> table = reliability([0.1, 0.3, 0.7, 0.9], [0, 1, 1, 1], n_bins=2)
        >>> table.stated.tolist(), table.observed.tolist(), table.count.tolist()
        ([0.2, 0.8], [0.5, 1.0], [2.0, 2.0])
    """
    stated, known, heavy = against_probabilities(soft_labels, targets, weights)
    bins = _bin(stated, n_bins)
    counts = np.bincount(bins, heavy, n_bins).astype(np.float64)
    kept = counts > 0
    sums = (np.bincount(bins, x if heavy is None else heavy * x, n_bins)[kept] for x in (stated, known))
    mean_stated, mean_known = (total / counts[kept] for total in sums)
    return Reliability(mean_stated, mean_known, counts[kept])


def calibration_error(
    soft_labels: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, *, n_bins: int = N_BINS
) -> float:
    """Return the expected calibration error: sum_b (w_b / w) |mean stated - mean target of bin b|.

    Biased upwards where bins hold few observations: chance alone then separates the two means.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        targets: outcomes or probabilities, shape ``(T,)``, in [0, 1] or NaN.
        weights: of the rounds, shape ``(T,)``, >= 0.
        n_bins: number of equal bins, >= 1.

    Returns:
        In [0, 1], lower is better; NaN without targets.

    References:
        Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.

    Examples:
        >>> round(calibration_error([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], n_bins=2), 3)
        0.25
    """
    everything = np.zeros(len(np.atleast_1d(np.asarray(targets))), dtype=np.int64)
    return float(calibration_errors(soft_labels, targets, everything, 1, weights, n_bins=n_bins)[0])


def calibration_errors(
    soft_labels: ArrayLike,
    targets: ArrayLike,
    groups: ArrayLike,
    n_groups: int,
    weights: ArrayLike | None = None,
    *,
    n_bins: int = N_BINS,
) -> FloatArray:
    """Return `calibration_error` of every group, such as of every labeler, shape ``(n_groups,)``.

    Computed as sum_b |sum over bin b of w (q - p)| / sum w, which is the same number.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        targets: outcomes or probabilities, shape ``(T,)``, in [0, 1] or NaN.
        groups: the group of every observation, shape ``(T,)``, in 0 to ``n_groups`` - 1.
        n_groups: number of groups, >= 1.
        weights: of the observations, shape ``(T,)``, >= 0.
        n_bins: number of equal bins, >= 1.
    """
    stated, known, heavy = against_probabilities(soft_labels, targets, weights)
    with_target = ~np.isnan(np.atleast_1d(np.asarray(targets, dtype=np.float64)))
    group = check_groups(groups, len(with_target), n_groups)[with_target]
    gaps = stated - known if heavy is None else heavy * (stated - known)
    by_bin = np.bincount(group * n_bins + _bin(stated, n_bins), gaps, n_groups * n_bins)
    total = np.bincount(group, heavy, n_groups)
    return np.abs(by_bin).reshape(n_groups, n_bins).sum(axis=1) / np.where(total > 0, total, np.nan)


def _bin(stated: FloatArray, n_bins: int) -> IntArray:
    if n_bins < 1:
        raise ValueError(f"n_bins must be >= 1, got {n_bins}")
    return np.minimum((stated * n_bins).astype(np.int64), n_bins - 1)
