"""Majority vote: every report counts as a vote for one side, whatever its confidence."""

from __future__ import annotations

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules.fixed import FixedRule


class Majority(FixedRule):
    """State the share of the present labelers who vote for A; a report of exactly 0.5 is half a vote.

    The soft label is above 0.5 exactly when A has the majority. Unanimous reports become 0 or 1: votes carry no
    confidence.

    Examples:
        >>> Majority(4).predict_one([0.6, 0.9, 0.1, 0.5])
        0.625
    """

    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        votes = (reports > 0.5).sum(axis=1) + 0.5 * (reports == 0.5).sum(axis=1)
        return votes / present.sum(axis=1)
