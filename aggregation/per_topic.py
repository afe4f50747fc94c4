"""Weights per topic: one mechanism for every value of a column.

A labeler that is honest except on one topic keeps a high global weight, and its lies count fully where they hurt. With
one mechanism per topic it is judged on each topic by what it did there. The price is that every topic learns alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import (
    Aggregator,
    FloatArray,
    IntArray,
    Key,
    OnlineRun,
    check_outcomes,
    check_reports,
)
from truthful_rlhf.aggregation.campaign import final_labels, run_online


class PerTopic:
    """Wrap any rule: each topic gets a fresh copy of it when it first appears.

    Attributes:
        rules_: the mechanism of each topic seen.

    Examples:
        >>> from truthful_rlhf.aggregation import make_aggregator
        >>> rule = PerTopic(lambda n: make_aggregator("online_weighted", n, eta=0.5), 2)
        >>> rule.learn_one([1.0, 0.0], outcome=1, topic="code")
        >>> rule.predict_one([1.0, 0.0], topic="code"), rule.predict_one([1.0, 0.0], topic="poems")
        (0.625, 0.5)
    """

    def __init__(self, rule: Any, n_labelers: int) -> None:
        """Take a rule.

        Args:
            rule: from the number of labelers to a fresh aggregator, e.g. ``AGGREGATORS["online_weighted"]``.
            n_labelers: N >= 1.
        """
        self.rule = rule
        self.n_labelers = n_labelers
        self.rules_: dict[Hashable, Aggregator] = {}
        self._fresh: Aggregator = rule(n_labelers)

    def weights(self, topic: Hashable) -> FloatArray:
        """Return the weights on a topic, shape ``(N,)``; those of a fresh rule on a topic not seen yet."""
        return self.rules_.get(topic, self._fresh).weights_

    def predict_one(self, reports: FloatArray, topic: Hashable, key: Key | None = None) -> float:
        """Return P(A better) for one round of reports, shape ``(N,)``; changes nothing.

        Args:
            reports: shape ``(N,)``.
            topic: of the pair.
            key: the pair's id, for rules whose label is drawn from a secret.
        """
        rule = self.rules_.get(topic, self._fresh)
        return rule.predict_one(reports) if key is None else rule.predict_one(reports, key)

    def learn_one(self, reports: FloatArray, outcome: float, topic: Hashable) -> None:
        """Learn from one round about its topic."""
        self._mechanism(topic).learn_one(reports, outcome)

    def run_online(
        self,
        reports: ArrayLike,
        outcomes: ArrayLike,
        topics: Sequence[Hashable],
        keys: Sequence[Key] | None = None,
    ) -> OnlineRun:
        """Run a campaign as ``aggregation.run_online`` does, every round under the mechanism of its topic.

        Args:
            reports: shape ``(T, N)``.
            outcomes: shape ``(T,)``.
            topics: length T.
            keys: length T, the pairs' ids, for rules whose label is drawn from a secret.

        Returns:
            Soft labels, and the weights *of each round's topic* before the round.
        """
        matrix, vector = self._checked(reports, outcomes)
        soft_labels, weights = np.empty(len(matrix)), np.empty(matrix.shape)
        for topic, rows in _rounds_by_topic(topics, len(matrix)):
            run = run_online(self._mechanism(topic), matrix[rows], vector[rows], _picked(keys, rows))
            soft_labels[rows], weights[rows] = run.soft_labels, run.weights
        return OnlineRun(soft_labels, weights)

    def final_labels(
        self,
        reports: ArrayLike,
        outcomes: ArrayLike,
        topics: Sequence[Hashable],
        keys: Sequence[Key] | None = None,
    ) -> FloatArray:
        """Re-aggregate every pair with the last state of its topic's mechanism; audited pairs take their outcome.

        Arguments as in ``run_online``.
        """
        matrix, vector = self._checked(reports, outcomes)
        labels = np.empty(len(matrix))
        for topic, rows in _rounds_by_topic(topics, len(matrix)):
            rule = self.rules_.get(topic, self._fresh)
            labels[rows] = final_labels(rule, matrix[rows], vector[rows], _picked(keys, rows))
        return labels

    def _mechanism(self, topic: Hashable) -> Aggregator:
        if topic not in self.rules_:
            self.rules_[topic] = self.rule(self.n_labelers)
        return self.rules_[topic]

    def _checked(self, reports: ArrayLike, outcomes: ArrayLike) -> tuple[FloatArray, FloatArray]:
        matrix = check_reports(reports, self.n_labelers)
        return matrix, check_outcomes(outcomes, len(matrix))


def _picked(keys: Sequence[Key] | None, rows: IntArray) -> list[Key] | None:
    return None if keys is None else [keys[t] for t in rows]


def _rounds_by_topic(topics: Iterable[Hashable], n_rounds: int) -> Iterator[tuple[Hashable, IntArray]]:
    rounds: dict[Hashable, list[int]] = {}
    n_topics = 0
    for t, topic in enumerate(topics):
        rounds.setdefault(topic, []).append(t)
        n_topics += 1
    if n_topics != n_rounds:
        raise ValueError(f"topics must have one entry per round: {n_rounds} rounds, {n_topics} topics")
    for topic, rows in rounds.items():
        yield topic, np.array(rows, dtype=np.int64)
