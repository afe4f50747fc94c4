"""Settled bonuses: what each labeler earns or pays by its accuracy, in money that only changes hands.

Weighted-score wagering (Lambert et al. 2008): in a round with a known outcome every labeler present has staked its
weight m_i and gets m_i (1 + s_i - sbar) back: s_i = 1 - (r_i - y)^2 and sbar is the stake-weighted mean score of those
present. So its net bonus is m_i (s_i - sbar): the bonuses of a round add up to zero whatever happens, a risk-neutral
labeler maximises its expected bonus by reporting its belief, and nobody gains by splitting into several labelers that
report the same. One round of the online weighted mechanism moves the weights by eta times these bonuses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, check_outcomes, check_reports, row_blocks


def settle_bonuses(reports: ArrayLike, outcomes: ArrayLike, stakes: ArrayLike) -> FloatArray:
    """Return the net bonuses of every round, shape ``(T, N)``; each row adds up to zero.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 0, 1 or NaN; without an outcome nothing is settled.
        stakes: what each labeler wagers, >= 0: one row ``(N,)`` for all rounds, or ``(T, N)`` such as
            ``OnlineRun.weights``.

    Returns:
        Bonuses in the unit of the stakes; 0 for absent labelers and unaudited rounds. Never below minus the stake.

    Examples:
        >>> settle_bonuses([[1.0, 0.0, 0.5]], [1], [1.0, 1.0, 1.0]).round(3).tolist()
        [[0.417, -0.583, 0.167]]
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    wagers = np.asarray(stakes, dtype=np.float64)
    if wagers.shape not in (matrix.shape, matrix.shape[1:]):
        raise ValueError(f"stakes must have shape {matrix.shape[1:]} or {matrix.shape}, got {wagers.shape}")
    if not (np.isfinite(wagers).all() and (wagers >= 0.0).all()):
        raise ValueError("stakes must be finite and >= 0")
    wagers = np.broadcast_to(wagers, matrix.shape)
    bonuses = np.zeros(matrix.shape)
    for rows in row_blocks(*matrix.shape):
        losses = (matrix[rows] - vector[rows, None]) ** 2
        staked = np.where(np.isnan(losses), 0.0, wagers[rows])
        losses = np.where(np.isnan(losses), 0.0, losses)
        total = staked.sum(axis=1, keepdims=True)
        mean_loss = (staked * losses).sum(axis=1, keepdims=True) / np.where(total > 0.0, total, 1.0)
        bonuses[rows] = staked * (mean_loss - losses)
    return bonuses
