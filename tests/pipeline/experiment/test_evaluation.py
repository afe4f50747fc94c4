"""Evaluation arithmetic on hand-computed values."""

import numpy as np
import pytest

from truthful_rlhf.pipeline.experiment.estimates import Estimate, alignment_gap, win_rate


def test_prompts_not_responses_are_the_independent_units() -> None:
    # prompt means 1 and 3: mean 2, sd sqrt(2), standard error sqrt(2)/sqrt(2) = 1; per response it would be smaller
    estimate = Estimate.over_prompts(np.array([1.0, 1.0, 3.0, 3.0]), responses_per_prompt=2)
    assert estimate == Estimate(2.0, 1.0)


def test_win_rate_counts_ties_half() -> None:
    np.testing.assert_array_equal(win_rate(np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.5])), [1.0, 0.0, 0.5])


def test_gap_is_zero_for_the_truth_one_for_the_base_and_above_one_below_it() -> None:
    assert alignment_gap(0.5, 0.5, 0.2)[1] == 0.0
    assert alignment_gap(0.5, 0.2, 0.2)[1] == pytest.approx(1.0)
    worse = alignment_gap(0.5, 0.1, 0.2)[1]
    assert worse is not None
    assert worse > 1.0
    assert alignment_gap(0.1, 0.1, 0.2)[1] is None
