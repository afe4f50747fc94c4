"""What the rules with multiplicative weights share: the weighted mean of those present, and how it is run.

All three scale the weights of the labelers present by a factor that falls with their loss l_i = (r_i - y)^2, and keep
the joint weight of those present, so that an absent labeler neither rises nor sinks. With Lbar the weighted mean loss
of those present:

    online_weighted   pi_i (1 - eta (l_i - Lbar))
    linear_weighted   pi_i (1 - eta l_i) / (1 - eta Lbar)  =  pi_i (1 - step (l_i - Lbar)),  step = eta / (1 - eta Lbar)
    hedge             pi_i exp(-eta l_i) / weighted mean of the exponentials

The second line shows the only difference between the first two: the step of the normalised rule depends, through
Lbar, on the report itself, and that is what breaks exact truthfulness.

An outcome may count for less than a whole update, w in (0, 1]: the weights then go that part of the way,
pi <- pi + w (U(pi) - pi). ``aggregation.auditing.design`` has why, and which w.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_step_fractions
from truthful_rlhf.aggregation.base import (
    NOTHING_KNOWN,
    FloatArray,
    Key,
    OnlineRun,
    check_initial_weights,
    check_outcome,
    check_round,
    raise_bad_report,
    row_blocks,
    uniform,
)
from truthful_rlhf.aggregation.rules.quantile_labels import StatedLabel, weighted_quantiles

SMALLEST_WEIGHT = 1e-280
"""Added at every update: below 1e-308 weights would be denormal (slow) and then zero (nothing left to divide by)."""
ROUNDS_PER_SUM = 1024
"""Updates between two divisions of the weights by their sum, so that rounding cannot add up."""


def mixed(moved: FloatArray, share: float, initial: FloatArray) -> FloatArray:
    """Return (1 - share) of the moved weights, and ``share`` of their sum spread like the initial weights.

    Args:
        moved: weights after an update, shape ``(n,)``, of the labelers present.
        share: part that is mixed in, in [0, 1).
        initial: their initial weights, shape ``(n,)``, > 0.
    """
    return (1.0 - share) * moved + share * moved.sum() * initial / initial.sum() + SMALLEST_WEIGHT


class MultiplicativeRule(ABC):
    """State the weighted mean of the present reports; scale weights when an outcome is revealed.

    Attributes:
        weights_: shape ``(N,)``, on the simplex.
        n_updates_: number of rounds so far in which weights could move: outcome revealed, at least two present.
    """

    sees_outcomes: ClassVar[bool] = True
    """Whether revealed outcomes change what the rule states."""

    def __init__(self, n_labelers: int, initial_weights: ArrayLike | None = None) -> None:
        """Start with equal weights for N >= 1 labelers, or with the given ones (divided by their sum)."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        if initial_weights is not None:
            self.weights_ = check_initial_weights(initial_weights, n_labelers)
        self._initial = self.weights_.copy()
        self.n_updates_ = 0
        self._label = StatedLabel("mean", None)

    @abstractmethod
    def _compiled(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        weights: FloatArray,
        fractions: FloatArray,
        points: FloatArray,
        soft_labels: FloatArray,
        history: FloatArray,
    ) -> tuple[int, int]:
        """Run the compiled loop; fill ``soft_labels`` and ``history`` (unless empty), change ``weights``.

        ``fractions``: part of the way that each round's update goes, shape ``(T,)``, in (0, 1]. ``points``: where each
        label's weighted quantile is taken, shape ``(T,)``; empty for the weighted mean.

        Returns ``n_updates_`` and the number of reports out of range.
        """

    @abstractmethod
    def _moved(self, weights: FloatArray, losses: FloatArray, initial: FloatArray) -> FloatArray:
        """Return new weights of the labelers present, shape ``(m,)``, with the same sum.

        Args:
            weights: of the labelers present, shape ``(m,)``; ``losses`` and ``initial`` alike.
            losses: (r_i - y)^2.
            initial: the weights that they started with, towards which some rules mix.
        """

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return the label of the present reports, shape ``(N,)``: their weighted mean; 0.5 if nobody judged."""
        keys = None if key is None else [key]
        return float(self.predict_many(check_round(reports, self.n_labelers)[None], keys)[0])

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present weights, shape ``(T,)``; 0.5 where nobody judged."""
        if len(points := self._label.points(keys, len(reports))):
            return weighted_quantiles(reports, self.weights_, points)
        soft_labels = np.full(len(reports), NOTHING_KNOWN)
        for rows in row_blocks(*reports.shape):
            present = ~np.isnan(reports[rows])
            mass = present @ self.weights_
            stated = np.where(present, reports[rows], 0.0) @ self.weights_
            np.divide(stated, mass, out=soft_labels[rows], where=mass > 0.0)
        return np.clip(soft_labels, 0.0, 1.0)

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Scale the weights of those present by their accuracy; a NaN outcome or a lone labeler changes nothing.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: part of the way that the weights go, in (0, 1].
        """
        reports = check_round(reports, self.n_labelers)
        outcome = check_outcome(outcome)
        fraction = float(check_step_fractions([sample_weight], np.zeros(1))[0])
        present = ~np.isnan(reports)
        if np.isnan(outcome) or present.sum() < 2:
            return
        weights = self.weights_.copy()
        moved = self._moved(weights[present], (reports[present] - outcome) ** 2, self._initial[present])
        weights[present] = fraction * moved + (1.0 - fraction) * weights[present]
        self.n_updates_ += 1
        if self.n_updates_ % ROUNDS_PER_SUM == 0:
            weights /= weights.sum()
        self.weights_ = weights

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Run a whole campaign in compiled code; leaves the same state as the loop over rounds."""
        points = self._label.points(keys, len(reports))
        soft_labels = np.empty(len(reports))
        history = np.empty(reports.shape if keep_weights else (0, self.n_labelers))
        weights = self.weights_.copy()
        fractions = check_step_fractions(sample_weights, outcomes)
        n_updates, n_bad = self._compiled(reports, outcomes, weights, fractions, points, soft_labels, history)
        if n_bad:
            raise_bad_report(reports)
        self.n_updates_, self.weights_ = n_updates, weights
        return OnlineRun(soft_labels, history)
