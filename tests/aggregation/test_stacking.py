"""The stacked label: symmetric, cross-fitted, it keeps unanimous pairs, falls back to the pool, and is worth having."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from truthful_rlhf.aggregation import OnlineWeighted, final_labels, run_online
from truthful_rlhf.aggregation.auditing.folds import audit_folds
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.stacking import FEWEST_AUDITS, Stack, fit_stack, stack_labels
from truthful_rlhf.aggregation.statistics import log_loss

NAN = float("nan")


def mechanism(reports: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return the function from outcomes to the last weights of ``online_weighted`` on these reports."""

    def last_weights(outcomes: FloatArray) -> FloatArray:
        rule = OnlineWeighted(reports.shape[1])
        run_online(rule, reports, outcomes, keep_weights=False)
        return rule.weights_

    return last_weights


def stacked(reports: FloatArray, outcomes: FloatArray) -> FloatArray:
    return stack_labels(reports, outcomes, mechanism(reports))


def panel(seed: int, n_pairs: int = 144, n_liars: int = 6) -> tuple[FloatArray, FloatArray]:
    """Return reports of four honest labelers and contrarians who share a view, with absences, and all outcomes."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0.0, 1.5, n_pairs)
    outcomes = (rng.random(n_pairs) < expit(log_odds)).astype(np.float64)
    honest = expit(0.7 * (log_odds[:, None] + rng.normal(0, 1.0, (n_pairs, 4))))
    common = -log_odds + rng.normal(0, 1.0, n_pairs)
    liars = expit(1.5 * (common[:, None] + rng.normal(0, 0.5, (n_pairs, n_liars))))
    reports = np.hstack([honest, liars])
    reports[rng.random(reports.shape) < 0.15] = NAN
    return reports, outcomes


def some(outcomes: FloatArray, n_audits: int) -> FloatArray:
    step = len(outcomes) // n_audits
    return np.where(
        (np.arange(len(outcomes)) % step == 0) & (np.arange(len(outcomes)) < step * n_audits), outcomes, NAN
    )


def test_a_and_b_are_treated_alike_in_every_single_pair() -> None:
    reports, outcomes = panel(0)
    revealed = some(outcomes, 24)
    labels = stacked(reports, revealed)
    turned = np.random.default_rng(1).random(len(outcomes)) < 0.5
    other = stacked(np.where(turned[:, None], 1 - reports, reports), np.where(turned, 1 - revealed, revealed))
    np.testing.assert_allclose(np.where(turned, 1 - other, other), labels, atol=1e-9)


def test_relabelling_changes_nothing() -> None:
    reports, outcomes = panel(1)
    revealed = some(outcomes, 24)
    order = np.random.default_rng(0).permutation(reports.shape[1])
    np.testing.assert_allclose(stacked(reports[:, order], revealed), stacked(reports, revealed), atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_unanimous_pairs_keep_their_side(seed: int, pool_share: float) -> None:
    """Whatever the coefficients; the same regressions without the care reverse such pairs (the control)."""
    rng = np.random.default_rng(seed)
    reports = rng.uniform(0.5, 1.0, (20, 3))
    reports[rng.random((20, 3)) < 0.3] = NAN
    reports[0] = [0.9, 0.8, 0.5]
    coefficients = rng.normal(-3.0, 1.0, (1, 5))
    stack = Stack(pool_share, np.array([1.0 - pool_share]), coefficients, 0.0)
    labels, turned = (stack.labels(r, rng.dirichlet(np.ones(3))) for r in (reports, 1.0 - reports))
    judged = ~np.isnan(reports).all(axis=1)
    assert (labels[judged] > 0.5).all()
    assert (turned[judged] < 0.5).all()
    assert np.isnan(labels[~judged]).all()
    assert (expit(np.nan_to_num(2 * reports - 1) @ coefficients[0, 2:])[judged] < 0.5).any()


def test_too_few_audits_leave_the_final_label() -> None:
    reports, outcomes = panel(2)
    for n in (0, FEWEST_AUDITS - 1):
        revealed = some(outcomes, n) if n else np.full(len(outcomes), NAN)
        rule = OnlineWeighted(reports.shape[1])
        run_online(rule, reports, revealed)
        np.testing.assert_allclose(stacked(reports, revealed), final_labels(rule, reports, revealed), atol=1e-12)
    rule = OnlineWeighted(reports.shape[1])
    revealed = some(outcomes, FEWEST_AUDITS)
    run_online(rule, reports, revealed)
    assert np.abs(stacked(reports, revealed) - final_labels(rule, reports, revealed)).max() > 0.02


def test_pairs_that_nobody_judged_have_no_label_and_teach_nothing() -> None:
    reports, outcomes = panel(3)
    revealed = some(outcomes, 24)
    alone = np.vstack([reports, np.full((3, 10), NAN)])
    told = np.append(revealed, [1.0, NAN, 0.0])
    labels = stack_labels(alone, told, mechanism(alone))
    np.testing.assert_allclose(labels[:-3], stacked(reports, revealed), atol=1e-12)
    assert labels[-3] == 1.0
    assert np.isnan(labels[-2])


def test_a_fold_is_withheld_from_the_weights_under_which_it_is_seen() -> None:
    reports, outcomes = panel(4)
    revealed = some(outcomes, 24)
    asked: list[FloatArray] = []

    def last_weights(given: FloatArray) -> FloatArray:
        asked.append(given)
        return mechanism(reports)(given)

    fit_stack(reports, revealed, last_weights)
    folds = audit_folds(revealed)
    assert len(asked) == 10
    for fold, told in enumerate(asked):
        np.testing.assert_array_equal(told, np.where(folds == fold, NAN, revealed))


def test_cross_fitting_keeps_the_pool_of_forty_coins_from_being_believed() -> None:
    """Weights after twenty audits have picked the luckiest coins. Seen without their own fold they predict nothing."""
    losses: dict[str, list[float]] = {"cross-fitted": [], "in-sample": []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        reports, outcomes = rng.integers(2, size=(200, 40)).astype(np.float64), rng.integers(2, size=200).astype(float)
        revealed = np.where(np.arange(200) < 20, outcomes, NAN)
        last = mechanism(reports)(revealed)
        for name, function in (("cross-fitted", mechanism(reports)), ("in-sample", lambda _, last=last: last)):
            labels = stack_labels(reports, revealed, function)
            losses[name].append(log_loss(np.clip(labels[20:], 0.01, 0.99), outcomes[20:]))
    assert np.mean(losses["cross-fitted"]) < np.mean(losses["in-sample"]) - 0.02


def judges(seed: int) -> tuple[FloatArray, FloatArray]:
    """Return votes of 3 clear-sighted judges and 17 who follow a distraction that all of them see, and outcomes."""
    rng = np.random.default_rng(seed)
    outcomes = rng.integers(2, size=400).astype(np.float64)
    distraction = 2.0 * rng.integers(2, size=400) - 1.0
    sees = np.append(np.full(3, 1.0), rng.uniform(0.1, 0.6, 17))
    follows = np.append(np.full(3, 0.2), rng.uniform(0.3, 1.1, 17))
    signal = np.outer(2 * outcomes - 1, sees) + np.outer(distraction, follows) + rng.normal(size=(400, 20))
    return (signal > 0).astype(np.float64), outcomes


@pytest.mark.parametrize(("crowd", "gain"), [(judges, 0.01), (panel, -0.03)])
def test_what_judges_have_in_common_is_subtracted_and_contrarians_do_no_harm(
    crowd: Callable[[int], tuple[FloatArray, FloatArray]], gain: float
) -> None:
    """Log loss against the final label on the other pairs, mean of twelve seeds, 24 audits."""
    scores = []
    for seed in range(12):
        reports, outcomes = crowd(seed)
        revealed = some(outcomes, 24)
        hidden = np.isnan(revealed)
        rule = OnlineWeighted(reports.shape[1])
        run_online(rule, reports, revealed)
        final = np.clip(final_labels(rule, reports, revealed), 0.01, 0.99)
        labels = np.clip(stacked(reports, revealed), 0.01, 0.99)
        scores.append([log_loss(q[hidden], outcomes[hidden]) for q in (final, labels)])
    before, after = np.mean(scores, axis=0)
    assert after < before - gain


def test_weights_may_differ_between_pairs_and_audits_may_be_weighted() -> None:
    reports, outcomes = panel(5)
    revealed = some(outcomes, 24)

    def by_pair(given: FloatArray) -> FloatArray:
        return np.tile(mechanism(reports)(given), (len(reports), 1))

    labels = stacked(reports, revealed)
    np.testing.assert_allclose(stack_labels(reports, revealed, by_pair), labels, atol=1e-12)
    weights = np.random.default_rng(0).uniform(1.0, 20.0, len(reports))
    equal = stack_labels(reports, revealed, mechanism(reports), np.full(len(reports), 6.0))
    np.testing.assert_allclose(equal, labels, atol=1e-9)
    unequal = stack_labels(reports, revealed, mechanism(reports), weights)
    assert np.abs(unequal - labels).max() > 1e-3
    np.testing.assert_allclose(stack_labels(reports, revealed, mechanism(reports), 9 * weights), unequal, atol=1e-9)
    with pytest.raises(ValueError, match="sample_weights"):
        stack_labels(reports, revealed, mechanism(reports), weights[:-1])
