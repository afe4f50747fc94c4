"""Recalibrate pooled probabilities: one factor on the log-odds, fitted to the audited outcomes.

A weighted average of calibrated, differing opinions is underconfident (Ranjan and Gneiting, J. R. Stat. Soc. B 72,
2010). The usual cure stretches it away from 1/2, ``logit q' = a logit q`` (Satopaa et al., Int. J. Forecasting 30,
2014): Platt scaling without an intercept, so that naming the responses the other way round names the labels the other
way round. Few outcomes say little of a, hence the prior ``log a ~ N(0, 0.5^2)``: without outcomes a is 1.

The factor changes the labels and nothing else: no labeler's weight depends on it, and no label changes sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, check_outcomes
from truthful_rlhf.aggregation.hindsight import check_soft_labels
from truthful_rlhf.aggregation.log_odds import logit, sigmoid

__all__ = ["recalibrate", "sharpness"]

PRIOR_DEVIATION = 0.5
"""Of log a: a factor of 1.65 either way is one standard deviation."""
_LARGEST_LOG = 2.0


def sharpness(soft_labels: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the factor a on the log-odds of ``soft_labels`` that the outcomes make most probable, under the prior.

    Args:
        soft_labels: P(A better), shape ``(T,)``, in [0, 1].
        outcomes: shape ``(T,)``, 0, 1 or NaN where unknown. Labels of 0 and 1, which no factor moves, do not count.

    Returns:
        a in [exp(-2), exp(2)]: above 1 the labels were underconfident, below 1 overconfident.
    """
    from scipy.optimize import minimize_scalar

    y = check_outcomes(outcomes, len(np.atleast_1d(outcomes)))
    q = check_soft_labels(soft_labels, len(y))
    known = ~np.isnan(y) & (q > 0.0) & (q < 1.0)
    towards = (2.0 * y[known] - 1.0) * logit(q[known])

    def surprise(log_factor: float) -> float:
        misfit = np.logaddexp(0.0, -np.exp(log_factor) * towards).sum()
        return float(misfit + 0.5 * (log_factor / PRIOR_DEVIATION) ** 2)

    if not known.any():
        return 1.0
    return float(np.exp(minimize_scalar(surprise, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded").x))


def recalibrate(soft_labels: ArrayLike, outcomes: ArrayLike) -> FloatArray:
    """Return the labels with their log-odds times `sharpness`, shape ``(T,)``; 0, 1/2 and 1 stay what they are.

    Args:
        soft_labels: P(A better), shape ``(T,)``, in [0, 1].
        outcomes: shape ``(T,)``, 0, 1 or NaN where unknown.

    Examples:
        >>> labels = [0.6, 0.6, 0.6, 0.6, 0.4, 0.6]
        >>> recalibrate(labels, [1, 1, 1, 1, 0, float("nan")]).round(2).tolist()
        [0.63, 0.63, 0.63, 0.63, 0.37, 0.63]
    """
    factor = sharpness(soft_labels, outcomes)
    q = np.asarray(soft_labels, dtype=np.float64)
    return np.where((q > 0.0) & (q < 1.0), sigmoid(factor * logit(q)), q)
