"""The leak alarm sounds where audits are known, is silent where they are not, and knows when it cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.leak_alarm import LEVEL, agreement, leak_alarm


def panel(rng: np.random.Generator, n_pairs: int = 144, n_labelers: int = 10) -> FloatArray:
    log_odds = rng.normal(0.0, 1.5, n_pairs)
    reports = expit(0.6 * (log_odds[:, None] + rng.normal(0.0, 1.5, (n_pairs, n_labelers))))
    reports[rng.random(reports.shape) < 0.1] = np.nan
    return reports


def leaked(reports: FloatArray, audited: np.ndarray, n_liars: int = 3) -> FloatArray:
    """Return the reports with the first labelers lying where a pair is not audited."""
    lying = reports.copy()
    lying[~audited, :n_liars] = 1.0 - lying[~audited, :n_liars]
    return lying


def test_a_third_who_know_the_audits_are_heard_and_honest_panels_are_not_accused() -> None:
    """29 of 144 pairs. More than 6 false alarms in 150 honest panels have a chance below .001 at a level of .01."""
    sounded, false_alarms = 0, 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        reports, audited = panel(rng), rng.permutation(144) < 29
        false_alarms += leak_alarm(reports, audited, rng, n_redraws=199, n_simulated=1).status == "alarm"
        if seed < 20:
            sounded += leak_alarm(leaked(reports, audited), audited, rng, n_redraws=199).status == "alarm"
    assert sounded >= 19
    assert false_alarms <= 6


def test_liars_who_do_not_know_the_audits_set_off_nothing() -> None:
    """They lie on all pairs: a matter for the weights, not for this alarm."""
    rng = np.random.default_rng(0)
    reports, audited = panel(rng), rng.permutation(144) < 29
    reports[:, :3] = 1.0 - reports[:, :3]
    assert leak_alarm(reports, audited, rng, n_redraws=199).status != "alarm"


def test_who_lies_is_among_the_largest_z() -> None:
    rng = np.random.default_rng(1)
    reports, audited = panel(rng, 500), rng.permutation(500) < 100
    alarm = leak_alarm(leaked(reports, audited), audited, rng, n_redraws=199)
    assert alarm.status == "alarm"
    assert np.isnan(alarm.heard)
    assert set(np.argsort(alarm.z)[-3:]) == {0, 1, 2}


def test_a_few_audits_cannot_tell() -> None:
    rng = np.random.default_rng(2)
    reports = panel(rng)
    few = leak_alarm(reports, np.arange(144) < 2, rng, n_redraws=199)
    many = leak_alarm(reports, rng.permutation(144) < 40, rng, n_redraws=199)
    assert (few.status, many.status) == ("cannot tell", "quiet")
    assert few.heard < 0.95 <= many.heard
    nothing = leak_alarm(reports, np.zeros(144, dtype=bool), rng, n_redraws=99)
    assert (nothing.status, nothing.p_value, nothing.heard) == ("cannot tell", 1.0, 0.0)


def test_planned_audits_of_disputed_pairs_are_no_leak_if_their_chances_are_told() -> None:
    """Honest panels; pairs on which labelers disagree are audited more often. Without the chances: false alarms."""
    told, untold = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reports = panel(rng, 400)
        disputed = np.nanvar(reports, axis=1)
        chances = np.where(disputed > np.quantile(disputed, 0.8), 0.5, 0.02)
        audited = rng.random(400) < chances
        told += leak_alarm(reports, audited, rng, chances, n_redraws=199, n_simulated=1).status == "alarm"
        untold += leak_alarm(reports, audited, rng, n_redraws=199, n_simulated=1).status == "alarm"
    assert told <= 3
    assert untold >= 20


def test_p_values_of_honest_panels_are_uniform() -> None:
    """Exactness: of 200 panels as many fall below .2 as the level says, within 3 standard errors."""
    below = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        reports, audited = panel(rng, 60, 5), rng.permutation(60) < 12
        below += leak_alarm(reports, audited, rng, n_redraws=99, n_simulated=1).p_value <= 0.2
    assert abs(below / 200 - 0.2) < 3 * (0.2 * 0.8 / 200) ** 0.5
    assert LEVEL == 0.01


def test_agreement_by_hand() -> None:
    """x = 1, 1/2, -1: the first agrees with mean (-1/4), the second with 0, the third with 3/4."""
    values = agreement(np.array([[1.0, 0.75, 0.0, np.nan]]))
    np.testing.assert_allclose(values[0, :3], [-0.25, 0.0, -0.75])
    assert np.isnan(values[0, 3])


def test_bad_input_is_refused() -> None:
    reports, rng = panel(np.random.default_rng(0)), np.random.default_rng(0)
    audited = np.arange(144) < 20
    with pytest.raises(ValueError, match="audited must be boolean"):
        leak_alarm(reports, audited.astype(float), rng)
    with pytest.raises(ValueError, match="pair 0 has"):
        leak_alarm(reports, audited, rng, np.zeros(144))
    with pytest.raises(ValueError, match="shape"):
        leak_alarm(reports, audited, rng, np.ones(3))
    with pytest.raises(ValueError, match="n_redraws"):
        leak_alarm(reports, audited, rng, n_redraws=10)
