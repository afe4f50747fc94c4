"""The frame of the multiplicative rules: when weights are divided by their sum, and what counts as an update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from truthful_rlhf.aggregation import make_aggregator, run_online
from truthful_rlhf.aggregation.rules.multiplicative import ROUNDS_PER_SUM, MultiplicativeRule

RULES = ("online_weighted", "linear_weighted", "hedge")
NAN = float("nan")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n_before", [ROUNDS_PER_SUM - 2, ROUNDS_PER_SUM - 1, ROUNDS_PER_SUM, 2 * ROUNDS_PER_SUM - 1])
def test_weights_are_divided_by_their_sum_every_so_many_updates(name: str, n_before: int) -> None:
    """In the loop and in compiled code alike, seen on weights that sum to two."""
    sums = []
    for play in (_learn, _run):
        rule: Any = make_aggregator(name, 2)
        rule.weights_, rule.n_updates_ = np.array([1.5, 0.5]), n_before
        play(rule, [0.9, 0.4], 1.0)
        sums.append(rule.weights_.sum())
    divided = (n_before + 1) % ROUNDS_PER_SUM == 0
    np.testing.assert_allclose(sums, 1.0 if divided else 2.0)


def _learn(rule: Any, reports: list[float], outcome: float) -> None:
    rule.learn_one(reports, outcome)


def _run(rule: Any, reports: list[float], outcome: float) -> None:
    run_online(rule, [reports], [outcome])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("play", [_learn, _run])
def test_an_update_needs_an_outcome_and_two_labelers(name: str, play: Any) -> None:
    rule: Any = make_aggregator(name, 3)
    for reports, outcome in (([0.9, 0.1, 0.5], NAN), ([0.9, NAN, NAN], 1.0), ([NAN, NAN, NAN], 1.0)):
        play(rule, reports, outcome)
        assert rule.n_updates_ == 0
        assert rule.weights_.tolist() == [1 / 3] * 3
    play(rule, [0.9, 0.1, NAN], 1.0)
    assert rule.n_updates_ == 1
    assert rule.weights_[0] > 1 / 3 > rule.weights_[1]


@pytest.mark.parametrize("missing", ["_moved", "_compiled"])
def test_a_rule_without_its_update_is_none(missing: str) -> None:
    methods = {name: lambda *_: None for name in ("_moved", "_compiled") if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Half", (MultiplicativeRule,), methods)(2)
