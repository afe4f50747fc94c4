"""Logistic regression on the audited pairs; by its prior all labelers are alike until outcomes say otherwise.

    logit q_t = sum_i beta_i x_ti,    x_ti = 2 r_ti - 1, 0 where labeler i is absent;    beta_i ~ N(c, s^2)

No intercept, so that naming the responses the other way round names the labels the other way round. The prior's
centre c = scale / sqrt(m) and width s = width / sqrt(m), with m the mean number of labelers at an audited pair, are
chosen by the evidence (``aggregation.map_logistic``) over a small fixed grid, each with a weak prior of its own
(``log scale ~ N(log 2, 1)``, ``log width ~ N(0, 1)``), which decides while there are no outcomes. The square root lies
between labelers who err independently (log-odds add up) and labelers who err together (they do not).

Online the coefficients are refitted at every audited pair, starting from the last ones. Scale and width are chosen anew
at each of the first twenty and then whenever the audits have grown by a twentieth. n audits of N labelers cost
O(n^2 N min(n, N)) in all: this is the rule for hundreds or thousands of audits, not for millions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_sample_weight, check_sample_weights, kish_scaled
from truthful_rlhf.aggregation.base import (
    FloatArray,
    Key,
    OnlineRun,
    check_outcome,
    check_outcomes,
    check_range,
    check_reports,
    check_round,
    row_blocks,
    uniform,
)
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.map_logistic import MapFit, fit_map

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_GROWTH, _ALWAYS = 1.05, 20


class Logistic:
    """Fit one coefficient per labeler to the audited outcomes.

    Attributes:
        coefficients_: beta, shape ``(N,)``; below 0 a labeler's reports count for the other side.
        weights_: the shares of ``|coefficients_|``, shape ``(N,)``: who moves the label how much, either way.
        scale_, width_: the prior's, as chosen by the evidence.

    Examples:
        >>> rule = Logistic(2)
        >>> round(rule.predict_one([0.9, 0.9]), 3)
        0.906
        >>> for _ in range(20):
        ...     rule.learn_one([0.9, 0.1], outcome=1)
        >>> rule.predict_one([0.9, 0.1]) > 0.9
        True
    """

    sees_outcomes: ClassVar[bool] = True
    """Whether revealed outcomes change what the rule states."""

    def __init__(self, n_labelers: int) -> None:
        """Take a panel of ``n_labelers`` >= 1."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        self.scale_, self.width_ = 2.0, 1.0
        self.coefficients_ = np.full(n_labelers, self.scale_ / math.sqrt(n_labelers))
        self._towards = np.empty((0, n_labelers))
        self._sample_weights = np.empty(0)
        self._next_choice = 1

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return P(A better) for one round of reports, shape ``(N,)``; 0.5 if nobody judged."""
        return float(self.predict_many(check_round(reports, self.n_labelers)[None])[0])

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present coefficients, shape ``(T,)``."""
        soft_labels = np.empty(len(reports))
        for rows in row_blocks(*reports.shape):
            soft_labels[rows] = sigmoid((features(reports[rows]) * self.coefficients_).sum(axis=1))
        return soft_labels

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Add an audited pair and refit; a NaN outcome or a pair that nobody judged changes nothing.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: the inverse of the pair's audit probability; a common factor of all rounds changes nothing.
        """
        row = check_round(reports, self.n_labelers)
        outcome, weight = check_outcome(outcome), check_sample_weight(sample_weight)
        if np.isnan(outcome) or np.isnan(row).all():
            return
        self._add(row[None], np.array([outcome]), np.array([weight]))
        self._refit(choose=len(self._towards) >= self._next_choice)

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Run a whole campaign: between two audited pairs nothing changes. Leaves the state of the loop over rounds.

        Args:
            reports: shape ``(T, N)``.
            outcomes: shape ``(T,)``, NaN where not revealed.
            keep_weights: whether to return the weights before each round.
            keys: not read.
            sample_weights: inverse audit probabilities, shape ``(T,)``, > 0; None: all alike.
        """
        check_range(reports)
        given = check_sample_weights(sample_weights, outcomes)
        soft_labels = np.empty(len(reports))
        weights = np.empty(reports.shape if keep_weights else (0, self.n_labelers))
        first = 0
        for last in [*np.flatnonzero(~np.isnan(outcomes)).tolist(), len(reports) - 1]:
            rows = slice(first, last + 1)
            soft_labels[rows] = self.predict_many(reports[rows])
            if keep_weights:
                weights[rows] = self.weights_
            if last >= first:
                self.learn_one(reports[last], float(outcomes[last]), float(given[last]))
            first = last + 1
        return OnlineRun(soft_labels, weights)

    def fit(self, reports: ArrayLike, outcomes: ArrayLike, sample_weights: ArrayLike | None = None) -> None:
        """Learn all audited pairs at once: the state after ``run`` with scale and width chosen on all of them.

        Args:
            reports: shape ``(T, N)``.
            outcomes: shape ``(T,)``, NaN where not revealed.
            sample_weights: inverse audit probabilities, shape ``(T,)``, > 0; None: all alike.
        """
        matrix = check_reports(reports, self.n_labelers)
        vector = check_outcomes(outcomes, len(matrix))
        given = check_sample_weights(sample_weights, vector)
        known = ~np.isnan(vector) & ~np.isnan(matrix).all(axis=1)
        self._add(matrix[known], vector[known], given[known])
        if known.any():
            self._refit(choose=True)

    def _add(self, reports: FloatArray, outcomes: FloatArray, sample_weights: FloatArray) -> None:
        towards = features(reports) * (2.0 * outcomes[:, None] - 1.0)
        self._towards = np.concatenate([self._towards, towards])
        self._sample_weights = np.concatenate([self._sample_weights, sample_weights])

    def _refit(self, choose: bool) -> None:
        n_audits = len(self._towards)
        n_present = max(1.0, float((self._towards != 0.0).sum() / n_audits))
        if choose:
            self.scale_, self.width_ = self._chosen(n_present)
            self._next_choice = max(n_audits + 1, math.ceil(_GROWTH * n_audits) if n_audits >= _ALWAYS else 0)
        self.coefficients_ = self._fitted(self.scale_, self.width_, n_present).coefficients
        size = np.abs(self.coefficients_)
        self.weights_ = size / size.sum() if size.sum() > 0.0 else uniform(self.n_labelers)

    def _fitted(self, scale: float, width: float, n_present: float) -> MapFit:
        root = math.sqrt(n_present)
        means, deviations = np.full(self.n_labelers, scale / root), np.full(self.n_labelers, width / root)
        return fit_map(self._towards, kish_scaled(self._sample_weights), means, deviations, self.coefficients_)

    def _chosen(self, n_present: float) -> tuple[float, float]:
        """Return the scale and the width with the highest evidence times their own prior."""

        def log_posterior(choice: tuple[float, float]) -> float:
            scale, width = choice
            log_prior = -0.5 * (math.log(scale / 2.0) ** 2 + math.log(width) ** 2)
            return self._fitted(scale, width, n_present).log_evidence + log_prior

        return max(itertools.product(SCALES, WIDTHS), key=log_posterior)


def features(reports: FloatArray) -> FloatArray:
    """Return 2 r - 1, and 0 for an absence, in the shape of ``reports``."""
    return np.where(np.isnan(reports), 0.0, 2.0 * reports - 1.0)
