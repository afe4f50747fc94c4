"""Beliefs are posteriors: among pairs with belief p, A is better with frequency p."""

import numpy as np
import pytest

from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs, with_bias
from truthful_rlhf.aggregation.log_odds import logit, sigmoid


def calibration_error(beliefs: np.ndarray, truth: np.ndarray) -> float:
    """Largest gap between mean belief and mean true probability over ten belief bins of equal size."""
    order = np.argsort(beliefs)
    return max(abs(beliefs[part].mean() - truth[part].mean()) for part in np.array_split(order, 10))


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_beliefs_are_calibrated_and_a_raw_noisy_view_is_not(noise: float) -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 1.5, 200_000)
    truth = sigmoid(log_odds)
    assert calibration_error(calibrated_beliefs(log_odds, noise, rng), truth) < 0.006
    if noise >= 1.0:  # negative control: the unshrunk view fails the same check
        assert calibration_error(sigmoid(log_odds + noise * rng.standard_normal(200_000)), truth) > 0.03


def test_noise_free_belief_is_the_truth_and_infinite_noise_knows_nothing() -> None:
    rng = np.random.default_rng(1)
    log_odds = rng.normal(size=50)
    np.testing.assert_allclose(calibrated_beliefs(log_odds, 0.0, rng), sigmoid(log_odds))
    np.testing.assert_array_equal(calibrated_beliefs(log_odds, np.inf, rng), 0.5)


def test_less_noise_means_lower_brier_score() -> None:
    rng = np.random.default_rng(2)
    log_odds = rng.normal(0.0, 2.0, 20_000)
    outcomes = rng.random(20_000) < sigmoid(log_odds)
    scores = [np.mean((calibrated_beliefs(log_odds, noise, rng) - outcomes) ** 2) for noise in (0.2, 1.0, 4.0)]
    assert scores[0] < scores[1] < scores[2]


def test_bias_shifts_the_log_odds() -> None:
    beliefs = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(logit(with_bias(beliefs, 0.7)) - logit(beliefs), 0.7, atol=1e-6)


def test_bad_noise_and_bad_log_odds_are_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="noise must be >= 0"):
        calibrated_beliefs(np.zeros(3), -1.0, rng)
    with pytest.raises(ValueError, match="finite"):
        calibrated_beliefs(np.array([0.0, np.nan]), 1.0, rng)
