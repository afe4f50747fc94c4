"""The logistic function and its inverse, against the standard library and without overflow."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truthful_rlhf.aggregation.log_odds import logit, sigmoid


@given(st.floats(-30, 30))
def test_sigmoid_is_the_logistic_function_and_mirrors_at_zero(x: float) -> None:
    assert float(sigmoid(x)) == pytest.approx(1.0 / (1.0 + math.exp(-x)), abs=1e-15)
    assert float(sigmoid(x) + sigmoid(-x)) == pytest.approx(1.0, abs=1e-15)


def test_sigmoid_does_not_overflow_where_the_textbook_formula_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(sigmoid([-1e4, 1e4]), [0.0, 1.0])
        with pytest.raises(RuntimeWarning, match="overflow"):  # negative control
            1.0 / (1.0 + np.exp(-np.array([-1e4])))


@given(st.floats(1e-6, 1 - 1e-6))
def test_logit_undoes_sigmoid(p: float) -> None:
    assert float(sigmoid(logit(p))) == pytest.approx(p, rel=1e-9)


def test_certain_probabilities_have_finite_log_odds() -> None:
    """0 and 1 stand for 1e-9 and 1 - 1e-9: log(1e9 - 1) = 20.723."""
    np.testing.assert_allclose(logit([0.0, 1.0]), [-20.7232658, 20.7232658], rtol=1e-8)
