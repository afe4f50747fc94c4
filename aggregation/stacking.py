"""Labels of the kind ``stacked``: more of the audits' information from the same weights.

The weights of ``online_weighted`` carry the incentives and stay as they are. The step from weights to labels is free:
here it is a logistic regression, fitted to the audited pairs, on two pooled features and the single reports,

    logit q_t = a sqrt(n_t) (2 q_t^w - 1) + b sqrt(m_t) (2 mean_t - 1) + sum_i d_i (2 r_ti - 1),

with q^w the pool under the last weights, n_t = (sum pi)^2 / sum pi^2 over those present (how many labelers the pool is
worth), mean_t the plain mean and m_t the number of labelers present; an absent labeler's term is 0. The square roots
are a compromise: log-odds add up if labelers err independently, and do not if they err together. A negative b subtracts
an error that the whole crowd shares. No intercept, and every feature changes its sign when A and B are exchanged, so
the label of the exchanged pair is 1 - q.

**Priors and averaging.** a ~ N(1.5, 1), b ~ N(0, 1), d_i ~ N(0, s^2 / m) with m the mean number of labelers at an
audited pair. Six widths s (0 is the two pooled features alone; large ones are a logistic regression on the labelers)
and the pool q^w itself (the label ``final``) are averaged with the probability of each given the outcomes (Bayesian
model averaging, Hoeting et al. 1999; evidence by Laplace, ``aggregation.map_logistic``). Few audits cannot tell the
models apart, and the pool keeps its share. With fewer than ``FEWEST_AUDITS`` = 5, or none, the label is the pool: over
120 random panels the mean log loss was lower from the first audit on, but the loss in the worst tenth of the panels
was .114 with one audit, .062 with four and .043 with five.

**Cross-fitting.** An audited pair has moved the last weights itself, so its q^w would look better than that of other
pairs. Its features are taken under the weights that the mechanism ends with when the outcomes of its fold
(``aggregation.auditing.folds``) are withheld.

**Certainty** ends at the ceiling of ``aggregation.calibration``: no label is surer than n audits can show.

**Unanimous pairs** keep their side: where nobody's report lies on the other side of 1/2, the label does not either.

What it costs: labels may leave the range of the reports, and what a labeler can gain by bending the *label* is
measured, not proved; the expected next *weight* is maximised by the belief as before: no weight depends on labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import N_FOLDS, audit_folds, scaled_weights
from truthful_rlhf.aggregation.base import NOTHING_KNOWN, FloatArray, check_outcomes, check_reports, row_blocks
from truthful_rlhf.aggregation.calibration import least_chance, limited
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.map_logistic import fit_map

LastWeights = Callable[[FloatArray], FloatArray]
"""From outcomes, shape ``(T,)`` with NaN where not revealed, to the mechanism's weights after a campaign in which these
were revealed: shape ``(N,)``, or ``(T, N)`` where they differ between pairs (one mechanism per topic)."""

PRIOR_MEANS = (1.5, 0.0)
PRIOR_DEVIATIONS = (1.0, 1.0)
WIDTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
_LOG_WIDTH_DEVIATION = 1.5  # of the log-normal prior of the widths above 0, whose median is 1
FEWEST_AUDITS = 5
_UNANIMOUS_MARGIN = 0.01


@dataclass(frozen=True)
class Stack:
    """A fitted step from weights and reports to labels.

    Attributes:
        pool_share: probability of the model "the weighted mean is the label", in [0, 1].
        shares: probabilities of the regressions, shape ``(K,)``; with ``pool_share`` they add up to 1.
        coefficients: (a, b, d_1, ..., d_N) of each regression, shape ``(K, N + 2)``.
        least_chance: labels stay this far from 0 and 1; 0 where the pool is the label.
    """

    pool_share: float
    shares: FloatArray
    coefficients: FloatArray
    least_chance: float

    def labels(self, reports: ArrayLike, weights: ArrayLike) -> FloatArray:
        """Return P(A better) of every pair, shape ``(T,)``; NaN for a pair that nobody judged.

        Args:
            reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
            weights: the mechanism's last weights, shape ``(N,)``, or ``(T, N)`` where they differ between pairs.
        """
        matrix = check_reports(reports)
        given = np.broadcast_to(np.asarray(weights, dtype=np.float64), matrix.shape)
        labels = np.empty(len(matrix))
        for rows in row_blocks(*matrix.shape):
            labels[rows] = self._block(matrix[rows], given[rows])
        return labels

    def _block(self, reports: FloatArray, weights: FloatArray) -> FloatArray:
        pool, features = _features(reports, weights)
        pool = limited(pool, self.least_chance)
        mixed = self.pool_share * pool + sigmoid(features @ self.coefficients.T) @ self.shares
        present = ~np.isnan(reports)
        none_for_b = np.where(present, reports, 1.0).min(axis=1) >= 0.5
        none_for_a = np.where(present, reports, 0.0).max(axis=1) <= 0.5
        mixed = np.where(none_for_b, np.maximum(mixed, np.minimum(pool, 0.5 + _UNANIMOUS_MARGIN)), mixed)
        mixed = np.where(none_for_a, np.minimum(mixed, np.maximum(pool, 0.5 - _UNANIMOUS_MARGIN)), mixed)
        return np.where(present.any(axis=1), limited(mixed, self.least_chance), np.nan)


def fit_stack(
    reports: ArrayLike, outcomes: ArrayLike, last_weights: LastWeights, sample_weights: ArrayLike | None = None
) -> Stack:
    """Fit the step from weights to labels to the audited pairs, cross-fitted.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 1 A better, 0 B better, NaN not revealed.
        last_weights: runs the mechanism with some of the outcomes withheld; called once per fold of the audits.
        sample_weights: inverse audit probabilities, shape ``(T,)``, > 0 where audited; None: all alike.
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    vector = np.where(np.isnan(matrix).all(axis=1), np.nan, vector)  # an outcome that nobody forecast tells nothing
    observed = scaled_weights(sample_weights, vector)
    n_labelers = matrix.shape[1]
    if len(observed) < FEWEST_AUDITS:
        return Stack(1.0, np.empty(0), np.empty((0, n_labelers + 2)), 0.0)
    least = least_chance(float(observed.sum()))
    pool, features, sides = _cross_fitted(matrix, vector, last_weights)
    said = 0.5 + sides * (limited(pool, least) - 0.5)
    log_chances = [float(observed @ np.log(said))]
    coefficients = np.zeros((len(WIDTHS), n_labelers + 2))
    n_present = (~np.isnan(matrix[~np.isnan(vector)])).sum(axis=1).mean()
    for k, width in enumerate(WIDTHS):
        d = n_labelers + 2 if width else 2
        means, deviations = np.zeros(d), np.full(d, width / math.sqrt(n_present))
        means[:2], deviations[:2] = PRIOR_MEANS, PRIOR_DEVIATIONS
        fit = fit_map(features[:, :d] * sides[:, None], observed, means, deviations)
        coefficients[k, :d] = fit.coefficients
        log_prior = -0.5 * (math.log(width) / _LOG_WIDTH_DEVIATION) ** 2 if width else 0.0
        log_chances.append(fit.log_evidence + log_prior)
    shares = np.exp(np.array(log_chances) - max(log_chances))
    shares /= shares.sum()
    return Stack(float(shares[0]), shares[1:], coefficients, least)


def stack_labels(
    reports: ArrayLike, outcomes: ArrayLike, last_weights: LastWeights, sample_weights: ArrayLike | None = None
) -> FloatArray:
    """Return the labels of the kind ``stacked``, shape ``(T,)``: audited pairs have their outcome.

    They are no forecasts of the audited outcomes: measure them on unaudited pairs only. A pair that nobody judged and
    nobody audited is NaN.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 1 A better, 0 B better, NaN not revealed.
        last_weights: runs the mechanism with some of the outcomes withheld (see ``LastWeights``).
        sample_weights: inverse audit probabilities, shape ``(T,)``, > 0 where audited; None: all alike.

    Examples:
        >>> from truthful_rlhf.aggregation import OnlineWeighted, run_online
        >>> reports = np.tile([0.8, 0.3, 0.4], (40, 1))  # the first is always right, the other two never
        >>> outcomes = np.where(np.arange(40) < 20, 1.0, np.nan)
        >>> def last_weights(revealed):
        ...     rule = OnlineWeighted(3)
        ...     run_online(rule, reports, revealed)
        ...     return rule.weights_
        >>> final = reports[-1] @ last_weights(outcomes)
        >>> stacked = stack_labels(reports, outcomes, last_weights)[-1]
        >>> bool(0.5 < final < 0.8 < stacked)
        True
    """
    vector = check_outcomes(outcomes, len(np.atleast_1d(np.asarray(outcomes))))
    stack = fit_stack(reports, vector, last_weights, sample_weights)
    return np.where(np.isnan(vector), stack.labels(reports, last_weights(vector)), vector)


def _cross_fitted(
    reports: FloatArray, outcomes: FloatArray, last_weights: LastWeights
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return pool, features and sides (1 for A, -1 for B) of the audited pairs, each without its fold's outcomes."""
    folds = audit_folds(outcomes)
    pool, features = np.empty(len(reports)), np.empty((len(reports), reports.shape[1] + 2))
    for fold in range(min(N_FOLDS, int((folds >= 0).sum()))):
        held_out = folds == fold
        weights = np.broadcast_to(last_weights(np.where(held_out, np.nan, outcomes)), reports.shape)
        pool[held_out], features[held_out] = _features(reports[held_out], weights[held_out])
    audited = folds >= 0
    return pool[audited], features[audited], 2.0 * outcomes[audited] - 1.0


def _features(reports: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weighted mean report, shape ``(B,)``, and the features, shape ``(B, N + 2)``."""
    present = ~np.isnan(reports)
    signed = np.where(present, 2.0 * reports - 1.0, 0.0)
    mass = np.where(present, weights, 0.0)
    total = mass.sum(axis=1)
    squares = (mass**2).sum(axis=1)
    lean = np.divide((mass * signed).sum(axis=1), total, out=np.zeros(len(reports)), where=total > 0.0)
    number = np.divide(total**2, squares, out=np.zeros(len(reports)), where=squares > 0.0)
    n_present = np.maximum(present.sum(axis=1), 1)
    pooled = [np.sqrt(number) * lean, signed.sum(axis=1) / np.sqrt(n_present)]
    return NOTHING_KNOWN + 0.5 * lean, np.column_stack([*pooled, signed])
