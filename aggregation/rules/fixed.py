"""What the rules without memory share: equal weights for ever, and nothing to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import (
    NOTHING_KNOWN,
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


class FixedRule(ABC):
    """A rule that treats every labeler alike in every round: a function of the present reports."""

    sees_outcomes: ClassVar[bool] = False
    """Whether revealed outcomes change what the rule states."""

    def __init__(self, n_labelers: int) -> None:
        """Take a panel of ``n_labelers`` >= 1."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)

    @abstractmethod
    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        """Return the soft labels of a block, shape ``(T,)``; every round has someone present (boolean ``(T, N)``)."""

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round, shape ``(T,)``; 0.5 where nobody judged."""
        soft_labels = np.full(len(reports), NOTHING_KNOWN)
        for rows in row_blocks(*reports.shape):
            block = reports[rows]
            present = ~np.isnan(block)
            judged = present.any(axis=1)
            if judged.all():
                soft_labels[rows] = self._aggregate(block, present)
            else:
                soft_labels[rows][judged] = self._aggregate(block[judged], present[judged])
        return np.clip(soft_labels, 0.0, 1.0)

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return P(A better) for one round, shape ``(N,)``; 0.5 if nobody judged."""
        return float(self.predict_many(check_round(reports, self.n_labelers)[None])[0])

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Check the round and change nothing: the rule has no memory.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: not read.
        """
        check_round(reports, self.n_labelers)
        check_outcome(outcome)

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Aggregate a whole campaign; the weights are one read-only row, shown T times, which costs nothing to keep."""
        check_range(reports)
        return OnlineRun(self.predict_many(reports), np.broadcast_to(self.weights_, reports.shape))
