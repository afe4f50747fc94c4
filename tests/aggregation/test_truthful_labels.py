"""No report gains within the round for any single-peaked taste, and the rules that must fail this.

A taste is single-peaked with the peak p if of two labels on the same side of p the nearer one is liked better. The
label of the truth is at least as good as that of a lie for *every* such taste exactly if it lies between p and the
label of the lie (ends included): with a label of the lie strictly inside, or beyond p, some taste prefers the lie.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.base import FloatArray

unit = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
absent_or_unit = st.one_of(unit, st.just(float("nan")))
thorough = settings(max_examples=300, deadline=None, derandomize=True)

Label = Callable[[FloatArray], float]


def no_taste_prefers_the_lie(peak: float, truth: float, lie: float) -> bool:
    return min(peak, lie) <= truth <= max(peak, lie)


def averaged_median(reports: FloatArray) -> float:
    """Return the median as numpy has it: the mean of the two in the middle."""
    return float(np.nanmedian(reports))


def gains_of_lies(label: Label, others: FloatArray, peak: float, lies: FloatArray) -> list[float]:
    """Return the lies of labeler 0 that some single-peaked taste with this peak prefers to the truth."""
    truth = label(np.append(peak, others))
    return [lie for lie in lies if not no_taste_prefers_the_lie(peak, truth, label(np.append(lie, others)))]


@thorough
@given(peak=unit, lie=unit, others=st.lists(absent_or_unit, max_size=9))
def test_nobody_gains_from_a_lie_under_the_median(peak: float, lie: float, others: list[float]) -> None:
    rule = AGGREGATORS["median"](1 + len(others))
    assert gains_of_lies(rule.predict_one, np.array(others), peak, np.array([lie])) == []


@thorough
@given(reports=st.lists(absent_or_unit, min_size=1, max_size=9))
def test_the_median_turns_round_with_a_and_b(reports: list[float]) -> None:
    rule = AGGREGATORS["median"](len(reports))
    turned = rule.predict_one(1.0 - np.array(reports))
    assert turned == pytest.approx(1.0 - rule.predict_one(np.array(reports)), abs=1e-15)


def test_the_even_median_by_hand() -> None:
    """Sorted .1 .4 | .6 .9: 1/2 lies between .4 and .6, whoever at .6 or .9 moves up; .1 .2 | .3 .9 gives .3."""
    rule = AGGREGATORS["median"](4)
    assert rule.predict_one([0.1, 0.4, 0.6, 0.9]) == 0.5
    assert rule.predict_one([0.1, 0.4, 0.8, 0.9]) == 0.5
    assert rule.predict_one([0.1, 0.2, 0.3, 0.9]) == 0.3
    assert rule.predict_one([0.1, 0.7, 0.8, 0.9]) == 0.7


@pytest.mark.parametrize("label", [averaged_median, lambda reports: float(np.nanmean(reports))])
def test_negative_control_averages_reward_lies(label: Label) -> None:
    """The averaged median of .1 .4 .6 .9 is .5; the labeler at .6 gets .6 by reporting .8. The mean: .5 to .55."""
    assert 0.8 in gains_of_lies(label, np.array([0.1, 0.4, 0.9]), 0.6, np.array([0.8]))
    rng = np.random.default_rng(0)
    caught = [bool(gains_of_lies(label, rng.random(3), rng.random(), rng.random(20))) for _ in range(200)]
    assert np.mean(caught) > 0.3
