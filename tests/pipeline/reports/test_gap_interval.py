"""The interval of the normalised gap says what is known, also where training on the truth gained little."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pipeline.reports.made_up import made_up_row
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.gap_table import cells, results_csv
from truthful_rlhf.pipeline.reports.page import findings
from truthful_rlhf.pipeline.reports.summary import gap_with_interval, resampled_means

FloatArray = NDArray[np.float64]


def policies(gain: float, n_prompts: int = 40) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
    """Return gold rewards of the truth, a rule that lost half of the gain, and the base policy, for one seed."""
    rng = np.random.default_rng(0)
    base, noise = rng.normal(0.0, 1.0, n_prompts), rng.normal(0.0, 1.0, n_prompts)
    noise = (noise - noise.mean()) / noise.std()
    truth = base + gain + noise
    return [truth], [base + 0.5 * gain + 0.5 * noise + rng.normal(0.0, 0.3, n_prompts)], [base]


def resamples_without_a_gain(*groups: list[FloatArray]) -> int:
    draws = resampled_means(list(groups))
    return int((draws[:, 0] - draws[:, 2] <= 0).sum())


def test_a_few_resamples_without_a_gain_do_not_take_the_interval_away() -> None:
    truth, rule, base = policies(gain=0.5)
    assert 0 < resamples_without_a_gain(truth, rule, base) < 50  # of 2,000
    gap = gap_with_interval(truth, rule, base)
    low, high = gap.normalised_interval or (None, None)
    assert low is not None
    assert high is not None
    assert low < gap.known() < high
    assert high < 5
    assert gap_with_interval(truth, truth, base).normalised_interval == (0.0, 0.0)  # the truth lost nothing
    assert gap_with_interval(truth, base, base).normalised_interval == (1.0, 1.0)


def test_a_gain_that_may_be_none_leaves_the_gap_unbounded_and_says_so() -> None:
    truth, _, base = policies(gain=0.25)
    worse = [base[0] - 2.0]
    assert resamples_without_a_gain(truth, worse, base) > 50
    gap = gap_with_interval(truth, worse, base)
    low, high = gap.normalised_interval or (None, 0.0)
    assert high is None
    assert low is not None
    assert 1 < low < gap.known()
    row = replace(made_up_row("p", "mean"), gap=gap)
    assert cells(row, ["normalised_gap"]) == [f"{gap.normalised:.2f} [{low:.2f}, ∞)"]
    record = row.record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["normalised_gap_interval"] == [low, None]
    assert "None" in results_csv([row])
    references = [replace(row, panel="shared", rule=name) for name in ("base", "truth")]
    assert "worse than not training" in findings([*references, row])[-1]
    assert figures.gap_forest([row]) != figures.gap_forest([made_up_row("p", "mean", gap.normalised, (low, 99.0))])


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    truth, rule, base = policies(gain=0.01)
    gap = gap_with_interval(truth, rule, base)
    assert gap.normalised is not None
    assert gap.normalised_interval == (None, None)
    lost = gap_with_interval(base, rule, truth)  # training on "the truth" lost something
    assert lost.normalised is None
    assert lost.normalised_interval is None


@pytest.mark.parametrize("gain", [2.0, 5.0])
def test_a_clear_gain_has_the_percentile_interval_of_the_ratios(gain: float) -> None:
    truth, rule, base = policies(gain)
    assert resamples_without_a_gain(truth, rule, base) == 0
    draws = resampled_means([truth, rule, base])
    ratios = (draws[:, 0] - draws[:, 1]) / (draws[:, 0] - draws[:, 2])
    expected = tuple(np.quantile(ratios, [0.025, 0.975]))
    assert gap_with_interval(truth, rule, base).normalised_interval == expected
