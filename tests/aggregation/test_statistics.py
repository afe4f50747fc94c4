"""Statistics against hand-computed values, closed forms and the peer."""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest
from scipy.stats import binomtest

from truthful_rlhf.aggregation import best_labeler, oracle_labels, regret
from truthful_rlhf.aggregation.bonuses import settle_bonuses
from truthful_rlhf.aggregation.labeler_table import labeler_table, weight_history, wilson_interval
from truthful_rlhf.aggregation.rules.online_weighted import OnlineWeighted
from truthful_rlhf.aggregation.statistics import (
    accuracy,
    brier,
    krippendorff_alpha,
    log_log_slope,
    log_loss,
    percentile_interval,
    reliability,
)

NAN = float("nan")


def test_regret_by_hand() -> None:
    """Losses of q: .25, .25, .25. Labeler 0: 0, 1, absent. Labeler 1: 1, 0, 0. Round 4 has no outcome.

    Excess over 0: .25, -.5, -.5; over 1: -.75, -.5, -.25. The best fixed labeler so far: .25, -.5, -.25, -.25.
    """
    reports = [[1.0, 0.0], [1.0, 0.0], [NAN, 1.0], [0.9, 0.9]]
    curve = regret([0.5] * 4, reports, [1, 0, 1, NAN])
    np.testing.assert_allclose(curve, [0.25, -0.5, -0.25, -0.25])


def test_regret_over_many_blocks_is_the_loss_less_the_best_labelers_loss() -> None:
    rng = np.random.default_rng(0)
    reports, outcomes = rng.random((50_000, 3)), (rng.random(50_000) < 0.5).astype(float)
    stated = rng.random(50_000)
    losses = ((reports - outcomes[:, None]) ** 2).sum(axis=0)
    total = regret(stated, reports, outcomes)[-1]
    assert total == pytest.approx(((stated - outcomes) ** 2).sum() - losses.min(), rel=1e-10)
    assert best_labeler(reports, outcomes) == losses.argmin()


def test_oracle() -> None:
    assert oracle_labels([[1.0, 0.0], [NAN, 0.0], [1.0, 1.0]], [1, 0, 1]).tolist() == [1.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="nobody is best"):
        best_labeler([[0.5, 0.5]], [NAN])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_slope_of_a_power_law(power: float) -> None:
    horizons = np.array([100, 1000, 10_000])
    noise = np.random.default_rng(0).lognormal(0.0, 0.2, (200, 3))
    _, low, high = log_log_slope(horizons, 3.0 * horizons**power * noise, np.random.default_rng(1))
    assert low < power < high
    assert high - low < 0.1
    exact = log_log_slope(horizons, 3.0 * horizons**power, np.random.default_rng(1))
    np.testing.assert_allclose(exact, power, atol=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_slope_needs_one_column_per_horizon(columns: int) -> None:
    with pytest.raises(ValueError, match=rf"one column per horizon \(3\), got shape \(5, {columns}\)"):
        log_log_slope([10, 20, 30], np.ones((5, columns)), np.random.default_rng(0))


def test_slope_needs_positive_means_and_two_horizons() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="> 0"):
        log_log_slope([10, 100], [[1.0, -1.0]], rng)
    with pytest.raises(ValueError, match="two different horizons"):
        log_log_slope([10], [[1.0]], rng)


def test_scores_by_hand() -> None:
    stated, outcomes = [0.8, 0.4, 0.5, 0.9], [1, 1, 0, NAN]
    assert brier(stated, outcomes) == pytest.approx((0.04 + 0.36 + 0.25) / 3)
    assert log_loss(stated, outcomes) == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.5)) / 3)
    assert accuracy(stated, outcomes) == pytest.approx(1.5 / 3)
    assert math.isfinite(log_loss([0.0], [1]))
    assert all(math.isnan(score([0.3], [NAN])) for score in (brier, log_loss, accuracy))
    with pytest.raises(ValueError, match="round 1"):
        brier([0.5, 1.5], [1, 1])


def test_reliability_by_hand() -> None:
    """Bins [0, .5) and [.5, 1]: stated means .2 and .85, observed 1/2 and 1: ECE = .5 (.3 + .15)."""
    table = reliability([0.1, 0.3, 0.7, 1.0], [0, 1, 1, 1], n_bins=2)
    assert table.counts.tolist() == [2, 2]
    np.testing.assert_allclose(table.stated, [0.2, 0.85])
    np.testing.assert_allclose(table.observed, [0.5, 1.0])
    assert table.ece == pytest.approx(0.225)


def test_calibrated_labels_have_a_small_ece_and_overconfident_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(50_000)
    outcomes = (rng.random(50_000) < chances).astype(float)
    table = reliability(chances, outcomes)
    assert table.ece < 0.01
    assert len(table.counts) == 10
    assert reliability((chances > 0.5).astype(float), outcomes).ece > 0.2


def test_alpha_is_the_peers_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((200, 1))
    reports = np.clip(truth + 0.2 * rng.standard_normal((200, 4)), 0.0, 1.0)
    reports[rng.random(reports.shape) < 0.3] = NAN
    alpha, low, high = krippendorff_alpha(reports, np.random.default_rng(1), n_resamples=60)
    assert alpha == pytest.approx(krippendorff.alpha(reports.T, level_of_measurement="interval"))
    assert low < alpha < high < low + 0.3
    noise, _, _ = krippendorff_alpha(rng.random((200, 4)), np.random.default_rng(1), n_resamples=1)
    assert abs(noise) < 0.1 < low
    assert math.isnan(krippendorff_alpha([[0.2, NAN]], rng)[0])
    assert math.isnan(krippendorff_alpha([[0.2, 0.2]], rng, n_resamples=2)[0])


def test_labeler_table_by_hand() -> None:
    reports = np.array([[0.9, NAN, NAN], [0.8, 0.2, NAN], [0.3, 0.5, NAN], [0.6, 0.1, 0.4]])
    first, second, third = labeler_table(reports, [1, 0, 0, NAN], np.random.default_rng(0), n_resamples=50)
    assert (first.n_reports, first.n_audited) == (4, 3)
    assert first.accuracy == pytest.approx(2 / 3)
    assert first.brier == pytest.approx((0.01 + 0.64 + 0.09) / 3)
    assert first.overconfidence == pytest.approx((0.9 + 0.8 + 0.7) / 3 - 2 / 3)
    assert second.overconfidence == pytest.approx((0.8 + 0.5) / 2 - 0.75)
    assert first.brier_interval[0] <= first.brier <= first.brier_interval[1]
    assert second.accuracy == pytest.approx(0.75)
    assert (third.n_reports, third.n_audited) == (1, 0)
    assert math.isnan(third.brier)
    assert all(math.isnan(end) for end in (*third.accuracy_interval, *third.brier_interval))


def test_wilson_interval_covers() -> None:
    """Over many draws of a share of .8 from 30 trials, about 95 % of the intervals hold .8."""
    rng = np.random.default_rng(0)
    ends = [wilson_interval(hits / 30, 30) for hits in rng.binomial(30, 0.8, 4000)]
    assert 0.93 < np.mean([low <= 0.8 <= high for low, high in ends]) < 0.98


def test_weight_history_keeps_first_and_last() -> None:
    weights = np.arange(1000.0)[:, None]
    moments, thinned = weight_history(weights, np.array([1000.0]), n_points=5)
    assert moments.tolist() == [0, 250, 500, 750, 1000]
    assert thinned[:, 0].tolist() == [0, 250, 500, 750, 1000]


def test_bonuses_balance_in_every_round_and_are_the_mechanisms_steps() -> None:
    rng = np.random.default_rng(0)
    reports, outcomes = rng.random((300, 5)), (rng.random(300) < 0.5).astype(float)
    reports[rng.random(reports.shape) < 0.3] = NAN
    outcomes[rng.random(300) < 0.3] = NAN
    stakes = rng.random((300, 5)) * 10
    bonuses = settle_bonuses(reports, outcomes, stakes)
    np.testing.assert_allclose(bonuses.sum(axis=1), 0.0, atol=1e-12)
    assert (bonuses >= -stakes - 1e-12).all()
    assert not bonuses[np.isnan(reports) | np.isnan(outcomes)[:, None]].any()
    rule = OnlineWeighted(5, eta=0.3)
    rule.learn_one(reports[0], 1.0)
    paid = settle_bonuses(reports[:1], [1.0], np.full(5, 0.2))
    np.testing.assert_allclose(rule.weights_, 0.2 + 0.3 * paid[0], atol=1e-15)


def test_splitting_a_stake_over_sybils_with_one_report_earns_the_same() -> None:
    one = settle_bonuses([[0.9, 0.3, 0.6]], [1], [2.0, 1.0, 1.0])
    split = settle_bonuses([[0.9, 0.9, 0.3, 0.6]], [1], [1.5, 0.5, 1.0, 1.0])
    assert split[0, :2].sum() == pytest.approx(one[0, 0], abs=1e-15)
    assert split[0, 2] == pytest.approx(one[0, 1], abs=1e-15)


def test_bad_stakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) or \(1, 2\), got \(1,\)"):
        settle_bonuses([[0.5, 0.5]], [1], [1.0])
    with pytest.raises(ValueError, match=">= 0"):
        settle_bonuses([[0.5, 0.5]], [1], [1.0, -1.0])


@pytest.mark.parametrize("n_trials", [1, 7, 50])
def test_wilson_interval_is_the_peers(n_trials: int) -> None:
    for hits in range(n_trials + 1):
        peer = binomtest(hits, n_trials).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson_interval(hits / n_trials, n_trials), peer, atol=1e-12)


def test_bins_are_equal_and_closed_at_one() -> None:
    table = reliability([0.0, 0.24, 0.25, 0.99, 1.0], [0, 0, 1, 1, 1], n_bins=4)
    assert table.edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert table.counts.tolist() == [2, 1, 0, 2]
    assert np.isnan(table.stated[2])
    assert np.isnan(table.observed[2])
    assert reliability([0.2, 0.9], [0, 1], n_bins=1).counts.tolist() == [2]
    with pytest.raises(ValueError, match="n_bins must be >= 1, got 0"):
        reliability([0.2], [0], n_bins=0)


def test_percentiles_leave_out_as_much_on_both_sides() -> None:
    resamples = np.random.default_rng(0).permutation(np.arange(101.0))
    assert percentile_interval(resamples, 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval(resamples) == pytest.approx((2.5, 97.5))


def test_smallest_numbers_of_resamples() -> None:
    """One resample is an interval of no width; none is refused."""
    (row,) = labeler_table([[0.9], [0.2]], [1, 1], np.random.default_rng(0), n_resamples=1)
    assert row.brier_interval[0] == row.brier_interval[1]
    with pytest.raises(ValueError, match="n_resamples must be >= 1, got 0"):
        labeler_table([[0.9]], [1], np.random.default_rng(0), n_resamples=0)


def test_a_mean_regret_of_zero_has_no_logarithm() -> None:
    with pytest.raises(ValueError, match="mean regrets must be > 0"):
        log_log_slope([10, 100], [[0.0, 1.0]], np.random.default_rng(0))


def test_pairs_that_one_labeler_judged_say_nothing_about_agreement() -> None:
    reports = np.random.default_rng(0).random((30, 3))
    alone = np.full((300, 3), NAN)
    alone[:, 0] = 0.5
    together = krippendorff_alpha(reports, np.random.default_rng(1), n_resamples=20)
    np.testing.assert_allclose(
        krippendorff_alpha(np.vstack([reports, alone]), np.random.default_rng(1), n_resamples=20), together
    )
