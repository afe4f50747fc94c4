"""Pay-outs of weighted-score wagering: what each labeler earns or loses, in stakes that only change hands.

In a round with a known outcome every labeler present has staked its weight m_i and gets m_i (1 + s_i - sbar) back.
Here s_i = 1 - (r_i - y)^2 is its score and sbar the stake-weighted mean score of those present (Lambert et al. 2008).
Its net pay-out is m_i (s_i - sbar). The pay-outs of a round add up to zero whatever happens, a labeler maximises its
expectation by reporting its belief, nobody loses more than the stake, and nobody gains by splitting into several
labelers that report the same. One round of the online weighted mechanism moves the weights by eta times these pay-outs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, check_outcomes, check_reports, row_blocks


def payouts(reports: ArrayLike, outcomes: ArrayLike, stakes: ArrayLike) -> FloatArray:
    """Return the net pay-outs of every round, m_i (s_i - sbar); each row adds up to zero.

    Args:
        reports: r, shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: y, shape ``(T,)``, 0, 1 or NaN; without an outcome nothing is paid.
        stakes: m, what each labeler wagers, >= 0: one row ``(N,)`` for all rounds, or ``(T, N)`` such as
            ``OnlineRun.weights``.

    Returns:
        Shape ``(T, N)``, in the unit of the stakes, each entry at least minus its stake; 0 for absent labelers and for
        rounds without an outcome.

    References:
        Lambert, Langford, Wortman, Chen, Reeves, Shoham and Pennock, Self-financed wagering mechanisms for forecasting,
        EC 2008.

    Examples:
        >>> payouts([[1.0, 0.0, 0.5]], [1], [1.0, 1.0, 1.0]).round(3).tolist()
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
    paid = np.zeros(matrix.shape)
    for rows in row_blocks(*matrix.shape):
        losses = (matrix[rows] - vector[rows, None]) ** 2
        settled = ~np.isnan(losses)
        staked = np.where(settled, wagers[rows], 0.0)
        scores = np.where(settled, 1.0 - losses, 0.0)
        total = staked.sum(axis=1, keepdims=True)
        mean = (staked * scores).sum(axis=1, keepdims=True) / np.where(total > 0.0, total, 1.0)
        paid[rows] = staked * (scores - mean)
    return paid
