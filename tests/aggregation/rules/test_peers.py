"""Rules that are fitted to audited outcomes: no outcome leaks into what is said about its own pair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit

from tests.rules import make_aggregator
from truthful_rlhf.aggregation import AGGREGATORS, run_online
from truthful_rlhf.aggregation.auditing.folds import audit_folds, scaled_weights
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.map_logistic import fit_map
from truthful_rlhf.aggregation.rules.gold_vote import GoldVote
from truthful_rlhf.aggregation.rules.logistic import Logistic
from truthful_rlhf.aggregation.statistics import accuracy

NAN = float("nan")
OUTCOME_RULES: list[Any] = [GoldVote, Logistic]


def coin_votes(n_rounds: int = 300, n_labelers: int = 5, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return votes and outcomes that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    return rng.integers(2, size=(n_rounds, n_labelers)).astype(np.float64), rng.integers(2, size=n_rounds).astype(float)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_coin_votes_are_right_on_half_of_the_audited_pairs(name: str) -> None:
    """What a rule states about an audited pair has not seen its outcome: within 3.5 standard errors of 1/2."""
    votes, outcomes = coin_votes()
    stated = run_online(make_aggregator(name, 5), votes, outcomes).soft_labels
    assert abs(accuracy(stated, outcomes) - 0.5) < 3.5 * 0.5 / math.sqrt(300)


def test_control_in_sample_labels_repeat_the_outcomes() -> None:
    """Dawid-Skene with the audited outcomes is right on all of them; logistic regression on more than half."""
    votes, outcomes = coin_votes()
    assert accuracy(AGGREGATORS["dawid_skene"](5).fit(votes, outcomes), outcomes) == 1.0
    votes, outcomes = coin_votes(60, 40)
    rule = Logistic(40)
    rule.fit(votes, outcomes)
    assert accuracy(rule.predict_many(votes), outcomes) > 0.75


def test_dawid_skene_is_the_peer_given_the_same_outcomes() -> None:
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=120).astype(np.float64)
    votes = np.where(rng.random((120, 4)) < (0.9, 0.8, 0.4, 0.3), truth[:, None], 1.0 - truth[:, None])
    revealed = np.where(np.arange(120) < 40, truth, NAN)
    tasks, workers = np.nonzero(np.ones_like(votes))
    table = pd.DataFrame({"task": tasks, "worker": workers, "label": votes.astype(int).ravel()})
    expected = DawidSkene().fit_predict_proba(table, pd.Series(truth[:40].astype(int)))[1]
    labels = run_online(AGGREGATORS["dawid_skene"](4), votes, revealed).soft_labels
    np.testing.assert_allclose(labels[40:], expected[40:], atol=1e-12)
    blind = run_online(AGGREGATORS["dawid_skene"](4), votes, np.full(120, NAN)).soft_labels
    assert np.abs(labels - blind)[40:].max() > 0.01
    assert AGGREGATORS["dawid_skene"].sees_outcomes


@pytest.mark.parametrize("vote", [0.0, 1.0])
def test_outcomes_cannot_break_a_campaign_with_votes_for_one_side_only(vote: float) -> None:
    outcomes = np.array([1.0, 0.0, NAN, 1.0])
    labels = run_online(AGGREGATORS["dawid_skene"](3), np.full((4, 3), vote), outcomes).soft_labels
    np.testing.assert_allclose(labels, vote, atol=1e-6)


# --- folds and weights ----------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 1.0, NAN]), max_size=60))
def test_folds_depend_on_the_order_of_the_audits_only(outcomes: list[float]) -> None:
    vector = np.array(outcomes, dtype=np.float64)
    folds = audit_folds(vector)
    known = ~np.isnan(vector)
    assert (folds[~known] == -1).all()
    sizes = np.bincount(folds[known], minlength=1)
    assert sizes.max(initial=0) - sizes[sizes > 0].min(initial=99) <= 1
    np.testing.assert_array_equal(folds, audit_folds(1.0 - vector))


def test_weights_add_up_to_the_number_of_equal_ones_that_tell_as_much() -> None:
    """Kish: (1 + 1 + 2)^2 / (1 + 1 + 4) = 8 / 3; a common factor changes nothing, equal weights count one each."""
    outcomes = np.array([1.0, NAN, 0.0, 1.0])
    weights = scaled_weights([1.0, 99.0, 1.0, 2.0], outcomes)
    np.testing.assert_allclose(weights, np.array([1.0, 1.0, 2.0]) * (8 / 3) / 4)
    np.testing.assert_allclose(scaled_weights([10.0, 0.0, 10.0, 20.0], outcomes), weights)
    np.testing.assert_allclose(scaled_weights([7.0] * 4, outcomes), np.ones(3))
    np.testing.assert_allclose(scaled_weights(None, outcomes), np.ones(3))
    for bad in ([1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, np.inf, 1.0]):
        with pytest.raises(ValueError, match="sample_weights"):
            scaled_weights(bad, outcomes)


@pytest.mark.parametrize("rule", OUTCOME_RULES)
def test_a_common_factor_of_the_weights_changes_nothing_and_unequal_ones_do(rule: Any) -> None:
    rng = np.random.default_rng(3)
    outcomes = rng.integers(2, size=60).astype(np.float64)
    reports = np.clip(0.5 + 0.3 * (outcomes[:, None] - 0.5) + rng.normal(0, 0.2, (60, 3)), 0, 1)
    given_weights = rng.uniform(1.0, 20.0, 60)

    def labels(weights: FloatArray | None) -> FloatArray:
        aggregator = rule(3)
        aggregator.run(reports, outcomes, False, sample_weights=weights)
        result: FloatArray = aggregator.predict_many(reports)
        return result

    np.testing.assert_allclose(labels(np.full(60, 8.0)), labels(None), atol=1e-9)
    np.testing.assert_allclose(labels(3.0 * given_weights), labels(given_weights), atol=1e-9)
    assert np.abs(labels(given_weights) - labels(None)).max() > 1e-3
    looped = rule(3)
    for row, outcome, weight in zip(reports, outcomes, given_weights, strict=True):
        looped.learn_one(row, outcome, weight)
    np.testing.assert_allclose(looped.predict_many(reports), labels(given_weights), atol=1e-12)
    with pytest.raises(ValueError, match="sample_weight"):
        looped.learn_one(reports[0], 1.0, 0.0)


def test_weights_undo_audits_that_prefer_disagreement() -> None:
    """A labeler right on 3/4 of the pairs, errs where it disagrees; those pairs are audited five times as often."""
    rng = np.random.default_rng(0)
    outcomes = rng.integers(2, size=4000).astype(np.float64)
    wrong = rng.random(4000) < 0.25
    reports = np.where(wrong, 1.0 - outcomes, outcomes)[:, None]
    chance = np.where(wrong, 0.5, 0.1)
    revealed = np.where(rng.random(4000) < chance, outcomes, NAN)
    chances = {}
    for name, weights in (("weighted", 1.0 / chance), ("unweighted", None)):
        rule = GoldVote(1)
        rule.run(reports, revealed, False, sample_weights=weights)
        chances[name] = float(expit(rule.log_odds_[0]))
    assert abs(chances["weighted"] - 0.75) < 0.03
    assert chances["unweighted"] < 0.5


# --- gold vote ------------------------------------------------------------------------------------------------------


def test_gold_vote_by_hand() -> None:
    """Three audits: chances (2 + 3) / 6, (2 + 1.5) / 6 for one tie, one hit and one miss, (2 + 1) / (3 + 2)."""
    rule = GoldVote(3)
    for row, outcome in (([1, 0.5, 0], 1), ([0, 0, NAN], 0), ([1, 0, 1], 1)):
        rule.learn_one(np.array(row, dtype=np.float64), outcome)
    chances = np.array([5 / 6, 3.5 / 6, 3 / 5])
    np.testing.assert_allclose(expit(rule.log_odds_), chances)
    odds = (5 / 1) * (2.5 / 3.5) * (3 / 2)
    assert rule.predict_one(np.array([1.0, 0.0, 1.0])) == pytest.approx(odds / (1 + odds))
    assert rule.predict_one(np.array([0.5, NAN, 0.5])) == 0.5
    np.testing.assert_allclose(rule.weights_, rule.log_odds_ / rule.log_odds_.sum())


def test_a_labeler_that_is_always_wrong_counts_for_the_other_side() -> None:
    rule = GoldVote(1)
    for _ in range(5):
        rule.learn_one(np.array([0.0]), 1.0)
    assert rule.predict_one(np.array([0.0])) == pytest.approx(6 / 8)  # (1 + 5) / (3 + 5)


# --- logistic regression --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_the_maximum_is_the_maximum(seed: int, n: int, d: int) -> None:
    """Against a general-purpose optimiser, with more features than observations and with fewer."""
    rng = np.random.default_rng(seed)
    towards, weights = rng.normal(size=(n, d)), rng.uniform(0.2, 2.0, n)
    means, deviations = rng.normal(size=d), rng.uniform(0.3, 2.0, d)

    def misfit(beta: FloatArray) -> float:
        prior = 0.5 * (((beta - means) / deviations) ** 2).sum()
        return float(weights @ np.logaddexp(0.0, -towards @ beta) + prior)

    found = fit_map(towards, weights, means, deviations)
    other = minimize(misfit, means, method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found.coefficients, other.x, atol=2e-5)
    again = fit_map(towards, weights, means, deviations, start=rng.normal(size=d))
    np.testing.assert_allclose(again.coefficients, found.coefficients, atol=1e-6)
    assert again.log_evidence == pytest.approx(found.log_evidence, abs=1e-6)


def test_the_evidence_is_the_probability_of_the_outcomes() -> None:
    """One coefficient: the integral by quadrature. Laplace's approximation is within 3 % here."""
    rng = np.random.default_rng(0)
    towards = np.abs(rng.normal(size=(30, 1))) * rng.choice([-1.0, 1.0, 1.0], size=(30, 1))

    def integrand(beta: float) -> float:
        likelihood = np.prod(expit(towards[:, 0] * beta))
        return float(likelihood * math.exp(-0.5 * ((beta - 1.0) / 0.7) ** 2) / (0.7 * math.sqrt(2 * math.pi)))

    exact = math.log(quad(integrand, -6, 8, points=[0.5, 1.0])[0])
    found = fit_map(towards, np.ones(30), np.array([1.0]), np.array([0.7])).log_evidence
    assert found == pytest.approx(exact, abs=0.03)
    without = fit_map(np.empty((0, 1)), np.empty(0), np.array([1.0]), np.array([0.7]))
    assert without.coefficients.tolist() == [1.0]
    assert without.log_evidence == 0.0


def test_twins_share_one_coefficient_and_liars_get_a_negative_one() -> None:
    rng = np.random.default_rng(4)
    outcomes = rng.integers(2, size=200).astype(np.float64)
    seen = np.where(rng.random(200) < 0.8, outcomes, 1.0 - outcomes)
    reports = np.column_stack([seen, seen, 1.0 - outcomes, rng.integers(2, size=200)])
    rule = Logistic(4)
    rule.fit(reports, outcomes)
    assert rule.coefficients_[0] == pytest.approx(rule.coefficients_[1], abs=1e-6)
    assert rule.coefficients_[2] < -1.0
    assert abs(rule.coefficients_[3]) < 0.5
    assert rule.weights_.argmax() == 2
    online = Logistic(4)
    online.run(reports, outcomes, keep_weights=False)  # chose its prior a few audits ago
    np.testing.assert_allclose(online.predict_many(reports), rule.predict_many(reports), atol=0.02)
