"""Calibration against hand-computed tables, and on labels that are calibrated, or not, by construction."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation.statistics import calibration_error, calibration_errors, reliability

NAN = float("nan")


def test_reliability_by_hand() -> None:
    """Bins [0, .5) and [.5, 1]: stated means .2 and .85, observed 1/2 and 1: ECE = .5 (.3 + .15)."""
    stated, outcomes = [0.1, 0.3, 0.7, 1.0, 0.6], [0, 1, 1, 1, NAN]
    table = reliability(stated, outcomes, n_bins=2)
    assert table.count.tolist() == [2, 2]
    np.testing.assert_allclose(table.stated, [0.2, 0.85])
    np.testing.assert_allclose(table.observed, [0.5, 1.0])
    assert calibration_error(stated, outcomes, n_bins=2) == pytest.approx(0.225)


def test_weighted_reliability_by_hand() -> None:
    """Weights 3 and 1 in the first bin: stated (.3 + .3) / 4 = .15, observed 1/4."""
    table = reliability([0.1, 0.3], [0, 1], [3, 1], n_bins=2)
    np.testing.assert_allclose([table.stated[0], table.observed[0], table.count[0]], [0.15, 0.25, 4.0])
    assert calibration_error([0.1, 0.3], [0, 1], [3, 1], n_bins=2) == pytest.approx(0.1)


def test_bins_are_equal_closed_at_one_and_left_out_where_empty() -> None:
    table = reliability([0.0, 0.24, 0.25, 0.99, 1.0], [0, 0, 1, 1, 1], n_bins=4)
    assert table.count.tolist() == [2, 1, 2]
    np.testing.assert_allclose(table.stated, [0.12, 0.25, 0.995])
    assert reliability([0.2, 0.9], [0, 1], n_bins=1).count.tolist() == [2]
    with pytest.raises(ValueError, match="n_bins must be >= 1, got 0"):
        reliability([0.2], [0], n_bins=0)


def test_the_error_is_the_gap_of_the_diagram() -> None:
    """sum |sum (q - y)| / n, as it is computed, against sum (n_b / n) |mean - mean|, as it is defined."""
    rng = np.random.default_rng(0)
    stated, outcomes, weights = rng.random(500), rng.integers(0, 2, 500), rng.random(500)
    for heavy in (None, weights):
        table = reliability(stated, outcomes, heavy)
        defined = (table.count * np.abs(table.stated - table.observed)).sum() / table.count.sum()
        assert calibration_error(stated, outcomes, heavy) == pytest.approx(defined, rel=1e-12)


def test_calibrated_labels_have_a_small_error_and_overconfident_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(50_000)
    outcomes = (rng.random(50_000) < chances).astype(float)
    assert len(reliability(chances, outcomes).count) == 10
    assert calibration_error(chances, outcomes) < 0.01
    assert calibration_error((chances > 0.5).astype(float), outcomes) > 0.2


def test_errors_of_groups_are_those_of_each_group() -> None:
    rng = np.random.default_rng(1)
    stated, outcomes, who = rng.random(200), rng.integers(0, 2, 200).astype(float), rng.integers(0, 3, 200)
    outcomes[who == 1] = NAN
    together = calibration_errors(stated, outcomes, who, 4)
    alone = [calibration_error(stated[who == i], outcomes[who == i]) for i in range(3)]
    np.testing.assert_allclose(together, [*alone, NAN], rtol=1e-12)
    assert np.isnan(together).tolist() == [False, True, False, True]
