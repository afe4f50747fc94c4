from __future__ import annotations

import numpy as np

from tests.pipeline.aggregate.campaigns import annotations_of
from truthful_rlhf.pipeline.aggregate.profiles import labeler_profiles

# Outcomes 1, 0, 1, unknown. Labeler 0: 0.9, 0.2, 0.5, 1; labeler 1: the second, wrong; labeler 2: the unknown.
REPORTS = np.array([[0.9, np.nan, np.nan], [0.2, 1.0, np.nan], [0.5, np.nan, np.nan], [1.0, np.nan, 0.6]])
OUTCOMES = np.array([1.0, 0.0, 1.0, np.nan])


def test_figures_of_a_hand_made_campaign() -> None:
    profiles = labeler_profiles(annotations_of(REPORTS), OUTCOMES)
    assert profiles.n_reports.tolist() == [4, 1, 1]
    assert profiles.n_scored.tolist() == [3, 1, 0]
    np.testing.assert_allclose(profiles.accuracy, [2.5 / 3, 0.0, np.nan])  # 0.5 is half right
    np.testing.assert_allclose(profiles.brier, [(0.01 + 0.04 + 0.25) / 3, 1.0, np.nan])
    np.testing.assert_allclose(profiles.calibration_error, [(0.1 + 0.2 + 0.5) / 3, 1.0, np.nan])
    np.testing.assert_allclose(profiles.agreement, [1 - (0.8 + 0.4) / 2, 0.2, 0.6])


def test_intervals_hold_the_estimate_and_shrink() -> None:
    rng = np.random.default_rng(0)
    outcomes = (rng.random(2000) < 0.5).astype(float)
    reports = np.clip(outcomes[:, None] * 0.4 + 0.3 + rng.normal(0, 0.2, (2000, 2)), 0, 1)
    reports[100:, 1] = np.nan
    p = labeler_profiles(annotations_of(reports), outcomes)
    for low, value, high in ((p.accuracy_low, p.accuracy, p.accuracy_high), (p.brier_low, p.brier, p.brier_high)):
        assert ((low <= value) & (value <= high)).all()
        assert (high - low)[0] < 0.3 * (high - low)[1]


def test_seven_right_of_seven_is_not_certainty() -> None:
    p = labeler_profiles(annotations_of(np.ones((7, 1))), np.ones(7))
    assert p.brier[0] == 0.0
    assert 0.3 < p.brier_high[0] < 0.5
    assert 0.55 < p.accuracy_low[0] < 0.7


def test_brier_interval_covers() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        report = rng.random((25, 1))
        outcome = (rng.random(25) < report[:, 0]).astype(float)  # calibrated: the Brier score is E[p (1 - p)] = 1/6
        p = labeler_profiles(annotations_of(report), outcome)
        covered += p.brier_low[0] <= 1 / 6 <= p.brier_high[0]
    assert covered >= 186
