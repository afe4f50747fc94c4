"""One rule over its rounds of a campaign: in pieces, with outcomes that may arrive late, and once more without some.

What a rule states of round t may use the outcomes that arrived before t was stated, and no others. An outcome that
arrives later is learnt from when it arrives. The proof for the next weight (``aggregation.rules.online_weighted``) asks
only that a report does not decide whether or when its outcome arrives: the weight after the update is linear in the own
score, whatever the weights were meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from truthful_rlhf.aggregation.base import Aggregator, FloatArray, IntArray, Key, OnlineRun
from truthful_rlhf.aggregation.campaign import final_labels, run_online
from truthful_rlhf.aggregation.rules.batch import BatchRule

_PIECE_BYTES = 16 * 2**20
_MAX_AT_ONCE_BYTES = 4 * 2**30


@runtime_checkable
class ReportTable(Protocol):
    """The reports of a campaign that may be too large for one matrix, read a piece at a time."""

    @property
    def n_pairs(self) -> int:
        """T, the number of rounds."""

    @property
    def n_labelers(self) -> int:
        """N."""

    def matrix(self, rounds: IntArray) -> FloatArray:
        """Return the reports of some rounds, shape ``(len(rounds), N)``, in [0, 1] or NaN."""


@dataclass(frozen=True)
class Piece:
    """Some rounds as the rule saw them, for those who sum up a campaign that is never in memory as a whole.

    Attributes:
        rounds: which, shape ``(n,)``.
        reports: shape ``(n, N)``.
        outcomes: as far as they were revealed, shape ``(n,)``.
        weights: before each round, shape ``(n, N)``; ``(0, N)`` where they were not wanted.
    """

    rounds: IntArray
    reports: FloatArray
    outcomes: FloatArray
    weights: FloatArray


class Mechanism:
    """A rule and its rounds.

    Attributes:
        rounds: in their order, shape ``(n,)``.
        audited: the rounds whose outcome is used, in the order in which the outcomes arrive.
        fits_all: whether the rule fits all reports at once.
        weights: after the last round, shape ``(N,)``.
    """

    def __init__(
        self,
        fresh: Callable[[], Aggregator],
        table: ReportTable,
        rounds: IntArray,
        revealed: FloatArray,
        arrival: IntArray,
        keys: Sequence[Key],
        sample_weights: FloatArray | None,
    ) -> None:
        """Take a rule and what it will see.

        Args:
            fresh: makes the rule.
            table: T pairs and N labelers.
            rounds: which of the pairs are the rule's, in their order.
            revealed: outcomes, shape ``(T,)``, NaN where not revealed.
            arrival: how many rounds had been stated when each outcome arrived, shape ``(T,)``, at least t + 1.
            keys: names of the rounds, length T.
            sample_weights: what each outcome counts for, shape ``(T,)``; None: all alike.

        Raises:
            ValueError: more reports than a rule that fits them all at once can take.
        """
        self.rounds, self._table, self._revealed, self._arrival, self._keys = rounds, table, revealed, arrival, keys
        self._fresh, self._rule, self._sample_weights = fresh, fresh(), sample_weights
        self.fits_all = isinstance(self._rule, BatchRule)
        if self.fits_all:
            _check_memory(self._rule, len(rounds), table.n_labelers)
        known = rounds[~np.isnan(revealed[rounds])]
        late = arrival[known] > known + 1  # a pair's own prompt outcome comes before what arrives with it
        self.audited = known[np.lexsort((known, late, arrival[known]))]

    @property
    def weights(self) -> FloatArray:
        """Return the present weights, shape ``(N,)``."""
        return self._rule.weights_

    def pieces(self) -> Iterator[IntArray]:
        """Cut the rounds so that one piece's matrix stays small, however many labelers there are."""
        size = len(self.rounds) if self.fits_all else _PIECE_BYTES // (8 * self._table.n_labelers)
        for first in range(0, len(self.rounds), max(1, size)):
            yield self.rounds[first : first + max(1, size)]

    def run(self, keep_weights: bool) -> Iterator[tuple[Piece, OnlineRun]]:
        """State every round and learn from the outcomes as they arrive, piece by piece."""
        late = self.audited[self._arrival[self.audited] > self.audited + 1]
        for rounds in self.pieces():
            reports = self._table.matrix(rounds)
            run, late = self._state(rounds, reports, late, keep_weights)
            yield Piece(rounds, reports, self._revealed[rounds], run.weights), run
        self._deliver(late, self._table.n_pairs)

    def _state(
        self, rounds: IntArray, reports: FloatArray, late: IntArray, keep_weights: bool
    ) -> tuple[OnlineRun, IntArray]:
        """Run over some rounds; return what was stated, and the late outcomes that are still to come."""
        prompt = np.where(self._arrival[rounds] == rounds + 1, self._revealed[rounds], np.nan)
        parts, first = [], 0
        while first < len(rounds):
            late = self._deliver(late, int(rounds[first]))
            stop = len(rounds)
            if len(late):  # no further than to the next arrival
                stop = max(first + 1, int(np.searchsorted(rounds, self._arrival[late[0]])))
            here = slice(first, stop)
            given = reports[here], prompt[here], self._keys_of(rounds[here])
            weights = self._weights_of(rounds[here])
            parts.append(run_online(self._rule, *given, keep_weights=keep_weights, sample_weights=weights))
            first = stop
        if len(parts) == 1:
            return parts[0], late
        soft_labels = np.concatenate([np.empty(0), *(part.soft_labels for part in parts)])
        empty = np.empty((0, self._table.n_labelers))
        return OnlineRun(soft_labels, np.concatenate([empty, *(part.weights for part in parts)])), late

    def _deliver(self, late: IntArray, n_stated: int) -> IntArray:
        """Learn from the late outcomes that have arrived after ``n_stated`` rounds; return the others."""
        n = int(np.searchsorted(self._arrival[late], n_stated, side="right"))
        for t in late[:n]:
            row, outcome = self._table.matrix(np.array([t]))[0], float(self._revealed[t])
            if self._sample_weights is None:
                self._rule.learn_one(row, outcome)
            else:
                self._rule.learn_one(row, outcome, float(self._sample_weights[t]))
        return late[n:]

    def pooled(self, stated: FloatArray) -> FloatArray:
        """Return the labels of all rounds under the present state, shape ``(n,)``, whatever their outcomes.

        Args:
            stated: what ``run`` stated, shape ``(T,)``.
        """
        if self.fits_all:
            return stated[self.rounds]
        labels = [
            final_labels(self._rule, self._table.matrix(part), np.full(len(part), np.nan), self._keys_of(part))
            for part in self.pieces()
        ]
        return np.concatenate([np.empty(0), *labels])

    def again(self, outcomes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run a fresh rule that learns online with other outcomes, over the audited rounds: no other moves a weight.

        Args:
            outcomes: shape ``(T,)``, NaN where withheld or not revealed.

        Returns:
            Labels of ``audited`` under the last state, shape ``(len(audited),)``, and the last weights, shape ``(N,)``.
        """
        rule, reports, keys = self._fresh(), self._table.matrix(self.audited), self._keys_of(self.audited)
        weights = self._weights_of(self.audited)
        run_online(rule, reports, outcomes[self.audited], keys, keep_weights=False, sample_weights=weights)
        return final_labels(rule, reports, np.full(len(reports), np.nan), keys), rule.weights_

    def _weights_of(self, rounds: IntArray) -> FloatArray | None:
        return None if self._sample_weights is None else self._sample_weights[rounds]

    def _keys_of(self, rounds: IntArray) -> list[Key]:
        return [self._keys[t] for t in rounds.tolist()]


def _check_memory(rule: Aggregator, n_pairs: int, n_labelers: int) -> None:
    needed = 8 * n_pairs * n_labelers
    if needed > _MAX_AT_ONCE_BYTES:
        raise ValueError(
            f"{type(rule).__name__} reads all reports at once: {n_pairs} pairs x {n_labelers} labelers need"
            f" {needed / 2**30:.0f} GB, the limit is {_MAX_AT_ONCE_BYTES / 2**30:.0f}. Rules that learn online, and"
            " mean, work in pieces"
        )
