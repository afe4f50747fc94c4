"""Simulated beliefs: calibrated posteriors of a noisy view, plus a declared bias.

A pair's true log-odds d_t = logit P(y_t = 1) is seen as x_t = d_t + noise * eps_t. The belief is the Bayesian posterior
mean E[sigmoid(d) | x_t] under the campaign's own distribution of d, made symmetric because A and B are arbitrary. So
P(y = 1 | belief = p) = p: a labeler that reports it is accurate *and* calibrated. Reporting sigmoid(x_t) itself would
be overconfident, and shading it towards 1/2 would look like a profitable lie although it is only better statistics.
"""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import logit, sigmoid

_PRIOR_POINTS = 512
_GRID_POINTS = 1025


def calibrated_beliefs(log_odds: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    """Draw one labeler's calibrated beliefs that A is better.

    Args:
        log_odds: true log-odds that A is better, shape ``(T,)``, finite.
        noise: standard deviation of the labeler's view, in log-odds, >= 0; 0 knows the truth, ``inf`` knows nothing.
        rng: source of the noise.

    Returns:
        Beliefs in [0, 1], shape ``(T,)``.
    """
    log_odds = np.asarray(log_odds, dtype=np.float64)
    if noise < 0 or np.isnan(noise):
        raise ValueError(f"noise must be >= 0, got {noise!r}")
    if not np.isfinite(log_odds).all():
        raise ValueError("log_odds must be finite")
    view = rng.standard_normal(log_odds.shape)  # drawn in every case: a labeler's noise never shifts another's
    if log_odds.size == 0 or noise == 0:
        return sigmoid(log_odds)
    if np.isinf(noise):
        return np.full(log_odds.shape, 0.5)
    view = log_odds + noise * view
    prior = np.quantile(np.concatenate([log_odds, -log_odds]), (np.arange(_PRIOR_POINTS) + 0.5) / _PRIOR_POINTS)
    # The posterior mean is a smooth function of the view: evaluate it on a grid, so that T may be large.
    grid = np.linspace(view.min(), view.max(), _GRID_POINTS)
    log_likelihood = -0.5 * ((grid[:, None] - prior) / noise) ** 2
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    return np.interp(view, grid, likelihood @ sigmoid(prior) / likelihood.sum(axis=1))


def with_bias(beliefs: FloatArray, bias: FloatArray | float) -> FloatArray:
    """Return beliefs with a declared bias added to their log-odds (a number, or one per pair)."""
    return sigmoid(logit(beliefs) + bias)
