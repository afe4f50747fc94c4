"""What recorded labelers could have gained: known answers, and no gain made of luck."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.game.campaigns import Objective
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.recorded_gains import FEWEST_REPORTS, gains_on_recorded
from truthful_rlhf.aggregation.log_odds import sigmoid

INFLUENCE, TASTE = Objective("influence"), Objective("taste")


@pytest.fixture(scope="module")
def campaign() -> tuple[np.ndarray, np.ndarray]:
    """Return reports (600, 6) and outcomes: four sincere labelers, one that flips, one overconfident."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 1.5, 600)
    sincere = [calibrated_beliefs(log_odds, 1.0, rng) for _ in range(6)]
    reports = np.column_stack([*sincere[:4], 1.0 - sincere[4], Misreport(scale=4.0)(sincere[5])])
    reports[rng.random(reports.shape) < 0.2] = np.nan
    return reports, (rng.random(600) < sigmoid(log_odds)).astype(np.float64)


def test_a_flipper_and_an_overconfident_labeler_could_have_gained_influence(
    campaign: tuple[np.ndarray, np.ndarray],
) -> None:
    found = gains_on_recorded(*campaign, AGGREGATORS["online_weighted"], INFLUENCE, rng=np.random.default_rng(1))
    assert found[4].low > 0.5
    assert found[4].misreport.scale < 0.0
    assert found[5].low > 0.02
    assert 0.0 <= found[5].misreport.scale < 1.0  # better calibration, not a lie
    for sincere in found[:4]:
        assert sincere.gain < 0.1  # control


def test_a_gain_measured_elsewhere_is_smaller_than_in_hindsight(campaign: tuple[np.ndarray, np.ndarray]) -> None:
    reports, outcomes = campaign
    for seed in range(3):
        luck = np.random.default_rng(seed).permutation(outcomes)  # outcomes that nobody can know
        found = gains_on_recorded(
            reports, luck, AGGREGATORS["online_weighted"], INFLUENCE, rng=np.random.default_rng(1), labelers=[0, 1]
        )
        assert [gain.labeler for gain in found] == [0, 1]
        assert all(gain.low <= gain.gain <= gain.high for gain in found)


def test_the_mean_pays_taste_and_no_influence(campaign: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    for gain in gains_on_recorded(*campaign, AGGREGATORS["mean"], INFLUENCE, rng=rng):
        assert (gain.gain, gain.hindsight) == (0.0, 0.0)
        assert gain.misreport.is_truthful
    for gain in gains_on_recorded(*campaign, AGGREGATORS["mean"], TASTE, rng=rng, labelers=range(4)):
        assert gain.low > 0.02
        assert gain.misreport.scale > 1.0


def test_a_labeler_with_few_reports_is_not_audited(campaign: tuple[np.ndarray, np.ndarray]) -> None:
    reports, outcomes = campaign[0].copy(), campaign[1]
    reports[FEWEST_REPORTS - 1 :, 0] = np.nan
    (gain,) = gains_on_recorded(
        reports, outcomes, AGGREGATORS["online_weighted"], INFLUENCE, rng=np.random.default_rng(0), labelers=[0]
    )
    assert np.isnan([gain.gain, gain.low, gain.high, gain.hindsight]).all()
    assert gain.n_audited < FEWEST_REPORTS


def test_without_outcomes_nobody_is_audited(campaign: tuple[np.ndarray, np.ndarray]) -> None:
    outcomes = np.full(len(campaign[1]), np.nan)
    found = gains_on_recorded(campaign[0], outcomes, AGGREGATORS["mean"], TASTE, rng=np.random.default_rng(0))
    assert all(np.isnan(gain.gain) for gain in found)


def test_progress_is_told_and_bad_input_refused(campaign: tuple[np.ndarray, np.ndarray]) -> None:
    done: list[int] = []
    rule, rng = AGGREGATORS["mean"], np.random.default_rng(0)
    gains_on_recorded(*campaign, rule, INFLUENCE, rng=rng, labelers=[3, 1], n_splits=1, on_labeler=done.append)
    assert done == [3, 1]
    with pytest.raises(ValueError, match="n_splits"):
        gains_on_recorded(*campaign, rule, INFLUENCE, rng=rng, n_splits=0)
    with pytest.raises(ValueError, match="outcomes"):
        gains_on_recorded(campaign[0], campaign[1][:5], rule, INFLUENCE, rng=rng)
    for labeler in (-1, 6, 9):
        with pytest.raises(ValueError, match=f"labeler {labeler} does not exist: the reports have 6 columns"):
            gains_on_recorded(*campaign, rule, INFLUENCE, rng=rng, labelers=[labeler])


def test_on_a_real_debate_campaign(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "nyu_debate.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = {row["pair_id"]: k for k, row in enumerate({row["pair_id"]: row for row in rows}.values())}
    labelers = {name: k for k, name in enumerate(sorted({row["labeler_id"] for row in rows}))}
    reports, outcomes = np.full((len(pairs), len(labelers)), np.nan), np.empty(len(pairs))
    for row in rows:
        reports[pairs[row["pair_id"]], labelers[row["labeler_id"]]] = row["report"]
        outcomes[pairs[row["pair_id"]]] = row["outcome"]
    found = gains_on_recorded(
        reports, outcomes, AGGREGATORS["online_weighted"], INFLUENCE, rng=np.random.default_rng(0), n_splits=1
    )
    audited = [gain for gain in found if gain.n_audited >= FEWEST_REPORTS]
    assert len(found) == 20
    assert all(np.isfinite(gain.gain) for gain in audited)
    assert all(gain.hindsight >= 0.0 for gain in audited)
