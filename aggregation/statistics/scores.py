"""Scores of soft labels q_t = P(A better), against outcomes y_t in {0, 1} or against probabilities p_t in [0, 1].

A round without a target (NaN) counts in none of them. A score over no round at all is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics.checks import (
    against_outcomes,
    against_probabilities,
    check_groups,
    check_weights,
    weighted_mean,
)

SMALLEST_CHANCE = 1e-12
"""The log loss takes smaller chances for this one, so that certain and wrong costs 27.6 nats and not infinity."""


def hits(soft_labels: ArrayLike, targets: ArrayLike) -> FloatArray:
    """Return 1 where the soft label is on the target's side of 1/2, 0 where it is not, 1/2 where either is exactly 1/2.

    (1 + sign(q - 1/2) sign(p - 1/2)) / 2. The mean is the accuracy that tossing a fair coin at every tie would have on
    average.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        targets: outcomes or probabilities, shape ``(T,)``, in [0, 1]; NaN gives NaN.

    Returns:
        Shape ``(T,)``.

    Examples:
        >>> hits([0.9, 0.5, 0.2, 0.7], [1, 1, 1, 0.5]).tolist()
        [1.0, 0.5, 0.0, 0.5]
    """
    sides = np.sign(np.asarray(soft_labels, dtype=np.float64) - 0.5)
    result: FloatArray = (1.0 + sides * np.sign(np.asarray(targets, dtype=np.float64) - 0.5)) / 2.0
    return result


def accuracy(soft_labels: ArrayLike, outcomes: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the share of rounds with the soft label on the outcome's side of 1/2; exactly 1/2 counts half.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        outcomes: y, shape ``(T,)``, 0, 1 or NaN.
        weights: of the rounds, shape ``(T,)``, >= 0.

    Returns:
        In [0, 1], higher is better; NaN without outcomes.

    Examples:
        >>> accuracy([0.8, 0.4, 0.5], [1, 1, 0])
        0.5
    """
    stated, known, heavy = against_outcomes(soft_labels, outcomes, weights)
    return weighted_mean(hits(stated, known), heavy)


def brier(soft_labels: ArrayLike, outcomes: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the Brier score, the mean of (q - y)^2: 0 is perfect, 1/4 is always saying 1/2.

    This is Brier's score of 1950 halved: he added the squares of both possible results.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        outcomes: y, shape ``(T,)``, 0, 1 or NaN. A true probability is refused: see `mean_squared_error`.
        weights: of the rounds, shape ``(T,)``, >= 0.

    Returns:
        In [0, 1], lower is better; NaN without outcomes.

    References:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950).

    Examples:
        >>> brier([1.0, 0.5], [1, 0])
        0.125
    """
    stated, known, heavy = against_outcomes(soft_labels, outcomes, weights)
    return weighted_mean((stated - known) ** 2, heavy)


def mean_squared_error(soft_labels: ArrayLike, p_truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean of (q - p)^2, the squared distance to the true probabilities: 0 is perfect.

    For outcomes y drawn with probability p, E (q - y)^2 = (q - p)^2 + p (1 - p): the expected Brier score is this plus
    a part that no label can avoid. So a Brier score and a mean squared error cannot be compared.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        p_truth: the true P(A better), shape ``(T,)``, in [0, 1] or NaN.
        weights: of the rounds, shape ``(T,)``, >= 0.

    Returns:
        In [0, 1], lower is better; NaN without any true probability.

    Examples:
        >>> round(mean_squared_error([0.9, 0.4], [0.8, 0.7]), 6)
        0.05
    """
    stated, known, heavy = against_probabilities(soft_labels, p_truth, weights)
    return weighted_mean((stated - known) ** 2, heavy)


def log_loss(soft_labels: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean of -p log q - (1 - p) log(1 - q) in nats, chances below 1e-12 taken for 1e-12.

    Against outcomes it is -log of the chance that was given to what happened (the logarithmic score); against target
    probabilities it is the cross-entropy, whose minimum over q is the targets' entropy, ``log_loss(p, p)``.

    Args:
        soft_labels: q, shape ``(T,)``, in [0, 1].
        targets: outcomes or probabilities p, shape ``(T,)``, in [0, 1] or NaN.
        weights: of the rounds, shape ``(T,)``, >= 0.

    Returns:
        In [0, 27.7], lower is better, log 2 = 0.693 is always saying 1/2; NaN without targets.

    References:
        Good, Rational decisions, Journal of the Royal Statistical Society B 14 (1952).

    Examples:
        >>> round(log_loss([0.5, 0.8], [1, 1]), 4)
        0.4581
    """
    stated, known, heavy = against_probabilities(soft_labels, targets, weights)
    of_a, of_b = (np.log(np.maximum(chance, SMALLEST_CHANCE)) for chance in (stated, 1.0 - stated))
    return weighted_mean(-(known * of_a + (1.0 - known) * of_b), heavy)


def mean_by_group(values: ArrayLike, groups: ArrayLike, n_groups: int, weights: ArrayLike | None = None) -> FloatArray:
    """Return the mean of the values of every group, such as the hits of every labeler.

    Args:
        values: shape ``(n,)``.
        groups: the group of every value, shape ``(n,)``, in 0 to ``n_groups`` - 1.
        n_groups: number of groups, >= 1.
        weights: of the values, shape ``(n,)``, >= 0.

    Returns:
        Shape ``(n_groups,)``; NaN for a group without values.

    Examples:
        >>> mean_by_group([1.0, 0.0, 1.0], [0, 0, 2], 3).tolist()
        [0.5, nan, 1.0]
    """
    vector = np.asarray(values, dtype=np.float64)
    group = check_groups(groups, len(vector), n_groups)
    heavy = None if weights is None else check_weights(weights, len(vector))
    total = np.bincount(group, heavy, n_groups)
    sums = np.bincount(group, vector if heavy is None else heavy * vector, n_groups)
    return sums / np.where(total > 0, total, np.nan)
