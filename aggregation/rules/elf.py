"""The ELF lottery: one ticket per revealed outcome, and the labeler with most tickets decides.

After the event of round t one of the m labelers present wins a ticket, labeler i with probability

    (1 / m) (1 + s_i - sbar),    s_i = 1 - (r_i - y)^2,   sbar = plain mean score of those present,

which is between 0 and 2 / m, sums to one and is linear in the own score. Event lotteries are the idea of Witkowski et
al. ("ELF"): more tickets only ever help a labeler that wants to be selected, so a proper score makes truth optimal for
one that looks ahead, too. This is our own instantiation; the exact ticket rule of the paper was not available to us.
Nothing is proved about its regret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from truthful_rlhf.aggregation.base import (
    NOTHING_KNOWN,
    FloatArray,
    Key,
    OnlineRun,
    check_outcome,
    check_range,
    check_round,
    row_blocks,
    uniform,
)


class Elf:
    """Follow the present labeler with most tickets; leaders who tie are averaged.

    Attributes:
        tickets_: won so far, shape ``(N,)``.
        weights_: equal over the labelers with most tickets, shape ``(N,)``, on the simplex.

    Examples:
        >>> rule = Elf(3)
        >>> rule.learn_one([1.0, 0.0, float("nan")], outcome=1)  # the second labeler cannot win: 1/2 (1 - 1/2 - 1/2)
        >>> rule.predict_one([0.2, 0.9, 0.7])
        0.2
    """

    sees_outcomes: ClassVar[bool] = True
    """Whether revealed outcomes change what the rule states."""

    def __init__(self, n_labelers: int, rng: np.random.Generator | int = 0) -> None:
        """Start without tickets; ``rng`` (or a seed) draws the winners."""
        self.n_labelers = n_labelers
        self.weights_ = uniform(n_labelers)
        self.rng = rng
        self.tickets_ = np.zeros(n_labelers)
        if not isinstance(rng, np.random.Generator) and (not isinstance(rng, int | np.integer) or rng < 0):
            raise ValueError(f"rng must be a numpy Generator or a seed >= 0, got {rng!r}")
        self._rng = np.random.default_rng(rng)

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return the report of the leader among those present, shape ``(N,)``; 0.5 if nobody judged."""
        return float(self.predict_many(check_round(reports, self.n_labelers)[None])[0])

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present tickets, shape ``(T,)``."""
        blocks = [_follow(reports[rows], self.tickets_) for rows in row_blocks(*reports.shape)]
        return np.concatenate([np.empty(0), *blocks])

    def learn_one(self, reports: FloatArray, outcome: float) -> None:
        """Draw one ticket among those present; a NaN outcome changes nothing."""
        row = check_round(reports, self.n_labelers)[None]
        self.run(row, np.array([check_outcome(outcome)]), keep_weights=False)

    def run(
        self, reports: FloatArray, outcomes: FloatArray, keep_weights: bool, keys: Iterable[Key] | None = None
    ) -> OnlineRun:
        """Run a whole campaign: chances do not depend on past tickets, so the counts are cumulative sums."""
        check_range(reports)
        soft_labels, weights = (
            np.empty(len(reports)),
            np.empty(reports.shape if keep_weights else (0, reports.shape[1])),
        )
        for rows in row_blocks(*reports.shape):
            won = self._winners(reports[rows], outcomes[rows])
            counts = self.tickets_ + np.cumsum(won, axis=0)
            before = np.vstack([self.tickets_, counts[:-1]])
            soft_labels[rows] = _follow(reports[rows], before)
            if keep_weights:
                weights[rows] = _leaders(before)
            self.tickets_ = counts[-1]
        self.weights_ = _leaders(self.tickets_[None])[0]
        return OnlineRun(soft_labels, weights)

    def _winners(self, reports: FloatArray, outcomes: FloatArray) -> FloatArray:
        """Return who wins a ticket in each round, shape ``(B, N)`` of 0 and 1; nobody where nothing is revealed."""
        won = np.zeros(reports.shape)
        present = ~np.isnan(reports)
        n_present = present.sum(axis=1, keepdims=True)
        drawn = np.flatnonzero(~np.isnan(outcomes) & (n_present[:, 0] > 0))
        present, n_present = present[drawn], n_present[drawn]
        losses = np.where(present, (reports[drawn] - outcomes[drawn, None]) ** 2, 0.0)
        chances = np.where(present, (1.0 - losses + losses.sum(axis=1, keepdims=True) / n_present) / n_present, 0.0)
        bounds = np.cumsum(chances, axis=1)
        picks = self._rng.random(len(drawn))[:, None] * bounds[:, -1:]
        won[drawn, (picks < bounds).argmax(axis=1)] = 1.0
        return won


def _follow(reports: FloatArray, tickets: FloatArray) -> FloatArray:
    """Return the mean report of the present labelers with most tickets, shape ``(B,)``; 0.5 where nobody judged."""
    present = ~np.isnan(reports)
    leaders = present & (tickets == np.where(present, tickets, -1.0).max(axis=1, keepdims=True))
    n_leaders = leaders.sum(axis=1)
    total = np.where(leaders, reports, 0.0).sum(axis=1)
    return np.where(n_leaders > 0, total / np.maximum(n_leaders, 1), NOTHING_KNOWN)


def _leaders(tickets: FloatArray) -> FloatArray:
    """Return equal weights over the labelers with most tickets, shape ``(B, N)``."""
    leaders = tickets == tickets.max(axis=1, keepdims=True)
    return leaders / leaders.sum(axis=1, keepdims=True)
