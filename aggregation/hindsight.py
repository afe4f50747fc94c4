"""The best labeler in hindsight, and the regret against it.

For labeler i over the rounds in which it judged and the outcome is known, with squared loss,

    R_i(t) = sum_{s <= t, i present} ((q_s - y_s)^2 - (r_si - y_s)^2),    regret after t rounds = max_i R_i(t).

With everybody always present this is the loss of the soft labels minus the loss of the best labeler. With absences a
labeler is compared with the soft labels of its own rounds only, as in the bound of
``aggregation.rules.online_weighted``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, check_outcomes, check_reports, row_blocks


def check_soft_labels(soft_labels: ArrayLike, n_rounds: int) -> FloatArray:
    """Return soft labels as floats of shape ``(T,)`` in [0, 1], or raise ``ValueError``."""
    vector = np.asarray(soft_labels, dtype=np.float64)
    if vector.shape != (n_rounds,):
        raise ValueError(f"soft_labels must have shape ({n_rounds},) to match the outcomes, got {vector.shape}")
    bad = ~((vector >= 0.0) & (vector <= 1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"soft labels must be in [0, 1]: round {row} has {float(vector[row])!r}")
    return vector


def regret(soft_labels: ArrayLike, reports: ArrayLike, outcomes: ArrayLike) -> FloatArray:
    """Return the cumulative regret against the best fixed labeler, shape ``(T,)``; the last entry is the total.

    Args:
        soft_labels: q_t in [0, 1], shape ``(T,)``.
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 0, 1 or NaN; a round without an outcome adds nothing.

    Examples:
        >>> regret([0.5, 0.5], [[1.0, 0.0], [1.0, 1.0]], [1, 1]).tolist()
        [0.25, 0.5]
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    stated = check_soft_labels(soft_labels, len(matrix))
    result = np.empty(len(matrix))
    total = np.zeros(matrix.shape[1])
    for rows in row_blocks(*matrix.shape):
        outcome = vector[rows, None]
        excess = (stated[rows, None] - outcome) ** 2 - (matrix[rows] - outcome) ** 2
        sums = total + np.cumsum(np.where(np.isnan(excess), 0.0, excess), axis=0)
        result[rows] = sums.max(axis=1)
        total = sums[-1]
    return result


def best_labeler(reports: ArrayLike, outcomes: ArrayLike) -> int:
    """Return the labeler with the smallest mean squared loss over its own rounds with an outcome.

    Raises:
        ValueError: no labeler has judged a pair with an outcome.
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    losses = (matrix - vector[:, None]) ** 2
    known = ~np.isnan(losses)
    n_known = known.sum(axis=0)
    if not n_known.any():
        raise ValueError("no labeler has judged a pair with an outcome: nobody is best")
    mean_loss = np.where(n_known > 0, np.where(known, losses, 0.0).sum(axis=0) / np.maximum(n_known, 1), np.inf)
    return int(mean_loss.argmin())
