"""Who agrees with whom in a panel."""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.labelers.recorded.table import Annotations

_MIN_COMMON = 5
_SHOWN = 30
_CONSIDERED = 60
_ROUNDS = 50_000


def agreement_matrix(annotations: Annotations) -> tuple[IntArray, FloatArray]:
    """Return the most active labelers, grouped by similarity, and 1 - mean |r_i - r_j| on their common pairs.

    Returns:
        The labelers' indices, shape ``(K,)`` with K <= 30, and the agreement, shape ``(K, K)``, NaN below 5 common
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


def _grouped(agreement: FloatArray) -> IntArray:
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
