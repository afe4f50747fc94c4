"""Run a rule over a campaign of T rounds, and label every pair again at its end."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aggregation.base import Aggregator, FloatArray, OnlineRun, WholeCampaigns, check_outcomes, check_reports


def run_online(aggregator: Aggregator, reports: ArrayLike, outcomes: ArrayLike) -> OnlineRun:
    """Let a rule predict and learn, round by round; it goes on from its present state, which this call advances.

    Args:
        aggregator: any rule.
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``: 1 A better, 0 B better, NaN not revealed.

    Raises:
        ValueError: wrong shapes, or a report or outcome out of range, named by round and labeler.
    """
    matrix = check_reports(reports, len(aggregator.weights_))
    revealed = check_outcomes(outcomes, len(matrix))
    if isinstance(aggregator, WholeCampaigns):
        return aggregator.run(matrix, revealed)
    soft_labels = np.empty(len(matrix))
    weights = np.empty_like(matrix)
    for t, (row, outcome) in enumerate(zip(matrix, revealed, strict=True)):
        weights[t] = aggregator.weights_
        soft_labels[t] = aggregator.predict_one(row)
        aggregator.learn_one(row, float(outcome))
    return OnlineRun(soft_labels, weights)


def final_labels(aggregator: Aggregator, reports: ArrayLike, outcomes: ArrayLike) -> FloatArray:
    """Return every pair aggregated again with the rule's present weights; audited pairs take their outcome.

    Better training data than the labels stated on the way, because early pairs profit from what was learned later. Call
    it after ``run_online`` on the same campaign.

    Args:
        aggregator: a rule that has learned.
        reports: shape ``(T, N)``.
        outcomes: shape ``(T,)``, NaN where not revealed.

    Returns:
        P(A better), shape ``(T,)``, never NaN.
    """
    matrix = check_reports(reports, len(aggregator.weights_))
    revealed = check_outcomes(outcomes, len(matrix))
    labels = np.array([aggregator.predict_one(row) for row in matrix], dtype=np.float64)
    return np.where(np.isnan(revealed), labels, revealed)
