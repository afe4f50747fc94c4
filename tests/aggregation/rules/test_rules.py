"""Single rules: hand-computed rounds, the peers behind the adapter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.rules import make_aggregator
from truthful_rlhf.aggregation import (
    AGGREGATORS,
    OnlineWeighted,
    final_labels,
    run_online,
)
from truthful_rlhf.aggregation.base import FloatArray, WholeCampaigns, check_reports
from truthful_rlhf.aggregation.statistics import accuracy

NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "options", "reports", "label"),
    [
        ("mean", {}, [0.2, 0.4, 0.9], 0.5),
        ("median", {}, [0.2, 0.4, 0.9], 0.4),
        ("median", {}, [0.2, NAN, 0.9], 0.5),
        ("trimmed_mean", {"trim": 0.34}, [0.2, 0.4, 0.9], 0.4),
        ("trimmed_mean", {"trim": 0.0}, [0.2, 0.4, 0.9], 0.5),
        ("majority", {}, [0.2, 0.4, 0.9], 1 / 3),
        ("majority", {}, [0.5, 0.4, NAN], 0.25),
        ("online_weighted", {}, [0.2, 0.4, 0.9], 0.5),
    ],
)
def test_one_round_by_hand(name: str, options: dict[str, float], reports: list[float], label: float) -> None:
    assert AGGREGATORS[name](3, **options).predict_one(reports) == pytest.approx(label, abs=1e-15)


def test_one_update_by_hand() -> None:
    """y = 1, reports 1, 0, absent; scores 1, 0, mean 1/2: weights (1 + eta/2)/3, (1 - eta/2)/3, 1/3."""
    rule = OnlineWeighted(3, eta=0.4)
    rule.learn_one(np.array([1.0, 0.0, NAN]), 1.0)
    np.testing.assert_allclose(rule.weights_, [1.2 / 3, 0.8 / 3, 1 / 3], atol=1e-15)
    shared = OnlineWeighted(3, eta=0.4, fixed_share=0.5)  # half way back to the mean of those present
    shared.learn_one(np.array([1.0, 0.0, NAN]), 1.0)
    np.testing.assert_allclose(shared.weights_, [1.1 / 3, 0.9 / 3, 1 / 3], atol=1e-15)


def crowd(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    truth = (rng.random(150) < 0.5).astype(np.float64)
    skill = np.array([0.95, 0.9, 0.6, 0.55, 0.5])
    votes = np.where(rng.random((150, 5)) < skill, truth[:, None], 1.0 - truth[:, None])
    votes[rng.random(votes.shape) < 0.2] = NAN
    return votes, truth


@pytest.mark.parametrize(("name", "peer"), [("dawid_skene", "DawidSkene"), ("glad", "GLAD"), ("mace", "MACE")])
def test_batch_rules_are_the_peers(name: str, peer: str) -> None:
    import crowdkit.aggregation as crowdkit

    votes, truth = crowd(np.random.default_rng(0))
    tasks, workers = np.nonzero(~np.isnan(votes))
    table = pd.DataFrame({"task": tasks, "worker": workers, "label": votes[tasks, workers].astype(int)})
    vote_for_a = 1
    if peer == "MACE":  # right only where names are numbers by appearance: see MaceRule
        table["worker"] = pd.factorize(table["worker"])[0]
        table["label"], directions = pd.factorize(table["label"])
        vote_for_a = list(directions).index(1)
    expected = getattr(crowdkit, peer)().fit_predict_proba(table)[vote_for_a]
    rule = AGGREGATORS[name](5)
    soft_labels = run_online(rule, votes, np.full(150, NAN)).soft_labels
    np.testing.assert_allclose(soft_labels[expected.index], expected, atol=1e-9)
    assert rule.weights_[:2].min() > rule.weights_[2:].max()
    new = final_labels(rule, votes, np.full(150, NAN))
    assert accuracy(new, truth) > accuracy(AGGREGATORS["majority"](5).predict_many(votes), truth)


@pytest.mark.parametrize("name", ["glad", "mace"])
def test_rules_that_see_no_outcomes_believe_a_wrong_majority(name: str) -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(200) < 0.5).astype(np.float64)
    common = np.where(rng.random(200) < 0.35, truth, 1.0 - truth)  # five labelers err together, one knows
    reports = np.column_stack([truth, *(np.where(rng.random(200) < 0.95, common, 1 - common) for _ in range(5))])
    assert not AGGREGATORS[name].sees_outcomes
    batch = run_online(AGGREGATORS[name](6), reports, truth).soft_labels
    np.testing.assert_array_equal(batch, run_online(AGGREGATORS[name](6), reports, np.full(200, NAN)).soft_labels)
    assert accuracy(batch, truth) < 0.5
    revealed = np.where(np.arange(200) % 10 == 0, truth, NAN)
    rule = OnlineWeighted(6)
    run_online(rule, reports, revealed)
    labels = final_labels(rule, reports, revealed)
    assert accuracy(labels[np.isnan(revealed)], truth[np.isnan(revealed)]) > 0.95


@pytest.mark.parametrize("name", ["dawid_skene", "glad", "mace"])
@pytest.mark.parametrize("vote", [0.0, 1.0])
def test_one_sided_votes_are_no_accident(name: str, vote: float) -> None:
    labels = run_online(AGGREGATORS[name](3), np.full((4, 3), vote), np.full(4, NAN)).soft_labels
    np.testing.assert_allclose(labels, vote, atol=1e-6)


def test_a_panel_that_only_ever_voted_one_way_is_taken_at_its_word() -> None:
    rule = AGGREGATORS["glad"](3, n_iter=1)
    run_online(rule, np.ones((4, 3)), np.full(4, NAN))
    np.testing.assert_allclose(rule.vote_chances_, np.tile([0.0, 1.0], (3, 1)), atol=1e-3)


@pytest.mark.parametrize(("name", "option"), [("trimmed_mean", {"trim": 0.5}), ("dawid_skene", {"n_iter": 0})])
def test_options_just_outside_their_range_are_refused(name: str, option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        AGGREGATORS[name](3, **option)


def test_final_labels_follow_the_good_minority_with_a_tenth_audited() -> None:
    """Thirty correlated labelers of whom most err together: the majority is right about 60 % of the time."""
    scores = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = (rng.random(419) < 0.5).astype(np.float64)
        side, shared = 2.0 * truth[:, None] - 1.0, rng.standard_normal((419, 1))
        good = 1.3 * side + 1.0 * rng.standard_normal((419, 5))
        poor = 0.25 * side + 1.0 * shared + 0.6 * rng.standard_normal((419, 25))
        reports = 1.0 / (1.0 + np.exp(-np.hstack([good, poor])))
        revealed = np.where(rng.permutation(419) < 42, truth, NAN)
        rule = OnlineWeighted(30)
        run_online(rule, reports, revealed)
        hidden = np.isnan(revealed)
        labels = final_labels(rule, reports, revealed)[hidden]
        majority = AGGREGATORS["majority"](30).predict_many(reports)[hidden]
        scores.append((accuracy(labels, truth[hidden]), accuracy(majority, truth[hidden])))
    mechanism, majority = np.mean(scores, axis=0)
    assert majority < 0.68
    assert mechanism > 0.84


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_weights_before_every_round_are_kept_unless_refused(name: str) -> None:
    reports, outcomes = np.random.default_rng(0).random((20, 3)), np.full(20, NAN)
    assert run_online(make_aggregator(name, 3), reports, outcomes).weights.shape == (20, 3)
    if isinstance(rule := make_aggregator(name, 3), WholeCampaigns):
        assert rule.run(reports, outcomes, keep_weights=True).weights.shape == (20, 3)


def test_a_panel_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one labeler"):
        check_reports(np.empty((3, 0)))
