"""Krippendorff's alpha against published values and the peer."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest

from truthful_rlhf.aggregation.statistics import krippendorff_alpha

X = np.nan
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
)
"""Four observers, twelve units: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011)."""


def alpha_of(matrix: np.ndarray, rng: np.random.Generator, n_resamples: int = 20) -> tuple[float, float, float]:
    """``matrix`` has a row per round and a column per labeler."""
    rounds, labelers = np.nonzero(~np.isnan(matrix))
    return krippendorff_alpha(matrix[rounds, labelers], rounds, len(matrix), rng, n_resamples)


def test_alpha_of_the_published_example() -> None:
    """Interval data: .849. The nominal alpha of the same data is .743, so the level of measurement is told apart."""
    alpha, _, _ = alpha_of(PUBLISHED.T, np.random.default_rng(0))
    assert alpha == pytest.approx(0.849, abs=5e-4)
    assert alpha_of((PUBLISHED.T - 1) / 4, np.random.default_rng(0))[0] == pytest.approx(alpha, rel=1e-12)


def test_alpha_is_the_peers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        reports = np.where(rng.random((60, 8)) < 0.5, rng.random((60, 8)), np.nan)
        reports[:, 0] = 0.5
        alpha, low, high = alpha_of(reports, rng, 50)
        expected = krippendorff.alpha(reliability_data=reports.T, level_of_measurement="interval")
        assert alpha == pytest.approx(expected, abs=1e-12)
        assert low <= alpha <= high


def test_alpha_of_copies_is_one_and_of_coins_about_zero() -> None:
    rng = np.random.default_rng(1)
    assert alpha_of(np.repeat(rng.random((50, 1)), 4, axis=1), rng) == (1.0, 1.0, 1.0)
    _, low, high = alpha_of(rng.random((300, 4)), rng, 300)
    assert low < 0.0 < high


def test_alpha_is_unknown_without_a_comparison_or_without_spread() -> None:
    rng = np.random.default_rng(1)
    assert np.isnan(alpha_of(np.full((5, 3), 0.5), rng)).all()
    assert np.isnan(alpha_of(np.array([[0.2, X], [X, 0.9]]), rng)).all()


def test_the_interval_covers() -> None:
    """Alpha of independent votes with accuracy p is about (2p - 1)^2; the interval holds it about 95 times in 100."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        outcomes = rng.random(150) < 0.5
        votes = np.where(rng.random((150, 5)) < 0.8, outcomes[:, None], ~outcomes[:, None]).astype(float)
        _, low, high = alpha_of(votes, rng, 200)
        covered += low <= 0.36 <= high
    assert 52 <= covered <= 60


def test_rounds_that_one_labeler_judged_say_nothing_about_agreement() -> None:
    reports = np.random.default_rng(0).random((30, 3))
    alone = np.full((300, 3), X)
    alone[:, 0] = 0.5
    together = alpha_of(reports, np.random.default_rng(1))
    assert alpha_of(np.vstack([reports, alone]), np.random.default_rng(1)) == pytest.approx(together)
