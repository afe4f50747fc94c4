"""A vote weighted by accuracy on the audited pairs: the simplest use of revealed outcomes.

With p_i the chance that labeler i's vote is right, and votes independent given the outcome, the log-odds that A is
better are the sum of log(p_i / (1 - p_i)) over the votes for A minus that over the votes for B (Nitzan and Paroush
1982). p_i is the mean of a Beta(2 + hits, 1 + misses): two votes in three are right before anything is known.

A report of r is 2 r - 1 of a vote for A, and a hit to the extent that it gave the outcome its probability: r if A was
better, 1 - r if B was. So reports of 0 and 1 give the classical vote, and 1/2 votes for neither and is half a hit. The
rule knows nothing of labelers who err together: ten copies count ten times.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_sample_weight, check_sample_weights
from truthful_rlhf.aggregation.base import (
    BoolArray,
    FloatArray,
    Key,
    OnlineRun,
    check_outcome,
    check_range,
    check_round,
    row_blocks,
    uniform,
)
from truthful_rlhf.aggregation.log_odds import sigmoid

PRIOR_HITS, PRIOR_MISSES = 2.0, 1.0


class GoldVote:
    """Add up votes by the log-odds that their labelers are right, learnt on audited pairs.

    Attributes:
        log_odds_: log(p_i / (1 - p_i)), shape ``(N,)``; below 0 a labeler's votes count for the other side.
        weights_: the shares of ``|log_odds_|``, shape ``(N,)``; equal where all are 0.

    Examples:
        >>> rule = GoldVote(2)
        >>> rule.learn_one([1.0, 0.0], outcome=1)  # chances (2 + 1) / 4 and 2 / 4
        >>> rule.predict_one([1.0, 0.0])
        0.75
    """

    sees_outcomes: ClassVar[bool] = True
    """Whether revealed outcomes change what the rule states."""

    def __init__(self, n_labelers: int) -> None:
        """Take a panel of ``n_labelers`` >= 1."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        self._sums = np.zeros((3, n_labelers))  # of weights, squared weights, weighted hits
        self.log_odds_ = _log_odds(self._sums)

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return P(A better) for one round of reports, shape ``(N,)``; 0.5 without a vote."""
        return float(self.predict_many(check_round(reports, self.n_labelers)[None])[0])

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present chances, shape ``(T,)``."""
        soft_labels = np.empty(len(reports))
        for rows in row_blocks(*reports.shape):
            soft_labels[rows] = sigmoid((_votes(reports[rows]) * self.log_odds_).sum(axis=1))
        return soft_labels

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Count hits and misses of those present; a NaN outcome changes nothing.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: the inverse of the pair's audit probability; a common factor of all rounds changes nothing.
        """
        row = check_round(reports, self.n_labelers)[None]
        weight = np.array([check_sample_weight(sample_weight)])
        self.run(row, np.array([check_outcome(outcome)]), keep_weights=False, sample_weights=weight)

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Run a whole campaign: counts are cumulative sums. Leaves the same state as the loop over rounds.

        Args:
            reports: shape ``(T, N)``.
            outcomes: shape ``(T,)``, NaN where not revealed.
            keep_weights: whether to return the weights before each round.
            keys: not read.
            sample_weights: inverse audit probabilities, shape ``(T,)``, > 0; None: all alike.
        """
        check_range(reports)
        given = check_sample_weights(sample_weights, outcomes)
        soft_labels, sums = np.empty(len(reports)), self._sums
        weights = np.empty(reports.shape if keep_weights else (0, self.n_labelers))
        for rows in row_blocks(*reports.shape):
            votes = _votes(reports[rows])
            known = ~np.isnan(reports[rows]) & ~np.isnan(outcomes[rows, None])
            added = _counted(votes, known, outcomes[rows], given[rows])
            after = np.cumsum(np.concatenate([sums[None], added]), axis=0)
            log_odds = _log_odds(after[:-1].swapaxes(0, 1))
            soft_labels[rows] = sigmoid((votes * log_odds).sum(axis=1))
            if keep_weights:
                weights[rows] = _shares(log_odds)
            sums = after[-1]
        if (sums[0] > self._sums[0]).any():
            self._sums, self.log_odds_ = sums, _log_odds(sums)
            self.weights_ = _shares(self.log_odds_)
        return OnlineRun(soft_labels, weights)


def _votes(reports: FloatArray) -> FloatArray:
    """Return 2 r - 1, and 0 for an absence, in the shape of ``reports``."""
    return np.where(np.isnan(reports), 0.0, 2.0 * reports - 1.0)


def _counted(votes: FloatArray, known: BoolArray, outcomes: FloatArray, given: FloatArray) -> FloatArray:
    """Return what each round adds to the sums, shape ``(B, 3, N)``; 0 where nothing is known."""
    hits = 0.5 + 0.5 * votes * (2.0 * outcomes[:, None] - 1.0)
    weight = np.where(known, given[:, None], 0.0)
    return np.stack([weight, weight**2, np.where(known, weight * hits, 0.0)], axis=1)


def _log_odds(sums: FloatArray) -> FloatArray:
    """Return log(p / (1 - p)) from sums of weights, squared weights and weighted hits; shape of ``sums[0]``."""
    total, squares, hits = sums
    share = np.divide(hits, total, out=np.zeros_like(total), where=total > 0.0)
    number = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0.0)  # Kish's, as in audits
    misses = np.maximum(number * (1.0 - share), 0.0)  # rounding may leave less than 0
    log_odds: FloatArray = np.log((PRIOR_HITS + number * share) / (PRIOR_MISSES + misses))
    return log_odds


def _shares(log_odds: FloatArray) -> FloatArray:
    """Return |log-odds| as shares over the last axis."""
    size = np.abs(log_odds)
    total = size.sum(axis=-1, keepdims=True)
    return np.divide(size, total, out=np.full_like(size, 1.0 / size.shape[-1]), where=total > 0.0)
