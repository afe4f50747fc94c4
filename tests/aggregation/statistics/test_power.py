"""How many verdicts show a difference: the published values, and the power that the exact test has there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from truthful_rlhf.aggregation.statistics import difference_shown, verdicts_needed
from truthful_rlhf.aggregation.statistics.power import _FACTOR


def sign_test_power(n: int, difference: float, differing: float) -> float:
    """Return the power of the exact two-sided sign test at 5 % on the verdicts that differ."""
    first = (differing + difference) / 2.0 / differing
    power = 0.0
    for m in range(1, n + 1):
        k = np.arange(m + 1)
        rejected = 2.0 * binom.cdf(np.minimum(k, m - k), m, 0.5) <= 0.05
        power += binom.pmf(m, n, differing) * binom.pmf(k, m, first)[rejected].sum()
    return power


def test_the_two_published_numbers() -> None:
    """30 points take 27 verdicts and 20 points 60, where policies differ on 30 % of them."""
    assert verdicts_needed(0.3) == 27
    assert verdicts_needed(0.2) == 60


def test_the_factor_is_lehrs_rounding_of_the_normal_one() -> None:
    exact = (norm.ppf(0.975) + norm.ppf(0.8)) ** 2
    assert exact < _FACTOR < exact + 0.2


@pytest.mark.parametrize("difference", [0.3, 0.25, 0.2, 0.15, 0.1])
def test_the_exact_sign_test_has_that_power(difference: float) -> None:
    n = verdicts_needed(difference)
    assert sign_test_power(n, difference, 0.3) >= 0.775
    assert sign_test_power(round(0.7 * n), difference, 0.3) < 0.7  # the control: fewer do not


@given(st.floats(0.01, 0.5), st.floats(0.5, 1.0))
def test_one_is_the_inverse_of_the_other(difference: float, differing: float) -> None:
    n = verdicts_needed(difference, differing)
    assert difference_shown(n, differing) <= difference * (1 + 1e-9)
    assert n == 1 or difference_shown(n - 1, differing) > difference * (1 - 1e-9)


@pytest.mark.parametrize(("difference", "differing"), [(0.0, 0.3), (0.4, 0.3), (0.1, 1.5), (-0.1, 0.3)])
def test_what_cannot_be_is_refused(difference: float, differing: float) -> None:
    with pytest.raises(ValueError, match="difference"):
        verdicts_needed(difference, differing)
