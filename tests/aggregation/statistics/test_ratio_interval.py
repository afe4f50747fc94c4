"""The interval of a ratio: Fieller's theorem in closed form, coverage, and what no resample may be left out for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from truthful_rlhf.aggregation.statistics import percentile_interval, ratio_interval

FloatArray = NDArray[np.float64]


def normal(mean: float, error: float, seed: int, n: int = 200_000) -> FloatArray:
    return np.random.default_rng(seed).normal(mean, error, n)


def fieller(top: float, top_error: float, bottom: float, bottom_error: float) -> tuple[float, float]:
    """Return the roots of (top - r bottom)^2 = z^2 (top_error^2 + r^2 bottom_error^2), for independent means."""
    z = float(norm.ppf(0.975))
    a, c = bottom**2 - (z * bottom_error) ** 2, top**2 - (z * top_error) ** 2
    root = np.sqrt((top * bottom) ** 2 - a * c)
    low, high = sorted(((top * bottom - root) / a, (top * bottom + root) / a))
    return float(low), float(high)


def test_positive_denominators_give_the_percentile_interval() -> None:
    top, bottom = normal(1, 0.5, 0, 2000), normal(5, 0.5, 1, 2000)
    assert (bottom > 0).all()
    assert ratio_interval(top, bottom, 0.2) == percentile_interval(top / bottom)


@pytest.mark.parametrize("top", [0.0, 1.0, 3.0])
def test_it_is_fiellers_interval_where_the_denominator_is_hardly_ever_negative(top: float) -> None:
    """Three standard errors from 0: 1.3 in a thousand resamples are negative, and the interval is bounded."""
    tops, bottoms = normal(top, 1, 0), normal(3, 1, 1)
    assert 0 < (bottoms <= 0).sum() < 0.002 * len(bottoms)
    assert ratio_interval(tops, bottoms, top / 3) == pytest.approx(fieller(top, 1, 3, 1), rel=0.03, abs=0.03)


def test_a_denominator_that_may_be_zero_leaves_one_bound_where_the_numerator_may_not() -> None:
    """Fieller's set then is all but what lies between the roots: the ratio is at least the upper one (or negative)."""
    tops, bottoms = normal(5, 1, 0), normal(1, 1, 1)
    low, high = ratio_interval(tops, bottoms, 5.0)
    assert low == pytest.approx(fieller(5, 1, 1, 1)[1], rel=0.03)
    assert high == np.inf
    assert ratio_interval(-tops, bottoms, -5.0) == pytest.approx((-high, -low))


def test_nothing_is_known_where_both_may_be_zero() -> None:
    assert ratio_interval(normal(0.5, 1, 0), normal(0.5, 1, 1), 1.0) == (-np.inf, np.inf)
    assert ratio_interval([1.0, -1.0], [0.0, 0.0], 1.0) == (-np.inf, np.inf)


@pytest.mark.parametrize("factor", [0.0, 1.0, -2.0])
def test_a_ratio_that_all_resamples_share_is_known_though_some_denominators_are_negative(factor: float) -> None:
    bottom = normal(3, 1, 0, 2000)
    assert (bottom <= 0).any()
    assert ratio_interval(factor * bottom, bottom, factor) == pytest.approx((factor, factor))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-2, 5)), min_size=1, max_size=30), st.integers(-4, 4))
def test_every_ratio_inside_passes_the_definition_and_the_next_ones_outside_do_not(
    draws: list[tuple[int, int]], estimate: int
) -> None:
    """0 must lie between the 10 % quantiles of top - r bottom: counted here one by one, in whole numbers."""
    top, bottom = (np.array(values, dtype=np.float64) for values in zip(*draws, strict=True))
    if (bottom > 0).all():
        return

    def kept(ratio: float) -> bool:
        difference = np.round(top - ratio * bottom, 9)
        return bool(min((difference <= 0).mean(), (difference >= 0).mean()) >= 0.1)

    low, high = ratio_interval(top, bottom, estimate, level=0.8)
    inside = np.linspace(max(low, -50.0), min(high, 50.0), 37).tolist()
    # nearly all denominators are 0 and no ratio fits: then nothing is known, and no end is given
    assert all(map(kept, inside)) or ((low, high) == (-np.inf, np.inf) and not any(map(kept, inside)))
    for end, outside in ((low, low - 1e-4), (high, high + 1e-4)):
        assert np.isinf(end) or not kept(outside)


def test_it_covers_the_ratio_as_often_as_it_says() -> None:
    """Thirty observations, the denominator's mean two standard errors from 0: the old interval vanished in most runs.

    The control: an interval that claims one half covers about one half.
    """
    rng, hits, sure, vanished, runs = np.random.default_rng(0), 0, 0, 0, 0
    for _ in range(300):
        top, bottom = rng.normal(0.2, 1, 30), rng.normal(0.4, 1, 30)
        if bottom.mean() <= 0:
            continue  # no estimate either
        rows = rng.integers(30, size=(600, 30))
        resamples = top[rows].mean(axis=1), bottom[rows].mean(axis=1)
        runs += 1
        vanished += bool((resamples[1] <= 0).any())
        for level in (0.95, 0.5):
            low, high = ratio_interval(*resamples, top.mean() / bottom.mean(), level)
            hits += level == 0.95 and low <= 0.5 <= high
            sure += level == 0.5 and low <= 0.5 <= high
    assert vanished / runs > 0.6
    assert 0.90 < hits / runs < 0.98
    assert 0.40 < sure / runs < 0.60
