"""Intervals against the peer, against closed forms, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from truthful_rlhf.aggregation.statistics import (
    bounded_mean_interval,
    effective_size,
    mean_interval,
    percentile_interval,
    wilson_interval,
)
from truthful_rlhf.aggregation.statistics.intervals import Z


def test_the_normal_quantile() -> None:
    assert pytest.approx(stats.norm.ppf(0.975), abs=1e-15) == Z


@pytest.mark.parametrize("n_trials", [1, 7, 50])
def test_wilson_interval_is_the_peers(n_trials: int) -> None:
    hits = np.arange(n_trials + 1)
    peers = [stats.binomtest(int(k), n_trials).proportion_ci(method="wilson") for k in hits]
    np.testing.assert_allclose(np.transpose(wilson_interval(hits / n_trials, n_trials)), peers, atol=1e-12)


def test_wilson_interval_covers() -> None:
    """Over many draws of a share of .97 from 30 trials, about 95 % of the intervals hold it; +- z errors hold fewer."""
    rng = np.random.default_rng(0)
    shares = rng.binomial(30, 0.97, 4000) / 30
    low, high = wilson_interval(shares, 30)
    assert 0.93 < np.mean((low <= 0.97) & (high >= 0.97)) < 0.99
    half = Z * np.sqrt(shares * (1 - shares) / 30)
    assert np.mean(np.abs(shares - 0.97) <= half) < 0.7  # negative control: Wald's interval


def test_no_trial_says_nothing() -> None:
    assert np.isnan(wilson_interval(np.nan, 0)).all()
    assert np.isnan(bounded_mean_interval([], [], 1)).all()
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]))).all()


def test_percentiles_leave_out_as_much_on_both_sides() -> None:
    resamples = np.random.default_rng(0).permutation(np.arange(101.0))
    assert percentile_interval(resamples, 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval(resamples) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.append(resamples, np.nan)) == pytest.approx((2.5, 97.5))


def test_effective_size_by_hand() -> None:
    """Weights 3 and 1: 16 / 10; equal weights: their number, whatever their size."""
    np.testing.assert_allclose(effective_size([3.0, 1.0, 0.2, 0.2, 0.2], [0, 0, 2, 2, 2], 3), [1.6, 0.0, 3.0])


def test_seven_losses_of_zero_are_not_certainty() -> None:
    """Eleven losses, two of them 1: mean 2/11, variance 18/121; 2/11 + 1.96 sqrt(18/121/11) = .4098."""
    low, high = bounded_mean_interval(np.zeros(7), np.zeros(7, dtype=int), 1)
    assert (low[0], high[0]) == pytest.approx((0.0, 0.4098), abs=1e-4)


def test_bounded_mean_interval_covers_with_and_without_weights() -> None:
    """Calibrated reports have an expected Brier score of E p (1 - p) = 1/6, with unequal audits as well."""
    rng = np.random.default_rng(0)
    report = rng.random((400, 60))
    loss = (report - (rng.random((400, 60)) < report)) ** 2
    chance = np.where(np.abs(report - 0.5) < 0.25, 0.9, 0.4)
    seen = rng.random((400, 60)) < chance
    who = np.nonzero(seen)[0]
    low, high = bounded_mean_interval(loss[seen], who, 400, 1.0 / chance[seen])
    assert 0.92 < np.mean((low <= 1 / 6) & (high >= 1 / 6)) < 0.985
    low, high = bounded_mean_interval(loss.ravel(), np.repeat(np.arange(400), 60), 400)
    assert 0.92 < np.mean((low <= 1 / 6) & (high >= 1 / 6)) < 0.985


def test_equal_weights_change_no_interval() -> None:
    rng = np.random.default_rng(1)
    values, who = rng.random(40), rng.integers(0, 3, 40)
    np.testing.assert_allclose(
        bounded_mean_interval(values, who, 3, np.full(40, 0.3)), bounded_mean_interval(values, who, 3), rtol=1e-12
    )
    assert mean_interval(values, np.full(40, 0.3)) == pytest.approx(mean_interval(values), rel=1e-12)


def test_mean_interval_is_the_textbooks() -> None:
    values = np.random.default_rng(2).normal(3.0, 2.0, 50)
    error = stats.sem(values)
    assert mean_interval(values) == pytest.approx((values.mean(), values.mean() - Z * error, values.mean() + Z * error))


def test_weighted_mean_interval_covers_and_the_plain_one_does_not() -> None:
    """A mean of all pairs from audits whose chance grows with the value."""
    rng = np.random.default_rng(3)
    values = rng.random(2_000)
    chance = 0.05 + 0.3 * values
    held, plainly_held = 0, 0
    for _ in range(400):
        seen = rng.random(2_000) < chance
        _, low, high = mean_interval(values[seen], 1.0 / chance[seen])
        held += low <= values.mean() <= high
        _, low, high = mean_interval(values[seen])
        plainly_held += low <= values.mean() <= high
    assert 0.92 < held / 400 <= 0.99
    assert plainly_held / 400 < 0.1
