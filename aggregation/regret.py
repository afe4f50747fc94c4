"""Regret against the best fixed labeler."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aggregation.base import FloatArray, check_outcomes, check_reports


def regret(soft_labels: ArrayLike, reports: ArrayLike, outcomes: ArrayLike) -> FloatArray:
    """Return cumulative regret in squared loss against the labeler who is best over the whole campaign.

    R_t = sum_{s <= t, outcome revealed, i* present} (q_s - y_s)^2 - (r_{s i*} - y_s)^2, where i* has the largest regret
    at the end: with absences, each labeler is compared over the rounds in which it was present (sleeping experts).

    Args:
        soft_labels: q_t as stated before the outcomes, shape ``(T,)``.
        reports: shape ``(T, N)``, NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, NaN where not known: such rounds add nothing.

    Returns:
        Shape ``(T,)``.

    >>> regret([0.5, 0.5], [[1.0, 0.0], [1.0, 0.0]], [1, 1])
    array([0.25, 0.5 ])
    """
    matrix = check_reports(reports)
    known = check_outcomes(outcomes, len(matrix))
    labels = np.asarray(soft_labels, dtype=np.float64)
    if labels.shape != known.shape:
        raise ValueError(f"soft_labels must have shape {known.shape} to match the outcomes, got {labels.shape}")
    if not ((labels >= 0) & (labels <= 1)).all():
        raise ValueError("soft_labels must be in [0, 1]")
    if matrix.shape[1] == 0:
        raise ValueError("regret needs at least one labeler to compare with")
    loss = (labels - known) ** 2
    differences = np.nan_to_num(loss[:, None] - (matrix - known[:, None]) ** 2)
    best = int(np.argmax(differences.sum(axis=0)))
    return np.cumsum(differences[:, best])
