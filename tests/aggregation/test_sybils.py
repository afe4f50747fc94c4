"""Sybils: a labeler that splits into several accounts (``aggregation.rules.online_weighted``, paragraph "Sybils").

What holds exactly: identical reports, and one initial weight for all accounts together, change nothing. What does not:
equal weights per account, and accounts whose reports differ. What remains then: a regret bound with ln(N + k - 1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregation.test_theorems import expected_share
from truthful_rlhf.aggregation import OnlineWeighted, final_labels, make_aggregator, regret, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.step_size import AnytimeStep

thorough = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
N_ROUNDS = 80  # three labelers' first epoch of eta="auto", with its mixing, ends after 28


def campaign(seed: int, n_labelers: int) -> tuple[FloatArray, FloatArray]:
    """Return random reports with absences (labeler 0 is always there) and outcomes, a third of them not revealed."""
    rng = np.random.default_rng(seed)
    reports = rng.random((N_ROUNDS, n_labelers))
    reports[:, 1:][rng.random((N_ROUNDS, n_labelers - 1)) < 0.2] = np.nan
    outcomes = (rng.random(N_ROUNDS) < 0.5).astype(np.float64)
    return reports, np.where(rng.random(N_ROUNDS) < 1 / 3, np.nan, outcomes)


def split_last(reports: FloatArray, n_accounts: int) -> FloatArray:
    """Return the reports with the last labeler's column repeated."""
    return np.hstack([reports[:, :-1], np.repeat(reports[:, -1:], n_accounts, axis=1)])


def honest_and_liar(n_rounds: int, n_honest: int, n_accounts: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return fairly good reports of the honest, the certain opposite of the outcome from the others, and outcomes."""
    rng = np.random.default_rng(seed)
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    honest = np.clip(outcomes[:, None] + 0.45 * rng.standard_normal((n_rounds, n_honest)), 0.0, 1.0)
    return np.hstack([honest, np.repeat(1.0 - outcomes[:, None], n_accounts, axis=1)]), outcomes


# --- what holds exactly -------------------------------------------------------------------------------------------


@thorough
@given(
    seed=seeds,
    n_labelers=st.integers(2, 6),
    n_accounts=st.integers(2, 10),
    eta=st.sampled_from([0.05, 0.5, "auto"]),
    fixed_share=st.sampled_from([0.0, 0.05]),
)
def test_splitting_changes_nothing_if_accounts_share_a_weight(seed, n_labelers, n_accounts, eta, fixed_share) -> None:  # type: ignore[no-untyped-def]
    """Identical reports, initial weights that add up to one labeler's in any proportion: the same labels, online and
    final, the same joint weight and the same weights of the others, in every round, compiled and round by round.
    """
    reports, outcomes = campaign(seed, n_labelers)
    split = split_last(reports, n_accounts)
    parts = np.random.default_rng(seed).dirichlet(np.ones(n_accounts)) + 1e-6
    initial = np.append(np.ones(n_labelers - 1), parts / parts.sum())
    one = OnlineWeighted(n_labelers, eta, fixed_share)
    many = OnlineWeighted(n_labelers + n_accounts - 1, eta, fixed_share, initial_weights=initial)
    by_round = OnlineWeighted(n_labelers + n_accounts - 1, eta, fixed_share, initial_weights=initial)
    whole, parted = run_online(one, reports, outcomes), run_online(many, split, outcomes)
    np.testing.assert_allclose(parted.soft_labels, whole.soft_labels, rtol=0, atol=1e-12)
    joint = np.column_stack([parted.weights[:, : n_labelers - 1], parted.weights[:, n_labelers - 1 :].sum(axis=1)])
    np.testing.assert_allclose(joint, whole.weights, rtol=0, atol=1e-12)
    final = final_labels(many, split, outcomes)
    np.testing.assert_allclose(final, final_labels(one, reports, outcomes), rtol=0, atol=1e-12)
    for row, outcome in zip(split, outcomes, strict=True):
        by_round.learn_one(row, outcome)
    np.testing.assert_allclose(by_round.weights_, many.weights_, rtol=0, atol=1e-12)


def test_a_person_alone_with_two_accounts_moves_nothing_under_a_constant_step() -> None:
    reports = np.array([[0.9, 0.2], [np.nan, 0.3], [0.7, 0.1]])
    outcomes = np.array([1.0, 1.0, 0.0])
    one = run_online(OnlineWeighted(2, 0.5), reports, outcomes)
    many = run_online(OnlineWeighted(3, 0.5, initial_weights=[1, 0.5, 0.5]), split_last(reports, 2), outcomes)
    np.testing.assert_allclose(many.soft_labels, one.soft_labels, rtol=0, atol=1e-15)


@thorough
@given(seed=seeds, n_labelers=st.integers(2, 8), eta=st.sampled_from([0.05, 0.2, 0.5]))
def test_regret_from_unequal_initial_weights(seed: int, n_labelers: int, eta: float) -> None:
    """Against every labeler i with all present: at most ln(1 / pi_1i) / eta + eta T."""
    rng = np.random.default_rng(seed)
    initial = rng.dirichlet(np.full(n_labelers, 0.5)) + 1e-9
    outcomes = (rng.random(200) < 0.5).astype(np.float64)
    reports = (rng.random((200, n_labelers)) < 0.5).astype(np.float64)
    reports[:, initial.argmin()] = outcomes  # the smallest prior has to be overcome
    rule = OnlineWeighted(n_labelers, eta, initial_weights=initial)
    labels = run_online(rule, reports, outcomes).soft_labels
    for i, weight in enumerate(initial / initial.sum()):
        assert regret(labels, reports[:, [i]], outcomes)[-1] <= -math.log(weight) / eta + eta * 200


def test_the_belief_still_maximises_the_expected_next_weight() -> None:
    initial, others = [0.5, 3.0, 1.0], np.array([0.9, 0.2])
    lies = np.linspace(0.0, 1.0, 11)
    for belief in (0.0, 0.35, 1.0):
        shares = expected_share(
            lambda: OnlineWeighted(3, 0.4, 0.1, initial_weights=initial), others, belief, np.append(lies, belief)
        )
        weight = 0.5 / 4.5
        loss = 0.4 * 0.9 * weight * (1.0 - weight) * (lies - belief) ** 2
        np.testing.assert_allclose(shares[-1] - shares[:-1], loss, rtol=0, atol=1e-14)


# --- what does not: negative controls -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "median", "majority", "trimmed_mean", "hedge", "online_weighted"])
def test_control_splitting_moves_labels_where_every_account_counts(name: str) -> None:
    reports, outcomes = campaign(1, 4)
    alone = run_online(make_aggregator(name, 4), reports, outcomes).soft_labels
    split = run_online(make_aggregator(name, 9), split_last(reports, 6), outcomes).soft_labels
    assert np.abs(split - alone).max() > 0.05


def test_control_accounts_that_differ_are_not_one_labeler() -> None:
    """A shared initial weight is no cure for accounts with reports of their own: they are several opinions."""
    reports, outcomes = campaign(1, 4)
    split = split_last(reports, 2)
    split[:, -1] = 1.0 - split[:, -1]
    one = run_online(OnlineWeighted(4), reports, outcomes).soft_labels
    two = run_online(OnlineWeighted(5, initial_weights=[1, 1, 1, 0.5, 0.5]), split, outcomes).soft_labels
    assert np.abs(two - one).max() > 0.05


# --- what remains with equal weights per account ----------------------------------------------------------------------


@pytest.mark.parametrize("n_accounts", [1, 10, 100])
def test_unknown_sybils_cost_a_logarithm(n_accounts: int) -> None:
    """Certain and always wrong, k accounts against ten: the regret bound has ln(N + k - 1), and the mean breaks it."""
    n_rounds, eta = 2000, 0.05
    reports, outcomes = honest_and_liar(n_rounds, 10, n_accounts)
    bound = math.log(10 + n_accounts) / eta + eta * n_rounds
    labels = run_online(OnlineWeighted(10 + n_accounts, eta), reports, outcomes).soft_labels
    assert regret(labels, reports, outcomes)[-1] <= bound
    if n_accounts > 10:
        mean = run_online(make_aggregator("mean", 10 + n_accounts), reports, outcomes).soft_labels
        assert regret(mean, reports, outcomes)[-1] > 5 * bound


def test_unknown_sybils_lose_their_weight_in_audited_rounds_only() -> None:
    reports, outcomes = honest_and_liar(300, 10, 100)
    audited, ignored = OnlineWeighted(110), OnlineWeighted(110)
    weights = run_online(audited, reports, outcomes).weights[:, 10:].sum(axis=1)
    run_online(ignored, reports, np.full(300, np.nan))
    assert weights[0] == pytest.approx(100 / 110)
    assert weights[30] < 0.01
    assert audited.weights_[10:].sum() < 0.1  # what the end of the first epoch mixes back in is lost again
    assert ignored.weights_[10:].sum() == pytest.approx(100 / 110)


# --- the option -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ([1, 1], r"one entry per labeler \(3\), got shape \(2,\)"),
        ([[1, 1, 1]], r"got shape \(1, 3\)"),
        ([1, 0, 1], "labeler 1 has 0.0"),
        ([1, 1, -2], "labeler 2 has -2.0"),
        ([np.nan, 1, 1], "labeler 0 has nan"),
        ([1, np.inf, 1], "labeler 1 has inf"),
        ([1, 1e308, 1e-308], "labeler 2 would start with 0"),
        ({"expert": 2}, "must be numbers, one per labeler"),
        ([1, "much", 1], "must be numbers, one per labeler"),
    ],
)
def test_bad_initial_weights_are_named(initial: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_aggregator("online_weighted", 3, initial_weights=initial)


def test_the_anytime_step_counts_labelers_by_the_largest_initial_weight() -> None:
    """One labeler with half of the weight: as if there were two. Its first epoch ends with the step halved."""
    rule = OnlineWeighted(3, initial_weights=[2, 1, 1])
    first = AnytimeStep(2.0).first_epoch
    assert AnytimeStep(3.0).first_epoch > first
    ratios = []
    for t in range(first + 1):
        before = rule.weights_.copy()
        rule.learn_one(np.array([0.5, 0.5, 1.0 if t in (0, first) else 0.5]), 1.0)
        lead = 0.25 * (1.0 - before[2])  # losses .25, .25, 0
        ratios.append((rule.weights_[2] / before[2] - 1.0) / lead)
    assert ratios[0] == pytest.approx(0.5, abs=1e-9)
    assert ratios[first] == pytest.approx(0.25, abs=1e-9)


def test_initial_weights_are_shares() -> None:
    rule = OnlineWeighted(3, initial_weights=[2, 1, 1])
    assert rule.weights_.tolist() == [0.5, 0.25, 0.25]
    assert rule.initial_weights == [2, 1, 1]
    assert rule.predict_one(np.array([1.0, 0.0, 0.0])) == 0.5
