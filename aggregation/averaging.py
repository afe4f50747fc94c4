"""Rules that never learn: mean, median, trimmed mean and majority of the reports present in a round.

They ignore outcomes, so every labeler keeps an equal share for ever. The median is truthful for labelers who want the
aggregate near their own view in a single round (Moulin); the mean rewards exaggeration; none learns who is right.
"""

from __future__ import annotations

import numpy as np

from aggregation.base import NOTHING_KNOWN, FloatArray, present_reports, uniform


class Averaging:
    """Base of the rules that aggregate the present reports and learn nothing."""

    def __init__(self, n_labelers: int) -> None:
        """Make the rule for ``n_labelers`` >= 1 labelers."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)

    def predict_one(self, reports: FloatArray) -> float:
        """Return the aggregate of the present reports; 0.5 where nobody is present."""
        present = present_reports(reports, self.n_labelers)
        return float(self._aggregate(present[None, :])[0]) if present.size else NOTHING_KNOWN

    def learn_one(self, reports: FloatArray, outcome: float) -> None:
        """Learn nothing."""

    def predict_many(self, reports: FloatArray) -> FloatArray:
        """Return the aggregates of many rounds, shape ``(T,)``, from reports of shape ``(T, N)``."""
        complete = ~np.isnan(reports).any(axis=1)
        soft_labels = np.full(len(reports), NOTHING_KNOWN)
        if complete.any():
            soft_labels[complete] = self._aggregate(reports[complete])
        for t in np.flatnonzero(~complete):
            soft_labels[t] = self.predict_one(reports[t])
        return soft_labels

    def _aggregate(self, reports: FloatArray) -> FloatArray:
        """Aggregate each row of a matrix without gaps."""
        raise NotImplementedError


class Mean(Averaging):
    """The plain average of the reports.

    >>> Mean(3).predict_one(np.array([0.0, 0.2, 1.0])).__round__(3)
    0.4
    """

    def _aggregate(self, reports: FloatArray) -> FloatArray:
        result: FloatArray = reports.mean(axis=1)
        return result


class Median(Averaging):
    """The median of the reports: the middle one, or the mean of the two in the middle."""

    def _aggregate(self, reports: FloatArray) -> FloatArray:
        result: FloatArray = np.median(reports, axis=1)
        return result


class TrimmedMean(Averaging):
    """The mean of the reports without the lowest and the highest share ``trim`` of them (at least one is kept)."""

    def __init__(self, n_labelers: int, trim: float = 0.2) -> None:
        """Make the rule; ``trim`` in [0, 0.5) is cut off at each end."""
        if not 0.0 <= trim < 0.5:
            raise ValueError(f"trim must be in [0, 0.5), got {trim!r}")
        super().__init__(n_labelers)
        self.trim = trim

    def _aggregate(self, reports: FloatArray) -> FloatArray:
        cut = int(self.trim * reports.shape[1])
        ordered = np.sort(reports, axis=1)
        result: FloatArray = ordered[:, cut : reports.shape[1] - cut].mean(axis=1)
        return result


class Majority(Averaging):
    """The share of the votes for A, where a report above 1/2 is a vote for A and 1/2 is half a vote for each."""

    def _aggregate(self, reports: FloatArray) -> FloatArray:
        result: FloatArray = (np.sign(reports - 0.5) / 2.0 + 0.5).mean(axis=1)
        return result
