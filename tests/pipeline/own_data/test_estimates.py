"""Intervals and tests on held-out verdicts: exact cases, coverage, and what clusters and luck must not do."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.pipeline.own_data.estimates import DIFFERENCE, SHARE, Verdicts, holm


def verdicts(n: int, each: int = 1) -> Verdicts:
    """Return n verdicts for A, ``each`` of them on one group of prompts."""
    return Verdicts(np.ones(n), np.ones(n), np.arange(n) // each)


def test_accuracy_and_log_loss_by_hand() -> None:
    found = Verdicts(np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0]), np.array([0, 0, 1]))
    said = np.array([[0.8, 0.6, 0.5]])
    assert found.hits(said).tolist() == [[1.0, 0.0, 0.5]]
    assert found.mean(found.hits(said)) == pytest.approx((1 + 0 + 2 * 0.5) / 4)
    np.testing.assert_allclose(found.log_losses(said), -np.log([[0.8, 0.4, 0.5]]))


@pytest.mark.parametrize(("differ", "expected"), [(1, 1.0), (2, 0.5), (4, 0.125), (6, 2 / 64)])
def test_the_sign_flip_test_is_the_exact_one(differ: int, expected: float) -> None:
    """All d differences on one side: only the two extreme patterns of 2^d are as large, p = 2^(1 - d)."""
    difference = np.zeros((1, 40))
    difference[0, :differ] = 1.0
    assert verdicts(40).p_value(difference) == pytest.approx(expected, abs=0.01)


def test_four_lucky_verdicts_show_nothing_though_their_interval_excludes_zero() -> None:
    difference = np.zeros((1, 100))
    difference[0, :4] = 1.0
    found = verdicts(100)
    assert found.interval(difference).low > 0  # why an interval alone is not enough
    assert found.p_value(difference) > 0.05


def test_equal_policies_are_told_apart_in_five_per_cent() -> None:
    rng = np.random.default_rng(0)
    found = verdicts(40)
    values = [found.p_value(rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=(1, 40))) for _ in range(200)]
    assert np.mean(np.array(values) <= 0.05) <= 0.09  # 5 % and 2.6 standard errors


def test_repeating_the_verdicts_of_a_prompt_adds_nothing() -> None:
    """The control: without groups the interval would shrink by a factor of two."""
    rng = np.random.default_rng(1)
    once = rng.random((1, 60))
    repeated = np.repeat(once, 4, axis=1)
    grouped, apart = verdicts(240, each=4), verdicts(240)
    one, same, narrow = (v.interval(x) for v, x in ((verdicts(60), once), (grouped, repeated), (apart, repeated)))
    assert (same.low, same.high) == pytest.approx((one.low, one.high))
    assert narrow.high - narrow.low < 0.6 * (one.high - one.low)


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    noise = 0.1 * rng.random((3, 50))
    agree, disagree = noise + 0.5, noise + np.array([[0.2], [0.5], [0.8]])
    narrow, wide = (verdicts(50).interval(values) for values in (agree, disagree))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_ninety_five_per_cent_of_the_intervals_hold_the_mean() -> None:
    rng = np.random.default_rng(3)
    found, inside = verdicts(60), 0
    for _ in range(200):
        interval = found.interval((rng.random((1, 60)) < 0.7).astype(np.float64))
        inside += interval.low <= 0.7 <= interval.high
    assert inside >= 180


def coverage(n: int, often: float, pseudo: object) -> float:
    """Return how many of 300 intervals hold the difference of two policies that seldom differ, always to one side."""
    rng, found, inside = np.random.default_rng(4), verdicts(n), 0
    for _ in range(300):
        interval = found.interval((rng.random((1, n)) < often).astype(np.float64), pseudo)  # type: ignore[arg-type]
        inside += interval.low <= often <= interval.high
    return inside / 300


@pytest.mark.parametrize(("n", "often"), [(27, 0.02), (60, 0.02), (60, 0.1)])
def test_policies_that_seldom_differ_have_an_interval_that_holds(n: int, often: float) -> None:
    assert coverage(n, often, DIFFERENCE) >= 0.9


def test_the_plain_bootstrap_fails_there() -> None:
    """The control: where no verdict tells two policies apart, resampling gives an interval without width."""
    assert coverage(27, 0.02, ()) < 0.6


def test_all_right_is_not_certain() -> None:
    """About Wilson's interval for ten of ten, [0.72, 1], which resampling alone takes for [1, 1]."""
    found, ones = verdicts(10), np.ones((1, 10))
    assert found.interval(ones).low == 1.0
    interval = found.interval(ones, SHARE)
    assert interval.mean == 1.0
    assert 0.55 < interval.low < 0.8


def test_holm_by_hand() -> None:
    """Holm (1979): the smallest times 3, the next times 2, never below the one before."""
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
    assert max(holm([0.9, 0.8])) == 1.0
