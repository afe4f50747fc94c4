"""Agreement of a panel: Krippendorff's alpha with an interval, and who agrees with whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from truthful_rlhf.labelers.recorded.table import Annotations

FloatArray = NDArray[np.float64]

_MIN_COMMON = 5
_SHOWN = 30
_CONSIDERED = 60
_ROUNDS = 50_000


def krippendorff_alpha(
    annotations: Annotations, rng: np.random.Generator, n_resamples: int = 1000
) -> tuple[float, float, float]:
    """Return Krippendorff's alpha for interval data with its 95 % bootstrap interval over pairs; NaN if undefined.

    Alpha is 1 - D_o / D_e with squared differences. For a pair with m >= 2 reports, the sum of squared differences over
    ordered pairs of reports is 2 (m sum r^2 - (sum r)^2), so D_o needs three sums per pair and no matrix:

        D_o = 1/n sum_t 2 (m_t S2_t - S1_t^2) / (m_t - 1),   D_e = 2 (n S2 - S1^2) / (n (n - 1)).
    """
    rounds, T = annotations.round_of_report, annotations.n_pairs
    m = np.diff(annotations.start).astype(np.float64)
    first = np.bincount(rounds, annotations.report, T)
    second = np.bincount(rounds, annotations.report**2, T)
    use = m >= 2
    m, first, second = m[use], first[use], second[use]
    if not len(m):
        return np.nan, np.nan, np.nan
    sums = np.stack([m, first, second, 2.0 * (m * second - first**2) / (m - 1.0)])
    resamples = np.empty(n_resamples)
    for k in range(n_resamples):
        resamples[k] = _alpha(sums @ np.bincount(rng.integers(len(m), size=len(m)), minlength=len(m)))
    low, high = np.nanquantile(resamples, [0.025, 0.975]) if np.isfinite(resamples).any() else (np.nan, np.nan)
    return _alpha(sums.sum(axis=1)), float(low), float(high)


def _alpha(sums: FloatArray) -> float:
    n, first, second, within = sums
    expected = 2.0 * (n * second - first**2) / (n - 1.0)
    return float(1.0 - within / expected) if expected > 1e-12 else np.nan


def agreement_matrix(annotations: Annotations) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the most active labelers, grouped by similarity, and 1 - mean |r_i - r_j| on their common pairs.

    Returns:
        The labelers' indices, shape ``(K,)`` with K <= 40, and the agreement, shape ``(K, K)``, NaN below 5 common
    pairs.
    """
    activity = np.bincount(annotations.labeler, minlength=annotations.n_labelers)
    active = np.argsort(-activity, kind="stable")[:_CONSIDERED]
    reports = annotations.matrix(np.arange(min(annotations.n_pairs, _ROUNDS)), active)
    agreement = np.full((len(active), len(active)), np.nan)
    for i in range(len(active)):
        distance = np.abs(reports - reports[:, i : i + 1])
        common = (~np.isnan(distance)).sum(axis=0)
        enough = common >= _MIN_COMMON
        enough[i] = False
        agreement[i, enough] = 1.0 - np.nansum(distance[:, enough], axis=0) / common[enough]
    partners = (~np.isnan(agreement)).sum(axis=1)
    shown = np.argsort(-partners, kind="stable")[:_SHOWN]
    shown = shown[partners[shown] > 0]
    agreement = agreement[np.ix_(shown, shown)]
    order = _grouped(agreement)
    return active[shown[order]], agreement[np.ix_(order, order)]


def _grouped(agreement: FloatArray) -> NDArray[np.int64]:
    """Return an order of the labelers that puts similar ones side by side (average linkage)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    k = len(agreement)
    if k < 3:
        return np.arange(k)
    known = agreement[~np.isnan(agreement) & ~np.eye(k, dtype=bool)]
    distance = 1.0 - np.where(np.isnan(agreement), known.mean() if len(known) else 0.5, agreement)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.round((distance + distance.T) / 2, 12)), "average")
    return leaves_list(tree).astype(np.int64)
