"""How many more audits: Wilson's numbers by hand, and intervals that hold the right number as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation.auditing import number as audit_number
from truthful_rlhf.aggregation.auditing.number import (
    AuditNumber,
    audit_grid,
    audits_for_accuracy,
    audits_for_labels,
    reports_for_accuracy,
    shortfalls,
    smallest_number,
)
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.game.campaigns import draw_nature
from truthful_rlhf.aggregation.statistics import wilson_interval


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.73, 1.0])
@pytest.mark.parametrize("within", [0.03, 0.1, 0.3])
def test_the_number_is_the_smallest_that_does(accuracy: float, within: float) -> None:
    number = reports_for_accuracy(accuracy, within)
    half = [float(np.diff(wilson_interval(accuracy, n))[0]) / 2 for n in (number, number - 1) if n > 0]
    assert half[0] <= within
    assert all(h > within for h in half[1:])


def coverage(accuracy: float, pilot: int, within: float, width: float) -> float:
    """Return how often the interval, ``width`` times as wide around its estimate, holds the right number."""
    rng = np.random.default_rng(round(1000 * accuracy) + pilot)
    right, held = max(0, reports_for_accuracy(accuracy, within) - pilot), []
    for hits in rng.binomial(pilot, accuracy, 1500):
        a = audits_for_accuracy(hits / pilot, pilot, 1.0, within)
        held.append(a.estimate - width * (a.estimate - a.low) <= right <= a.estimate + width * (a.high - a.estimate))
    return float(np.mean(held))


@pytest.mark.parametrize("accuracy", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("pilot", [10, 40])
def test_the_interval_for_a_labeler_covers(accuracy: float, pilot: int) -> None:
    assert coverage(accuracy, pilot, 0.08, 1.0) >= 0.92


def test_a_third_of_that_interval_does_not() -> None:
    """The control: the simulation can tell an interval that is too narrow."""
    assert coverage(0.75, 40, 0.08, 1 / 3) < 0.7


def test_absences_cost_audits_and_audits_are_credited() -> None:
    full, half = (audits_for_accuracy(0.8, 20, present, 0.1) for present in (1.0, 0.5))
    assert half.estimate == pytest.approx(2 * full.estimate, abs=1)
    assert audits_for_accuracy(0.8, 1000, 1.0, 0.1) == AuditNumber(0.0, 0.0, 0.0)
    unknown = audits_for_accuracy(float("nan"), 0, 1.0, 0.1)
    assert unknown.estimate == unknown.high == 93 > unknown.low
    with pytest.raises(ValueError, match="half-width"):
        audits_for_accuracy(0.8, 20, 1.0, 0.7)


def test_smallest_number_is_the_one_from_which_it_stays() -> None:
    grid = np.array([0, 5, 10, 20])
    assert smallest_number(np.array([0.3, 0.01, 0.1, 0.0]), grid, 0.05) == 20
    assert smallest_number(np.array([0.01, 0.0, 0.0, 0.0]), grid, 0.05) == 0
    assert audit_grid(10).tolist()[-1] == 10


def test_too_few_outcomes_to_say() -> None:
    reports = np.full((30, 3), 0.6)
    with pytest.raises(ValueError, match="at least 5"):
        audits_for_labels(reports, np.full(30, np.nan), 0.02, np.random.default_rng(0))


@pytest.mark.slow
def test_the_interval_for_labels_holds_what_campaigns_turn_out_to_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of ten exchange their reports, 14 of 144 pairs are audited; the control is the estimate without interval."""
    monkeypatch.setattr(audit_number, "N_COMPLETED", 40)
    held, exact = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        nature = draw_nature(144, rng)
        beliefs = np.column_stack([calibrated_beliefs(nature.log_odds, 1.5, rng) for _ in range(10)])
        reports = np.where(np.arange(10) < 6, 1.0 - beliefs, beliefs)
        known, grid = np.arange(14), audit_grid(130)
        told = np.where(np.arange(144) < 14, nature.outcomes, np.nan)
        number = audits_for_labels(reports, told, 0.05, rng)
        for _ in range(4):
            lacking = shortfalls(reports, nature.outcomes, known, grid, "online_weighted", rng)
            needed = smallest_number(lacking, grid, 0.05)
            held.append(number.low <= needed <= number.high)
            exact.append(number.estimate == needed)
    assert np.mean(held) >= 0.85
    assert np.mean(exact) < 0.6
