"""The logistic function and its inverse: from log-odds to probabilities and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray

_INSIDE = 1e-9


def sigmoid(log_odds: ArrayLike) -> FloatArray:
    """Return 1 / (1 + exp(-log_odds)) elementwise, in [0, 1]; computed by tanh, which cannot overflow.

    Examples:
        >>> sigmoid([0.0, -800.0, 800.0]).tolist()
        [0.5, 0.0, 1.0]
    """
    result: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(log_odds, dtype=np.float64)))
    return result


def logit(probabilities: ArrayLike) -> FloatArray:
    """Return log(p / (1 - p)) elementwise; 0 and 1 are moved inwards by 1e-9, so that their log-odds are finite.

    Examples:
        >>> logit([0.5, 1.0]).round(2).tolist()
        [0.0, 20.72]
    """
    inside = np.clip(np.asarray(probabilities, dtype=np.float64), _INSIDE, 1.0 - _INSIDE)
    result: FloatArray = np.log(inside) - np.log1p(-inside)
    return result
