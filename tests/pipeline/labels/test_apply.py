"""From reports to oriented soft labels, on hand-computed campaigns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.experiment.pairs import draw_outcomes, recorded_pairs
from truthful_rlhf.pipeline.labels.apply import label_quality, orient
from truthful_rlhf.reward_model.gold import VaderGold


def test_a_rule_of_a_config_is_label_campaign_with_its_options() -> None:
    reports, outcomes = np.tile([0.9, 0.1], (3, 1)), np.array([1.0, np.nan, np.nan])
    rule = RuleSection(name="online_weighted", options={"eta": 0.5}, labels="reweighted")
    # by hand: s = (.99, .19), mean .59, weights .5 (1 +- .5 * .4) = (.6, .4); label .6 * .9 + .4 * .1 = .58
    np.testing.assert_allclose(rule.label(reports, outcomes, ["x", "x", "y"]).soft_labels, [0.58] * 3)
    by_topic = rule.model_copy(update={"per_topic": True})
    np.testing.assert_allclose(by_topic.label(reports, outcomes, ["x", "x", "y"]).soft_labels, [0.58, 0.58, 0.5])


def test_a_pair_that_nobody_judged_trains_nothing() -> None:
    pairs = pd.DataFrame({"pair_id": ["x", "y"], "prompt": "p", "response_a": "a", "response_b": "b"})
    table = orient(pairs, np.array([np.nan, 0.2]), np.array([0, 3]), np.array([True, False]))
    assert table["pair_id"].tolist() == ["y"]
    assert label_quality(np.array([np.nan, 0.2]), np.array([0.9, 0.2]), np.array([True, False]))["brier"] == 0.0


def test_a_pair_is_oriented_towards_its_likelier_response() -> None:
    pairs = pd.DataFrame({"pair_id": ["x", "y"], "prompt": "p", "response_a": "a", "response_b": "b"})
    table = orient(pairs, np.array([0.7, 0.2]), np.array([3, 3]), np.array([False, True]))
    assert table["chosen"].tolist() == ["a", "b"]
    assert table["rejected"].tolist() == ["b", "a"]
    np.testing.assert_allclose(table["soft_label"], [0.7, 0.8])
    assert (table["soft_label"] >= 0.5).all()


def test_label_quality_counts_ties_half_and_keeps_audited_pairs_apart() -> None:
    quality = label_quality(
        np.array([0.9, 0.5, 0.9, 1.0]), np.array([0.8, 0.8, 0.2, 0.9]), np.array([False, False, False, True])
    )
    assert quality["label_accuracy"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert quality["label_accuracy_unaudited"] == pytest.approx(1.5 / 3)
    assert quality["brier"] == pytest.approx((0.01 + 0.09 + 0.49 + 0.01) / 4)


def test_pairs_of_equally_good_responses_have_no_direction() -> None:
    quality = label_quality(np.array([0.9, 0.9]), np.array([0.8, 0.5]), np.array([False, False]))
    assert quality["label_accuracy"] == quality["label_accuracy_unaudited"] == 1.0
    assert quality["brier"] == pytest.approx((0.01 + 0.16) / 2)
    assert label_quality(np.array([0.9]), np.array([0.5]), np.array([False]))["label_accuracy"] is None


def test_recorded_pairs_take_their_outcomes_as_the_truth_and_the_gold_reward_where_there_is_none(
    tmp_path: Path,
) -> None:
    rows = [
        ("p1", "Hello", " good", " bad", "ann", 0.9, 0.0),  # the recorded outcome contradicts the gold reward
        ("p1", "Hello", " good", " bad", "bob", 0.2, 0.0),
        ("p2", "Bye", " awful", " wonderful", "ann", 0.4, None),
    ]
    names = ["pair_id", "prompt", "response_a", "response_b", "labeler_id", "report", "outcome"]
    file = tmp_path / "people.csv"
    pd.DataFrame(rows, columns=names).to_csv(file, index=False)
    pairs = recorded_pairs(file, VaderGold())
    assert pairs["pair_id"].tolist() == ["p1", "p2"]
    assert (pairs["gold_a"] > pairs["gold_b"]).tolist() == [True, False]
    outcomes = draw_outcomes(pairs, 5.0, 1.0, np.random.default_rng(0))
    assert outcomes["p_truth"][0] == outcomes["outcome"][0] == 0.0
    assert outcomes["p_truth"][1] < 0.1
    assert outcomes["audited"].all()


def test_more_audits_reveal_more_of_the_same_outcomes() -> None:
    gold = np.random.default_rng(1).normal(size=(2, 50))
    pairs = pd.DataFrame({"pair_id": range(50), "gold_a": gold[0], "gold_b": gold[1]})
    few, many = (draw_outcomes(pairs, 5.0, rate, np.random.default_rng(0)) for rate in (0.1, 0.5))
    assert (few["audited"].sum(), many["audited"].sum()) == (5, 25)
    assert many["audited"][few["audited"]].all()
    assert (few["outcome"] == many["outcome"]).all()
    other = draw_outcomes(pairs, 5.0, 0.5, np.random.default_rng(3))
    assert not other["audited"][few["audited"]].all(), "the control: other audits are not among them"


def test_recorded_pairs_need_texts(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    pd.DataFrame({"pair_id": ["p1"], "labeler_id": ["ann"], "report": [0.9]}).to_csv(file, index=False)
    with pytest.raises(AnnotationError, match=r"people\.csv.*needs prompt, response_a, response_b"):
        recorded_pairs(file, VaderGold())
