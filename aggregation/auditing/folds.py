"""What every fit to audited outcomes shares: fixed folds for cross-fitting, and weights for audits drawn unequally.

**Cross-fitting.** If a label was fitted to the outcome of its own pair, their agreement says nothing about how good
such labels are. So the audits are dealt into ten folds, and the label of a pair is judged under a fit to the outcomes
of the other folds. The folds follow the order of the audits: no chance, and nothing that a labeler could influence.

**Weights.** An audit that was drawn with probability p stands for 1 / p pairs. Fits take such weights (Horvitz and
Thompson 1952) and scale them to add up to the number of equally weighted audits that would tell as much, Kish's
(sum w)^2 / sum w^2. So a common factor changes nothing, and equal weights count every audit once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, IntArray

N_FOLDS = 10


def audit_folds(outcomes: FloatArray) -> IntArray:
    """Return the fold of every audited pair, shape ``(T,)``: the k-th audited pair is in fold k mod 10.

    With fewer than ten audited pairs every one is a fold of its own. Pairs without an outcome have fold -1.

    Examples:
        >>> audit_folds(np.array([1.0, float("nan"), 0.0])).tolist()
        [0, -1, 1]
    """
    known = np.flatnonzero(~np.isnan(outcomes))
    folds = np.full(len(outcomes), -1, dtype=np.int64)
    folds[known] = np.arange(len(known)) % N_FOLDS
    return folds


def held_out_labels(labels: Callable[[FloatArray], FloatArray], outcomes: FloatArray) -> FloatArray:
    """Return labels of the audited pairs that have not seen their own outcomes, shape ``(T,)``; NaN elsewhere.

    Args:
        labels: from outcomes, shape ``(T,)`` with NaN where not revealed, to the labels of a rule to which these were
            revealed, shape ``(T,)``; called once per fold.
        outcomes: shape ``(T,)``.
    """
    folds = audit_folds(outcomes)
    held_out = np.full(len(outcomes), np.nan)
    for fold in range(folds.max(initial=-1) + 1):
        rows = folds == fold
        held_out[rows] = labels(np.where(rows, np.nan, outcomes))[rows]
    return held_out


def check_sample_weights(sample_weights: ArrayLike | None, outcomes: FloatArray) -> FloatArray:
    """Return weights as floats, shape ``(T,)``, 1 where there is no outcome; all 1 if None.

    Args:
        sample_weights: inverse audit probabilities, shape ``(T,)``, finite and > 0 where an outcome is known; None: all
            alike.
        outcomes: shape ``(T,)``, NaN where not revealed.

    Raises:
        ValueError: another shape, or a weight that is not finite and > 0 where an outcome is known.
    """
    if sample_weights is None:
        return np.ones(len(outcomes))
    weights = np.asarray(sample_weights, dtype=np.float64)
    if weights.shape != outcomes.shape:
        raise ValueError(f"sample_weights must have one entry per round ({len(outcomes)}), got shape {weights.shape}")
    weights = np.where(np.isnan(outcomes), 1.0, weights)
    bad = ~((weights > 0.0) & (weights < np.inf))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"sample_weights must be finite and > 0: round {row} has {float(weights[row])!r}")
    return weights


def check_step_fractions(sample_weights: ArrayLike | None, outcomes: FloatArray) -> FloatArray:
    """Return weights that are parts of an update, shape ``(T,)``, in (0, 1]; 1 where there is no outcome.

    Args:
        sample_weights: shape ``(T,)``; None: all 1.
        outcomes: shape ``(T,)``, NaN where not revealed.

    Raises:
        ValueError: as `check_sample_weights`, or a weight above 1: the step would exceed the rule's own.
    """
    weights = check_sample_weights(sample_weights, outcomes)
    if (weights > 1.0).any():
        row = int(np.argmax(weights > 1.0))
        raise ValueError(f"sample_weights of rules with steps must be in (0, 1]: round {row} has {weights[row]:.6g}")
    return weights


def scaled_weights(sample_weights: ArrayLike | None, outcomes: FloatArray) -> FloatArray:
    """Return the weights of the audited pairs, shape ``(n_audited,)``, with the effective number as their sum.

    Args:
        sample_weights: as in `check_sample_weights`.
        outcomes: shape ``(T,)``, NaN where not revealed.
    """
    return kish_scaled(check_sample_weights(sample_weights, outcomes)[~np.isnan(outcomes)])


def kish_scaled(weights: FloatArray) -> FloatArray:
    """Return positive weights times one factor, so that they add up to their effective number."""
    total = weights.sum()
    return weights * (total / (weights @ weights)) if len(weights) else weights


def check_sample_weight(sample_weight: float) -> float:
    """Return one weight if it is finite and > 0, or raise ``ValueError``."""
    if not 0.0 < sample_weight < np.inf:
        raise ValueError(f"a sample_weight must be finite and > 0, got {sample_weight!r}")
    return float(sample_weight)
