"""The scale of judges who are asked about one response at a time: from the spread, or from others' outcomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from truthful_rlhf.aggregation.log_odds import logit, sigmoid
from truthful_rlhf.labelers import LabelerSpec
from truthful_rlhf.labelers.judges.ask import spread_scale
from truthful_rlhf.pipeline.judge.jury import JuryError, seat
from truthful_rlhf.pipeline.judge.scale import KEPT_SCALE, scaled

RNG = np.random.default_rng(0)
DIFFERENCES = 6.0 * RNG.standard_normal(60)
OUTCOMES = (sigmoid(DIFFERENCES) > RNG.random(60)).astype(np.float64)
KEPT = sigmoid(KEPT_SCALE * DIFFERENCES)
UNKNOWN = np.full(60, np.nan)


def test_without_outcomes_the_scale_is_the_spread() -> None:
    expected = sigmoid(spread_scale(DIFFERENCES) * DIFFERENCES)
    np.testing.assert_allclose(scaled(KEPT, UNKNOWN), expected, rtol=0, atol=1e-12)


def test_outcomes_move_the_scale_and_no_report_to_the_other_side() -> None:
    reports = scaled(KEPT, OUTCOMES)
    assert ((reports > 0.5) == (KEPT > 0.5)).all()
    assert (logit(reports) / logit(scaled(KEPT, UNKNOWN)) > 1.2).all(), "the scores were firmer than the spread says"


def test_no_report_has_seen_its_own_outcome() -> None:
    before = scaled(KEPT, OUTCOMES)
    for k in (0, 17, 59):
        turned = OUTCOMES.copy()
        turned[k] = 1.0 - turned[k]
        after = scaled(KEPT, turned)
        assert after[k] == before[k]
        assert np.abs(after - before).max() > 1e-4, "others have"


def test_what_was_not_judged_stays_so() -> None:
    kept = KEPT.copy()
    kept[3] = np.nan
    assert np.flatnonzero(np.isnan(scaled(kept, OUTCOMES))).tolist() == [3]


def test_a_judge_of_one_response_at_a_time_is_kept_at_one_scale(tiny_model_folder: Path) -> None:
    """So a pair's entry does not hang on what else was in its batch."""
    model = str(tiny_model_folder)
    ways = {"compare": None, "score": KEPT_SCALE, "rate": KEPT_SCALE, "channel": KEPT_SCALE}
    entries = [LabelerSpec(name=ask, kind="judge", model=model, persona="formal", ask=ask) for ask in ways]
    given = LabelerSpec(name="given", kind="judge", model=model, ask="score", scale=2.0)
    jurors = seat([*entries, given], {"": ""})
    assert [juror.judge.scale for juror in jurors] == [*ways.values(), 2.0]
    assert [juror.is_scaled_later for juror in jurors] == [False, True, True, True, False]


def test_a_channel_reads_no_rubric(tiny_model_folder: Path) -> None:
    spec = LabelerSpec(name="x", kind="judge", model=str(tiny_model_folder), persona="formal", ask="channel")
    with pytest.raises(JuryError, match="reads examples, no rubric"):
        seat([spec], {"": "Be kind."})
