"""The slope of regret on power laws, where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation.statistics import log_log_slope


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


def test_a_mean_regret_of_zero_has_no_logarithm() -> None:
    with pytest.raises(ValueError, match="mean regrets must be > 0"):
        log_log_slope([10, 100], [[0.0, 1.0]], np.random.default_rng(0))
