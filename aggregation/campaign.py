"""Whole campaigns: what a rule stated online, and the final labels for training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_sample_weights
from truthful_rlhf.aggregation.base import (
    Aggregator,
    FloatArray,
    Key,
    OnlineRun,
    WholeCampaigns,
    check_outcomes,
    check_range,
    check_reports,
    check_shape,
)

__all__ = ["OnlineRun", "final_labels", "run_online"]


def run_online(
    aggregator: Aggregator,
    reports: ArrayLike,
    outcomes: ArrayLike,
    keys: Iterable[Key] | None = None,
    *,
    keep_weights: bool = True,
    sample_weights: ArrayLike | None = None,
) -> OnlineRun:
    """Run a rule over a campaign: state q_t, then learn from y_t, for t = 1..T.

    Equal to the loop of ``predict_one`` and ``learn_one`` (to 1e-12), and leaves the aggregator in the same state, so
    that a campaign can go on with the next call. Rules with an array path (``WholeCampaigns``) need no loop. Batch
    rules (``dawid_skene``, ``glad``, ``mace``) fit all rounds at once and read no outcome.

    Args:
        aggregator: a rule for N labelers; it learns.
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge. T = 0 gives empty arrays.
        outcomes: shape ``(T,)``, 1 A better, 0 B better, NaN not revealed.
        keys: T pair ids (strings or whole numbers, each its own), read by rules whose label is drawn from a secret
            (``label="quantile"`` and ``"drawn"``); the others ignore them.
        keep_weights: False leaves the weights of every round out of the result: long campaigns run faster and in half
            the memory. The aggregator has the last ones in any case.
        sample_weights: what each outcome counts for where audits had unequal chances, shape ``(T,)``: the part in
            (0, 1] of a full update for rules that move weights by steps, inverse chances for ``gold_vote`` and
            ``logistic``, not read by the others; None: all alike (``aggregation.auditing.design`` makes both).

    Returns:
        Soft labels, each stated before its outcome was used, and the weights before each round. A round that nobody
        judged gets 0.5 and teaches nothing.

    Raises:
        ValueError: wrong shapes, reports outside [0, 1], infinite values, outcomes other than 0, 1, NaN; no keys, or
            not T of them, where the label needs them.

    Examples:
        >>> from truthful_rlhf.aggregation import OnlineWeighted
        >>> reports = [[0.9, 0.2], [0.8, 0.4], [float("nan"), float("nan")]]
        >>> run = run_online(OnlineWeighted(2, eta=0.5), reports, [1, float("nan"), 1])
        >>> run.soft_labels.round(3).tolist()
        [0.55, 0.632, 0.5]
    """
    matrix = check_shape(reports, len(aggregator.weights_))
    vector = check_outcomes(outcomes, len(matrix))
    weighted = None if sample_weights is None else check_sample_weights(sample_weights, vector)
    if isinstance(aggregator, WholeCampaigns):
        given = {} if weighted is None else {"sample_weights": weighted}
        return aggregator.run(matrix, vector, keep_weights, keys, **given)
    check_range(matrix)
    soft_labels, weights = np.empty(len(matrix)), np.empty(matrix.shape if keep_weights else (0, matrix.shape[1]))
    listed = None if keys is None else list(keys)
    for t, (row, outcome) in enumerate(zip(matrix, vector, strict=True)):
        if keep_weights:
            weights[t] = aggregator.weights_
        soft_labels[t] = aggregator.predict_one(row) if listed is None else aggregator.predict_one(row, listed[t])
        if weighted is None:
            aggregator.learn_one(row, float(outcome))
        else:
            aggregator.learn_one(row, float(outcome), float(weighted[t]))
    return OnlineRun(soft_labels, weights)


def final_labels(
    aggregator: Aggregator, reports: ArrayLike, outcomes: ArrayLike, keys: Iterable[Key] | None = None
) -> FloatArray:
    """Re-aggregate every pair with a rule's last state; audited pairs take their outcome.

    Better training data than the labels stated online, because early pairs profit from what was learnt later. They
    are no forecasts: measure them on unaudited pairs only.

    Args:
        aggregator: a rule that has been run over the campaign (``run_online``); not changed.
        reports: shape ``(T, N)``, as in ``run_online``.
        outcomes: shape ``(T,)``, as in ``run_online``.
        keys: as in ``run_online``; a pair keeps the point of the label that was stated.

    Returns:
        P(A better) for training, shape ``(T,)``; 0.5 for an unaudited pair that nobody judged.
    """
    matrix = check_reports(reports, len(aggregator.weights_))
    vector = check_outcomes(outcomes, len(matrix))
    if isinstance(aggregator, WholeCampaigns):
        labels = aggregator.predict_many(matrix, keys)
    elif keys is None:
        labels = np.array([aggregator.predict_one(row) for row in matrix], dtype=np.float64)
    else:
        stated = (aggregator.predict_one(row, key) for row, key in zip(matrix, keys, strict=True))
        labels = np.fromiter(stated, dtype=np.float64, count=len(matrix))
    return np.where(np.isnan(vector), labels, vector)
