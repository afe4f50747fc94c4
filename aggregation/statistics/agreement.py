"""Krippendorff's alpha of a panel, from sparse reports."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics.checks import check_groups
from truthful_rlhf.aggregation.statistics.intervals import percentile_interval

_NO_SPREAD = 1e-12


def krippendorff_alpha(
    reports: ArrayLike, rounds: ArrayLike, n_rounds: int, rng: np.random.Generator, n_resamples: int = 1000
) -> tuple[float, float, float]:
    """Return Krippendorff's alpha for interval data with its 95 % bootstrap interval over rounds.

    Alpha is 1 - D_o / D_e with squared differences. For a round with m >= 2 reports, the sum of squared differences
    over ordered pairs of reports is 2 (m sum r^2 - (sum r)^2), so three sums per round do, and no matrix is needed:

        D_o = 1/n sum_t 2 (m_t S2_t - S1_t^2) / (m_t - 1),   D_e = 2 (n S2 - S1^2) / (n (n - 1)).

    Args:
        reports: all reports, shape ``(n_reports,)``; alpha does not change with their scale.
        rounds: the round of every report, shape ``(n_reports,)``, in 0 to ``n_rounds`` - 1.
        n_rounds: number of rounds; one with fewer than two reports counts nowhere.
        rng: draws rounds with replacement.
        n_resamples: number of bootstrap resamples, >= 1.

    Returns:
        Alpha and the ends of its interval: 1 is full agreement, 0 is chance, less is systematic disagreement. NaN if
        no round has two reports, or if all reports are equal (alpha is then 0 / 0).

    References:
        Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).

    Examples:
        >>> krippendorff_alpha([0.2, 0.2, 0.9, 0.9], [0, 0, 1, 1], 2, np.random.default_rng(0), 1)[0]
        1.0
    """
    values = np.asarray(reports, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"reports must be finite: report {int(np.argmin(np.isfinite(values)))} is not")
    where = check_groups(rounds, len(values), n_rounds)
    counts, first, second = (np.bincount(where, x, n_rounds) for x in (np.ones(len(values)), values, values**2))
    use = counts >= 2
    m, first, second = counts[use], first[use], second[use]
    if not len(m):
        return np.nan, np.nan, np.nan
    sums = np.stack([m, first, second, 2.0 * (m * second - first**2) / (m - 1.0)])
    resamples = np.empty(n_resamples)
    for k in range(n_resamples):
        resamples[k] = _alpha(sums @ np.bincount(rng.integers(len(m), size=len(m)), minlength=len(m)))
    return (_alpha(sums.sum(axis=1)), *percentile_interval(resamples))


def _alpha(sums: FloatArray) -> float:
    n, first, second, within = sums
    expected = 2.0 * (n * second - first**2) / (n - 1.0)
    return float(1.0 - within / expected) if expected > _NO_SPREAD else np.nan
