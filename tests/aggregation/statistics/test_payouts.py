"""Pay-outs balance, are the mechanism's steps, and cannot be had by lying or by splitting."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation.rules.online_weighted import OnlineWeighted
from truthful_rlhf.aggregation.statistics import payouts

NAN = float("nan")


def test_payouts_by_hand() -> None:
    """Scores 1, 0, 3/4; mean 7/12."""
    np.testing.assert_allclose(payouts([[1.0, 0.0, 0.5]], [1], np.ones(3)), [[5 / 12, -7 / 12, 2 / 12]])


def test_payouts_balance_in_every_round_and_are_the_mechanisms_steps() -> None:
    rng = np.random.default_rng(0)
    reports, outcomes = rng.random((300, 5)), (rng.random(300) < 0.5).astype(float)
    reports[rng.random(reports.shape) < 0.3] = NAN
    outcomes[rng.random(300) < 0.3] = NAN
    stakes = rng.random((300, 5)) * 10
    paid = payouts(reports, outcomes, stakes)
    np.testing.assert_allclose(paid.sum(axis=1), 0.0, atol=1e-12)
    assert (paid >= -stakes - 1e-12).all()
    assert not paid[np.isnan(reports) | np.isnan(outcomes)[:, None]].any()
    rule = OnlineWeighted(5, eta=0.3)
    rule.learn_one(reports[0], 1.0)
    step = payouts(reports[:1], [1.0], np.full(5, 0.2))
    np.testing.assert_allclose(rule.weights_, 0.2 + 0.3 * step[0], atol=1e-15)


@pytest.mark.parametrize("belief", [0.1, 0.5, 0.8])
def test_the_belief_earns_most_in_expectation(belief: float) -> None:
    """Over a grid of reports; negative control: the absolute loss in place of the squared one rewards extremes."""
    grid = np.linspace(0.0, 1.0, 101)
    expected = [
        sum(p * payouts([[r, 0.3, 0.6]], [y], np.ones(3))[0, 0] for y, p in ((1, belief), (0, 1 - belief)))
        for r in grid
    ]
    assert grid[int(np.argmax(expected))] == pytest.approx(belief)
    absolute = [-belief * (1 - r) - (1 - belief) * r for r in grid]
    assert grid[int(np.argmax(absolute))] in (0.0, 1.0)


def test_splitting_a_stake_over_sybils_with_one_report_earns_the_same() -> None:
    one = payouts([[0.9, 0.3, 0.6]], [1], [2.0, 1.0, 1.0])
    split = payouts([[0.9, 0.9, 0.3, 0.6]], [1], [1.5, 0.5, 1.0, 1.0])
    assert split[0, :2].sum() == pytest.approx(one[0, 0], abs=1e-15)
    assert split[0, 2] == pytest.approx(one[0, 1], abs=1e-15)


def test_bad_stakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) or \(1, 2\), got \(1,\)"):
        payouts([[0.5, 0.5]], [1], [1.0])
    with pytest.raises(ValueError, match=">= 0"):
        payouts([[0.5, 0.5]], [1], [1.0, -1.0])
