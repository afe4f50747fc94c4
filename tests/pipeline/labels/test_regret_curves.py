"""What is drawn as a bound is one: on the outcomes that a rule saw, and not on those that it never saw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from truthful_rlhf.aggregation import regret
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.labels.regret_curves import campaign_matrix, proved_bound, regret_revealed

FloatArray = NDArray[np.float64]


def stated(rule: RuleSection, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    return rule.label(reports, revealed).stated


def hostile_campaign(seed: int, n_rounds: int, n_labelers: int, audit_rate: float) -> tuple[FloatArray, ...]:
    """Return reports, outcomes and what is revealed of them: most labelers report the opposite of the truth."""
    rng = np.random.default_rng(seed)
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    honest = np.arange(n_labelers) == 0
    right = rng.random((n_rounds, n_labelers)) < np.where(honest, 0.95, 0.2)
    reports = np.where(right, outcomes[:, None], 1.0 - outcomes[:, None])
    return reports, outcomes, np.where(rng.random(n_rounds) < audit_rate, outcomes, np.nan)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_rounds=st.integers(1, 400),
    n_labelers=st.integers(2, 12),
    audit_rate=st.sampled_from([0.05, 0.2, 1.0]),
    eta=st.sampled_from(["auto", 0.5, 0.1, 0.01]),
)
def test_no_campaign_crosses_the_bound(
    seed: int, n_rounds: int, n_labelers: int, audit_rate: float, eta: float | str
) -> None:
    reports, _, revealed = hostile_campaign(seed, n_rounds, n_labelers, audit_rate)
    rule = RuleSection(name="online_weighted", options={} if eta == "auto" else {"eta": eta})
    bound = proved_bound(rule, reports, revealed)
    assert bound is not None
    assert (regret_revealed(stated(rule, reports, revealed), reports, revealed) <= bound + 1e-9).all()


def test_what_was_drawn_before_was_crossed() -> None:
    """At 5 % audits the regret on all outcomes leaves 2 sqrt(t ln N) behind, t counting every pair, in most runs."""
    rule, crossed = RuleSection(name="online_weighted"), 0
    for seed in range(60):
        reports, outcomes, revealed = hostile_campaign(seed, 200, 10, 0.05)
        on_all = regret(stated(rule, reports, revealed), reports, outcomes)
        crossed += bool((on_all > 2 * np.sqrt(np.arange(1, 201) * np.log(10))).any())
    assert crossed > 30


def test_a_rule_that_does_not_learn_crosses_the_bound() -> None:
    """The control: the bound is no number that anything stays below."""
    reports, _, revealed = hostile_campaign(0, 5000, 10, 1.0)
    bound = proved_bound(RuleSection(name="online_weighted"), reports, revealed)
    assert (regret_revealed(stated(RuleSection(name="mean"), reports, revealed), reports, revealed) > bound).any()


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "mean"},
        {"name": "hedge"},
        {"name": "online_weighted", "per_topic": True},
        {"name": "online_weighted", "options": {"fixed_share": 0.1}},
        {"name": "online_weighted", "options": {"initial_weights": [1, 2, 3]}},
    ],
)
def test_no_bound_is_drawn_where_none_is_proved(rule: dict[str, object]) -> None:
    reports, _, revealed = hostile_campaign(0, 20, 3, 0.5)
    assert proved_bound(RuleSection.model_validate(rule), reports, revealed) is None


def test_a_labeler_who_was_away_from_an_audited_pair_leaves_no_bound() -> None:
    reports, _, revealed = hostile_campaign(0, 20, 3, 0.5)
    rule = RuleSection(name="online_weighted")
    reports[np.flatnonzero(np.isnan(revealed))[0], 1] = np.nan
    assert proved_bound(rule, reports, revealed) is not None  # that pair moved no weight
    reports[np.flatnonzero(~np.isnan(revealed))[0], 1] = np.nan
    assert proved_bound(rule, reports, revealed) is None


def test_a_round_that_nobody_judged_keeps_its_place() -> None:
    table = pd.DataFrame(
        {
            "round": [0, 0, 2, 3],
            "labeler_id": ["a", "b", "b", "a"],
            "report": [0.9, 0.1, 0.4, 0.6],
            "outcome": [1.0, 1.0, np.nan, 0.0],
        }
    )
    reports, revealed = campaign_matrix(table, 5)
    nan = np.nan
    np.testing.assert_array_equal(reports, [[0.9, 0.1], [nan, nan], [nan, 0.4], [0.6, nan], [nan, nan]])
    np.testing.assert_array_equal(revealed, [1.0, nan, nan, 0.0, nan])
