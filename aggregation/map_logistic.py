"""Logistic regression without an intercept under a normal prior: the most probable coefficients, and the evidence.

Notation: n observations, d features; z_t = (2 y_t - 1) x_t are the features *towards the outcome*, so the likelihood
of observation t is sigmoid(z_t . beta), and naming the sides the other way round changes nothing. With the prior
beta_j ~ N(m_j, s_j^2) and weights w_t, beta = m + s gamma, gamma ~ N(0, I),

    log p(y, gamma) = sum_t w_t log sigmoid(z_t . beta) - |gamma|^2 / 2 + constant

is strictly concave: Newton's method with halved steps finds its maximum. Laplace's approximation (MacKay 1992;
Rasmussen and Williams 2006, section 3.4.4) gives the evidence, the probability of the outcomes under the prior:

    log p(y)  ~  sum_t w_t log sigmoid(z_t . beta) - |gamma|^2 / 2 - log det(I + A^T W A) / 2,

A = z s, W = w p (1 - p). Where d > n only the n directions that A spans have moved from the prior: a QR decomposition
of A^T keeps these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid

_MAX_STEPS = 100
_SMALLEST_DECREASE = 1e-13


@dataclass(frozen=True)
class MapFit:
    """The maximum a posteriori, and how probable the prior makes the outcomes.

    Attributes:
        coefficients: beta, shape ``(d,)``.
        log_evidence: Laplace's approximation of log p(y), in nats.
    """

    coefficients: FloatArray
    log_evidence: float


def fit_map(
    towards: FloatArray,
    weights: FloatArray,
    means: FloatArray,
    deviations: FloatArray,
    start: FloatArray | None = None,
) -> MapFit:
    """Fit the most probable coefficients.

    Args:
        towards: z, shape ``(n, d)``: features times 2 y - 1. n = 0 returns the prior's means.
        weights: w of each observation, shape ``(n,)``, >= 0.
        means: of the prior, shape ``(d,)``.
        deviations: of the prior, shape ``(d,)``, >= 0; a feature with deviation 0 keeps its mean.
        start: where the search begins, shape ``(d,)``; the maximum does not depend on it.
    """
    scaled = towards * deviations
    offset = towards @ means
    basis = None
    if len(scaled) < len(means):
        basis, upper = np.linalg.qr(scaled.T)
        scaled = upper.T
    moved = np.zeros(scaled.shape[1])
    if start is not None:
        away = np.divide(start - means, deviations, out=np.zeros_like(means), where=deviations > 0.0)
        moved = away if basis is None else basis.T @ away
    moved, log_determinant = _newton(scaled, offset, weights, moved)
    log_evidence = -_misfit(scaled, offset, weights, moved) - 0.5 * log_determinant
    return MapFit(means + deviations * (moved if basis is None else basis @ moved), log_evidence)


def _misfit(scaled: FloatArray, offset: FloatArray, weights: FloatArray, moved: FloatArray) -> float:
    """Return - log p(y, gamma) without its constant."""
    return float(weights @ np.logaddexp(0.0, -offset - scaled @ moved) + 0.5 * moved @ moved)


def _newton(scaled: FloatArray, offset: FloatArray, weights: FloatArray, moved: FloatArray) -> tuple[FloatArray, float]:
    """Return gamma at the maximum, and the log determinant of the curvature there."""
    identity = np.eye(scaled.shape[1])
    misfit = _misfit(scaled, offset, weights, moved)
    for _ in range(_MAX_STEPS):
        chance = sigmoid(offset + scaled @ moved)
        slope = moved - scaled.T @ (weights * (1.0 - chance))
        curvature = identity + (scaled.T * (weights * chance * (1.0 - chance))) @ scaled
        step = np.linalg.solve(curvature, slope)
        if slope @ step <= _SMALLEST_DECREASE:
            moved = moved - step
            break
        length, tried = 1.0, _misfit(scaled, offset, weights, moved - step)
        while tried > misfit and length > 1e-6:
            length *= 0.5
            tried = _misfit(scaled, offset, weights, moved - length * step)
        moved, misfit = moved - length * step, tried
    return moved, float(np.linalg.slogdet(curvature)[1])
