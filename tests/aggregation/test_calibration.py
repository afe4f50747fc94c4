"""Recalibration finds a known factor, changes no side, ends at its ceiling, and learns nothing from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from truthful_rlhf.aggregation import final_labels, make_aggregator, recalibrate, run_online
from truthful_rlhf.aggregation.auditing.folds import held_out_labels
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.calibration import sharpness
from truthful_rlhf.aggregation.statistics import brier, log_loss, mean_squared_error

CAMPAIGNS = st.lists(
    st.tuples(
        st.one_of(st.floats(1e-6, 1.0 - 1e-6), st.sampled_from([0.0, 1.0])), st.sampled_from([0.0, 1.0, float("nan")])
    ),
    min_size=1,
    max_size=40,
).map(lambda rows: (np.array([row[0] for row in rows]), np.array([row[1] for row in rows])))


def drawn(factor: float, n: int, seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return labels whose log-odds are 1 / factor of the true ones, outcomes of all pairs, and the true chances."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0.0, 1.5, n)
    return expit(log_odds / factor), (rng.random(n) < expit(log_odds)).astype(np.float64), expit(log_odds)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_a_known_factor_is_found(factor: float) -> None:
    labels, outcomes, truth = drawn(factor, 20_000)
    assert sharpness(labels, outcomes) == pytest.approx(factor, rel=0.06)
    np.testing.assert_allclose(recalibrate(labels, outcomes), truth, atol=0.02)


def test_outcomes_that_nobody_could_know_take_the_sureness_away() -> None:
    labels, outcomes, _ = drawn(1.0, 5_000)
    assert sharpness(labels, np.random.default_rng(1).permutation(outcomes)) < 0.2


def test_thirty_outcomes_help_underconfident_labels_and_hardly_harm_calibrated_ones() -> None:
    """Mean squared error to the true chances over forty campaigns of 150 pairs, 30 of them audited."""
    mean_scores = {}
    for factor in (1.0, 2.0):
        scores = []
        for seed in range(40):
            labels, outcomes, truth = drawn(factor, 150, seed)
            revealed = np.where(np.arange(150) < 30, outcomes, np.nan)
            scores.append((mean_squared_error(labels, truth), mean_squared_error(recalibrate(labels, revealed), truth)))
        mean_scores[factor] = np.mean(scores, axis=0)
    before, after = mean_scores[2.0]
    assert after < 0.4 * before
    assert mean_scores[1.0][1] < 0.25 * before


@pytest.mark.parametrize(("outcome", "surer"), [(1.0, True), (0.0, False)])
def test_one_outcome_moves_little_and_in_its_direction(outcome: float, surer: bool) -> None:
    factor = sharpness([0.7], [outcome])
    assert (factor > 1.0) == surer
    assert 0.8 < factor < 1.25


def test_the_maximum_by_its_slope() -> None:
    """At the maximum sum_t (y - q') z a = log a / 0.5^2, where z are the log-odds towards A."""
    labels, outcomes, _ = drawn(1.6, 25)
    factor = sharpness(labels, outcomes)
    pull = factor * np.sum((outcomes - expit(factor * logit(labels))) * logit(labels))
    assert pull == pytest.approx(np.log(factor) / 0.25, abs=1e-3)


@given(CAMPAIGNS)
def test_sides_and_order_stay_and_certainty_ends_at_the_ceiling(campaign: tuple[FloatArray, FloatArray]) -> None:
    labels, outcomes = campaign
    after = recalibrate(labels, outcomes)
    assert ((after >= 0.0) & (after <= 1.0)).all()
    assert (np.sign(np.round(after - 0.5, 9)) * np.sign(labels - 0.5) >= 0.0).all()
    n_audits = int((~np.isnan(outcomes)).sum())
    if n_audits:
        assert (np.abs(after - 0.5) <= (n_audits + 3) / (n_audits + 4) - 0.5 + 1e-12).all()
    else:
        np.testing.assert_array_equal(after, labels)
    assert (np.diff(after[np.argsort(labels)]) >= -1e-9).all()


@given(CAMPAIGNS)
def test_a_and_b_are_treated_alike(campaign: tuple[FloatArray, FloatArray]) -> None:
    labels, outcomes = campaign
    exchanged = recalibrate(1.0 - labels, 1.0 - outcomes)
    np.testing.assert_allclose(exchanged, 1.0 - recalibrate(labels, outcomes), atol=1e-4)


def test_without_outcomes_nothing_changes() -> None:
    labels = np.array([0.1, 0.5, 0.99])
    assert sharpness(labels, [np.nan] * 3) == 1.0
    np.testing.assert_allclose(recalibrate(labels, [np.nan] * 3), labels, atol=1e-12)


def test_certain_labels_take_part() -> None:
    """Votes at 0 and 1 that are right three times in four: after 400 audits they say so."""
    rng = np.random.default_rng(0)
    outcomes = rng.integers(2, size=1_000).astype(np.float64)
    votes = np.where(rng.random(1_000) < 0.75, outcomes, 1.0 - outcomes)
    after = recalibrate(votes, np.where(np.arange(1_000) < 400, outcomes, np.nan))
    np.testing.assert_allclose(np.maximum(after, 1.0 - after), 0.75, atol=0.04)


def test_labels_that_have_seen_their_outcomes_are_believed_too_much() -> None:
    """Forty coins: in-sample the weighted pool looks right, cross-fitted it does not. Log loss on the other pairs."""
    losses: dict[str, list[float]] = {"in-sample": [], "cross-fitted": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reports, outcomes = rng.integers(2, size=(120, 40)).astype(np.float64), rng.integers(2, size=120).astype(float)
        revealed = np.where(np.arange(120) < 30, outcomes, np.nan)

        def final(told: FloatArray, reports: FloatArray = reports) -> FloatArray:
            rule = make_aggregator("online_weighted", 40, eta=0.5)
            run_online(rule, reports, told, keep_weights=False)
            return final_labels(rule, reports, np.full(120, np.nan))

        labels = final(revealed)
        for name, held_out in (("in-sample", None), ("cross-fitted", held_out_labels(final, revealed))):
            losses[name].append(log_loss(recalibrate(labels, revealed, held_out)[30:], outcomes[30:]))
    assert np.mean(losses["cross-fitted"]) < np.mean(losses["in-sample"]) - 0.02


def test_audits_count_as_often_as_they_stand_for_pairs() -> None:
    """Half of the audits come from labels that are too timid, half from too sure ones: who counts more decides."""
    timid, sure = drawn(2.0, 2_000, 1), drawn(0.5, 2_000, 2)
    labels, outcomes = (np.append(timid[k], sure[k]) for k in (0, 1))
    for share, factor in ((1e-4, 2.0), (1e4, 0.5)):
        weights = np.append(np.ones(2_000), np.full(2_000, share))
        assert sharpness(labels, outcomes, weights) == pytest.approx(factor, rel=0.12)
        assert sharpness(labels, outcomes, 7.0 * weights) == pytest.approx(sharpness(labels, outcomes, weights))
    assert 0.55 < sharpness(labels, outcomes) < 1.6


@pytest.mark.parametrize(
    ("labels", "outcomes", "message"),
    [([0.5], [1, 0], "shape"), ([1.5], [1], r"\[0, 1\]"), ([np.nan], [1], r"\[0, 1\]"), ([0.5], [0.5], "outcome")],
)
def test_bad_input_is_refused(labels: list[float], outcomes: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recalibrate(labels, outcomes)


def test_the_pool_of_calibrated_people_is_underconfident_and_recalibration_shows_it() -> None:
    """The reason for all this: a linear pool of calibrated, differing beliefs lacks sharpness."""
    from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs

    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 1.5, 4_000)
    pool = np.mean([calibrated_beliefs(log_odds, 1.0, rng) for _ in range(8)], axis=0)
    outcomes = (rng.random(4_000) < expit(log_odds)).astype(np.float64)
    assert sharpness(pool, outcomes) > 1.15
    assert brier(recalibrate(pool, outcomes), outcomes) < brier(pool, outcomes)
