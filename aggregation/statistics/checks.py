"""The checks at the door of every statistic: vectors of one length, probabilities, weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, IntArray, check_outcomes
from truthful_rlhf.aggregation.hindsight import check_soft_labels


def against_outcomes(
    soft_labels: ArrayLike, outcomes: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Return soft labels, outcomes and weights of the rounds with an outcome, each of shape ``(n,)``.

    Args:
        soft_labels: shape ``(T,)``, in [0, 1].
        outcomes: shape ``(T,)``, 0 or 1, NaN where not revealed.
        weights: of the rounds, shape ``(T,)``, >= 0, or None for equal ones.

    Raises:
        ValueError: an outcome that is not 0, 1 or NaN, a soft label outside [0, 1], or a bad weight.
    """
    vector = check_outcomes(outcomes, len(np.atleast_1d(np.asarray(outcomes))))
    return _known(check_soft_labels(soft_labels, len(vector)), vector, weights)


def against_probabilities(
    soft_labels: ArrayLike, targets: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Return soft labels, target probabilities and weights of the rounds with a target, each of shape ``(n,)``.

    Args:
        soft_labels: shape ``(T,)``, in [0, 1].
        targets: true probabilities, shape ``(T,)``, in [0, 1], NaN where unknown.
        weights: of the rounds, shape ``(T,)``, >= 0, or None for equal ones.

    Raises:
        ValueError: a target outside [0, 1] that is not NaN, a soft label outside [0, 1], or a bad weight.
    """
    vector = np.asarray(targets, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"targets must have shape (rounds,), got shape {vector.shape}")
    bad = (vector < 0.0) | (vector > 1.0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"targets must be probabilities in [0, 1] or NaN: round {row} has {float(vector[row])!r}")
    return _known(check_soft_labels(soft_labels, len(vector)), vector, weights)


def _known(
    soft_labels: FloatArray, targets: FloatArray, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    known = ~np.isnan(targets)
    heavy = None if weights is None else check_weights(weights, len(targets))[known]
    return soft_labels[known], targets[known], heavy


def check_weights(weights: ArrayLike, n: int) -> FloatArray:
    """Return weights as floats of shape ``(n,)``, finite and >= 0, or raise ``ValueError`` naming the bad entry."""
    vector = np.asarray(weights, dtype=np.float64)
    if vector.shape != (n,):
        raise ValueError(f"weights must have one entry per observation ({n}), got shape {vector.shape}")
    bad = ~((vector >= 0.0) & (vector < np.inf))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"weights must be finite and >= 0: observation {row} has {float(vector[row])!r}")
    return vector


def check_groups(groups: ArrayLike, n: int, n_groups: int) -> IntArray:
    """Return the group of every observation, shape ``(n,)``, each in 0 to ``n_groups`` - 1, or raise ``ValueError``.

    Args:
        groups: whole numbers, shape ``(n,)``.
        n: number of observations.
        n_groups: number of groups, >= 1.
    """
    vector = np.asarray(groups, dtype=np.int64)
    if vector.shape != (n,):
        raise ValueError(f"groups must have one entry per observation ({n}), got shape {vector.shape}")
    bad = (vector < 0) | (vector >= n_groups)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"groups must be 0 to {n_groups - 1}: observation {row} has {int(vector[row])}")
    return vector


def weighted_mean(values: FloatArray, weights: FloatArray | None) -> float:
    """Return sum w x / sum w of shape ``(n,)`` values; NaN without any value or any weight."""
    if weights is None:
        return float(values.mean()) if len(values) else np.nan
    total = weights.sum()
    return float((weights * values).sum() / total) if total > 0.0 else np.nan
