"""Recalibrate pooled probabilities: one factor on the log-odds, fitted to the audited outcomes, and a ceiling.

A weighted average of calibrated, differing opinions is underconfident (Ranjan and Gneiting, J. R. Stat. Soc. B 72,
2010). The usual cure stretches it away from 1/2, ``logit q' = a logit q`` (Satopaa et al., Int. J. Forecasting 30,
2014): Platt scaling without an intercept, so that naming the responses the other way round names the labels the other
way round. Few outcomes say little about a. So it has the prior ``log a ~ N(0, 0.5^2)``: without outcomes a is 1.

**Ceiling.** Votes give labels of 0 and 1, which no factor moves and which are wrong now and then. After n audits no
label is surer than (n + 3) / (n + 4): the mean chance that a label is right if n of n were, from a Beta(3, 1) prior
(Laplace's rule of succession, a little more trusting). Labels are moved to the ceiling before the factor is fitted, and
after it is applied.

**Cross-fitting.** The last weights have seen the audited outcomes, so a rule that learns is better on audited pairs
than elsewhere, and a factor fitted to these labels is too large. It is fitted to labels of the audited pairs to which
the outcomes of their fold were not revealed (``aggregation.auditing.folds.held_out_labels``).

The labels change and nothing else: no labeler's weight depends on it, and no label changes sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import scaled_weights
from truthful_rlhf.aggregation.base import FloatArray, check_outcomes
from truthful_rlhf.aggregation.hindsight import check_soft_labels
from truthful_rlhf.aggregation.log_odds import logit, sigmoid

__all__ = ["least_chance", "limited", "recalibrate", "sharpness"]

PRIOR_DEVIATION = 0.5
"""Of log a: a factor of 1.65 either way is one standard deviation."""
_LARGEST_LOG = 2.0
_PRIOR_AUDITS = 4.0


def least_chance(n_audits: float) -> float:
    """Return the smallest chance that a label may give to a side after ``n_audits`` >= 0: 1 / (n + 4).

    Examples:
        >>> least_chance(16)
        0.05
    """
    return 1.0 / (n_audits + _PRIOR_AUDITS)


def limited(soft_labels: FloatArray, least: float) -> FloatArray:
    """Return labels kept ``least`` away from 0 and 1, in the same shape."""
    return np.clip(soft_labels, least, 1.0 - least)


def sharpness(soft_labels: ArrayLike, outcomes: ArrayLike, sample_weights: ArrayLike | None = None) -> float:
    """Return the factor a on the log-odds of ``soft_labels`` that the outcomes make most probable, under the prior.

    Args:
        soft_labels: P(A better), shape ``(T,)``, in [0, 1]; 0 and 1 count as 1e-9 and 1 - 1e-9.
        outcomes: shape ``(T,)``, 0, 1 or NaN where unknown.
        sample_weights: inverse audit probabilities, shape ``(T,)``, > 0 where audited; None: all alike.

    Returns:
        a in [exp(-2), exp(2)]: above 1 the labels were underconfident, below 1 overconfident.
    """
    from scipy.optimize import minimize_scalar

    y = check_outcomes(outcomes, len(np.atleast_1d(outcomes)))
    weights = scaled_weights(sample_weights, y)
    known = ~np.isnan(y)
    q = check_soft_labels(soft_labels, len(y))
    towards = (2.0 * y[known] - 1.0) * logit(q[known])

    def penalised_log_loss(log_factor: float) -> float:
        misfit = weights @ np.logaddexp(0.0, -np.exp(log_factor) * towards)
        return float(misfit + 0.5 * (log_factor / PRIOR_DEVIATION) ** 2)

    if not known.any():
        return 1.0
    return float(np.exp(minimize_scalar(penalised_log_loss, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded").x))


def recalibrate(
    soft_labels: ArrayLike,
    outcomes: ArrayLike,
    held_out: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
) -> FloatArray:
    """Return the labels with their log-odds times `sharpness`, and no surer than the ceiling, shape ``(T,)``.

    Without any outcome the labels come back unchanged.

    Args:
        soft_labels: P(A better), shape ``(T,)``, in [0, 1].
        outcomes: shape ``(T,)``, 0, 1 or NaN where unknown.
        held_out: labels of the audited pairs that have not seen the pair's own outcome, shape ``(T,)``, anything
            elsewhere (``aggregation.auditing.folds.held_out_labels``). None: ``soft_labels`` have seen no outcome, as
            those of a rule that does not learn.
        sample_weights: inverse audit probabilities, shape ``(T,)``, > 0 where audited; None: all alike.

    Examples:
        >>> labels = [0.6, 0.6, 0.6, 0.6, 0.4, 1.0]
        >>> recalibrate(labels, [1, 1, 1, 1, 0, float("nan")]).round(2).tolist()
        [0.63, 0.63, 0.63, 0.63, 0.37, 0.89]
    """
    y = check_outcomes(outcomes, len(np.atleast_1d(outcomes)))
    q = check_soft_labels(soft_labels, len(y))
    if np.isnan(y).all():
        return q.copy()
    least = least_chance(float(scaled_weights(sample_weights, y).sum()))
    unseen = q if held_out is None else np.where(np.isnan(y), 0.5, np.asarray(held_out, dtype=np.float64))
    factor = sharpness(limited(check_soft_labels(unseen, len(y)), least), y, sample_weights)
    return limited(sigmoid(factor * logit(limited(q, least))), least)
