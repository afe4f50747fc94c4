"""Scores against hand-computed values, and what weights must do to all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truthful_rlhf.aggregation.statistics import (
    accuracy,
    brier,
    calibration_error,
    hits,
    log_loss,
    mean_by_group,
    mean_interval,
    mean_squared_error,
)

NAN = float("nan")
WEIGHTED: list[Callable[..., float]] = [
    accuracy,
    brier,
    mean_squared_error,
    log_loss,
    calibration_error,
]


def test_scores_by_hand() -> None:
    stated, outcomes = [0.8, 0.4, 0.5, 0.9], [1, 1, 0, NAN]
    assert brier(stated, outcomes) == pytest.approx((0.04 + 0.36 + 0.25) / 3)
    assert log_loss(stated, outcomes) == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.5)) / 3)
    assert accuracy(stated, outcomes) == pytest.approx(1.5 / 3)
    assert mean_squared_error([0.8, 0.4, 0.5], [0.7, NAN, 0.2]) == pytest.approx((0.01 + 0.09) / 2)


def test_log_loss_against_probabilities_by_hand() -> None:
    """-.3 ln .6 - .7 ln .4 = .15325 + .64140; the floor is the entropy -.3 ln .3 - .7 ln .7 = .61086."""
    assert log_loss([0.6], [0.3]) == pytest.approx(0.79465, abs=1e-5)
    assert log_loss([0.3], [0.3]) == pytest.approx(0.61086, abs=1e-5)


def test_certain_and_wrong_costs_the_stated_limit() -> None:
    """-log 1e-12 = 12 log 10; the negative control is the textbook formula, which is infinite."""
    assert log_loss([0.0], [1]) == pytest.approx(12 * math.log(10))
    assert log_loss([1.0], [0]) == pytest.approx(12 * math.log(10))
    assert log_loss([1.0, 0.0], [1, 0]) == 0.0
    with np.errstate(divide="ignore"):
        assert -np.log(np.float64(0.0)) == np.inf


@pytest.mark.parametrize("score", WEIGHTED)
def test_a_score_of_nothing_is_unknown(score: Callable[..., float]) -> None:
    assert math.isnan(score([0.3], [NAN]))
    assert math.isnan(score([0.3], [1.0], [0.0]))


def test_hits_of_all_ties_by_hand() -> None:
    assert hits([0.9, 0.9, 0.5, 0.5, 0.1], [0.6, 0.5, 0.5, 1.0, 0.4]).tolist() == [1.0, 0.5, 0.5, 0.5, 1.0]
    assert np.isnan(hits([0.9], [NAN])).all()


@given(q=st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=1, max_size=20), seed=st.integers(0, 1000))
def test_accuracy_counts_ties_as_a_coin_would(q: list[float], seed: int) -> None:
    """Half ties are the mean of the two accuracies that break every tie towards A, and towards B."""
    outcomes = np.random.default_rng(seed).integers(0, 2, len(q)).astype(float)
    towards_a = np.where(np.array(q) == 0.5, 0.6, q)
    towards_b = np.where(np.array(q) == 0.5, 0.4, q)
    assert accuracy(q, outcomes) == pytest.approx((accuracy(towards_a, outcomes) + accuracy(towards_b, outcomes)) / 2)


def test_the_brier_score_is_the_squared_error_to_the_truth_plus_what_nobody_can_avoid() -> None:
    """E (q - y)^2 = (q - p)^2 + p (1 - p), here within 4 standard errors; alone, neither term is the Brier score."""
    rng = np.random.default_rng(0)
    truth, stated = rng.random((2, 400_000))
    outcomes = (rng.random(400_000) < truth).astype(float)
    error, spread = mean_squared_error(stated, truth), float((truth * (1 - truth)).mean())
    assert brier(stated, outcomes) == pytest.approx(error + spread, abs=0.002)
    assert abs(brier(stated, outcomes) - error) > 0.1


def test_a_true_probability_is_no_outcome() -> None:
    """The two names cannot be exchanged by mistake."""
    with pytest.raises(ValueError, match=r"outcomes must be 0, 1 or NaN: round 1 has 0\.7"):
        brier([0.5, 0.5], [1, 0.7])
    with pytest.raises(ValueError, match=r"targets must be probabilities in \[0, 1\] or NaN: round 0 has 1\.5"):
        mean_squared_error([0.5], [1.5])


@pytest.mark.parametrize("score", WEIGHTED)
def test_a_whole_weight_is_a_repetition(score: Callable[..., float]) -> None:
    rng = np.random.default_rng(1)
    stated, outcomes = rng.random(50), rng.integers(0, 2, 50).astype(float)
    outcomes[:10] = NAN
    times = rng.integers(0, 4, 50)
    repeated = score(np.repeat(stated, times), np.repeat(outcomes, times))
    assert score(stated, outcomes, times) == pytest.approx(repeated, rel=1e-12)
    assert score(stated, outcomes, 7.5 * times) == pytest.approx(repeated, rel=1e-12)  # only ratios count
    assert score(stated, outcomes) != pytest.approx(repeated, rel=1e-3)  # negative control


@pytest.mark.parametrize("score", [accuracy, brier, log_loss])
def test_inverse_audit_probabilities_remove_the_bias_of_planned_audits(score: Callable[..., float]) -> None:
    """Pairs with an undecided label are audited ten times as often: unweighted, the labels look worse than they are."""
    rng = np.random.default_rng(2)
    truth = rng.random(40_000)
    outcomes = (rng.random(40_000) < truth).astype(float)
    chance = np.where(np.abs(truth - 0.5) < 0.25, 0.5, 0.05)
    everything = score(truth, outcomes)
    weighted, plain = [], []
    for _ in range(40):
        seen = np.where(rng.random(40_000) < chance, outcomes, NAN)
        weighted.append(score(truth, seen, 1.0 / chance))
        plain.append(score(truth, seen))
    error = np.std(weighted, ddof=1) / np.sqrt(40)
    assert abs(np.mean(weighted) - everything) < 4 * error + 1e-3
    assert abs(np.mean(plain) - everything) > 20 * error  # negative control


def test_means_of_groups_by_hand() -> None:
    np.testing.assert_allclose(mean_by_group([1.0, 0.0, 1.0, 0.5], [0, 0, 2, 0], 4), [0.5, NAN, 1.0, NAN])
    np.testing.assert_allclose(mean_by_group([1.0, 0.0], [0, 0], 1, [3.0, 1.0]), [0.75])


def test_means_of_groups_are_the_scores_of_each_group() -> None:
    rng = np.random.default_rng(3)
    stated, outcomes, weights = rng.random(300), rng.integers(0, 2, 300), rng.random(300)
    who = rng.integers(0, 5, 300)
    by_group = mean_by_group((stated - outcomes) ** 2, who, 5, weights)
    own = [brier(stated[who == i], outcomes[who == i], weights[who == i]) for i in range(5)]
    np.testing.assert_allclose(by_group, own, rtol=1e-12)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="round 1"):
        brier([0.5, 1.5], [1, 1])
    with pytest.raises(ValueError, match=r"one entry per observation \(2\), got shape \(1,\)"):
        brier([0.5, 0.5], [1, 1], [1.0])
    with pytest.raises(ValueError, match=r"finite and >= 0: observation 1 has -1\.0"):
        log_loss([0.5, 0.5], [1, 1], [1.0, -1.0])
    with pytest.raises(ValueError, match="finite and >= 0: observation 0 has nan"):
        mean_interval([0.5, 0.5], [NAN, 1.0])
    with pytest.raises(ValueError, match="groups must be 0 to 1: observation 1 has 2"):
        mean_by_group([0.5, 0.5], [0, 2], 2)
    with pytest.raises(ValueError, match=r"groups must have one entry per observation \(2\)"):
        mean_by_group([0.5, 0.5], [0], 2)
