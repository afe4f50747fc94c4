"""The audit plan: what it prefers, that nobody can predict it, that estimates on it stay unbiased, and that it pays."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.aggregate.campaigns import annotations_of, rows_of, votes
from truthful_rlhf.aggregation import final_labels, make_aggregator, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.audit_plan import (
    audit_values,
    inclusion_probabilities,
    plan_audit,
    write_plan,
)
from truthful_rlhf.pipeline.storage.tables import harmless_cell


def test_value_is_the_weight_that_an_outcome_moves() -> None:
    """sum_i pi_i |s_i - sbar| = 2 pi(S) Var(r) for votes, whichever the outcome; 0 where all agree."""
    rng = np.random.default_rng(0)
    reports = (rng.random((40, 5)) < 0.5).astype(float)
    reports[0] = 1.0
    weights = rng.dirichlet(np.ones(5))
    values = audit_values(annotations_of(reports), weights)
    for outcome in (0.0, 1.0):
        scores = 1.0 - (reports - outcome) ** 2
        moved = (weights * np.abs(scores - (scores @ weights)[:, None])).sum(axis=1)
        np.testing.assert_allclose(moved, 2.0 * values, atol=1e-12)
    assert values[0] == 0.0


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.data())
def test_inclusion_probabilities_sum_to_the_budget_and_are_never_zero(values: list[float], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, len(values)))
    probability = inclusion_probabilities(np.array(values), budget)
    assert probability.sum() == pytest.approx(budget)
    assert (probability > 0).all()
    assert (probability <= max(0.5, budget / len(values)) + 1e-9).all()


def test_pairs_are_drawn_with_their_stated_probability() -> None:
    """So weights 1 / probability make every estimate unbiased; without the seed, no pair is surely drawn or spared."""
    rng = np.random.default_rng(1)
    annotations = annotations_of(*votes(40, [0.7] * 4, rng)[:1])
    drawn, stated = np.zeros(40), np.zeros(40)
    for seed in range(3000):
        plan = plan_audit(annotations, 8, np.random.default_rng(seed))
        assert len(plan.rounds) == 8
        drawn[plan.rounds] += 1
        stated[plan.rounds] = plan.probability
    np.testing.assert_allclose(drawn / 3000, stated, atol=4 * np.sqrt(0.25 / 3000))
    assert (drawn > 0).all()
    assert (drawn < 3000).all()


def test_disagreement_is_preferred_and_known_outcomes_are_left_out() -> None:
    reports = np.ones((200, 4))
    reports[:50, :2] = 0.0
    outcomes = np.full(200, np.nan)
    outcomes[:10] = 1.0
    plans = [plan_audit(annotations_of(reports, outcomes), 20, np.random.default_rng(s)) for s in range(20)]
    assert min(plan.rounds.min() for plan in plans) >= 10
    share = np.mean([(plan.rounds < 50).mean() for plan in plans])
    assert share > 0.6, "uniform choice would give 0.21"


def test_topics_get_their_share() -> None:
    reports, _ = votes(300, [0.7] * 4, np.random.default_rng(2))
    topics = ["law"] * 100 + ["maths"] * 200
    annotations = annotations_of(reports, topics=topics)
    probability = inclusion_probabilities(audit_values(annotations), 30)
    for seed in range(20):
        plan = plan_audit(annotations, 30, np.random.default_rng(seed))
        assert abs((plan.rounds < 100).sum() - probability[:100].sum()) <= 1.0


def test_the_same_seed_gives_the_same_plan() -> None:
    annotations = annotations_of(votes(100, [0.7] * 4, np.random.default_rng(2))[0])
    first, again, other = (plan_audit(annotations, 10, np.random.default_rng(seed)).rounds for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@pytest.mark.parametrize("budget", [0, 41])
def test_a_budget_must_fit(budget: int) -> None:
    annotations = annotations_of(votes(40, [0.7] * 4, np.random.default_rng(1))[0])
    with pytest.raises(AnnotationError, match="between 1 and the 40 pairs without an outcome"):
        plan_audit(annotations, budget, np.random.default_rng(0))


@pytest.mark.parametrize(("eta", "least"), [(0.1, 0.03), ("auto", -0.03)], ids=["small steps", "auto"])
def test_it_beats_uniform_choice_while_little_is_known(eta: float | str, least: float) -> None:
    """Thirty judges, most of them sharing a bias, 40 audits, final labels on pairs that neither choice audited.

    With small steps every informative outcome counts and the plan gains about 8 points. With the automatic step size
    40 outcomes are plenty, uniform choice is as good, and the test holds that the plan costs nothing.
    """
    gain = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        reports, outcomes = _biased_panel(400, rng)
        planned = plan_audit(annotations_of(reports), 40, rng).rounds
        uniform = rng.choice(400, 40, replace=False)
        rest = np.setdiff1d(np.arange(400), np.union1d(planned, uniform))
        gain.append(_accuracy(reports, outcomes, planned, rest, eta) - _accuracy(reports, outcomes, uniform, rest, eta))
    error = np.std(gain, ddof=1) / np.sqrt(len(gain))
    assert np.mean(gain) > least, f"gain {np.mean(gain):.3f} +- {error:.3f}"


def _biased_panel(n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    outcomes = (rng.random(n) < 0.5).astype(np.float64)
    shared = rng.normal(size=n)
    good = rng.random((n, 6)) < 0.85
    biased = (0.1 * (2 * outcomes - 1) + shared)[:, None] + 0.6 * rng.normal(size=(n, 24)) > 0
    return np.hstack([np.where(good, outcomes[:, None], 1 - outcomes[:, None]), biased]).astype(np.float64), outcomes


def _accuracy(
    reports: FloatArray, outcomes: FloatArray, audited: FloatArray, measured: FloatArray, eta: float | str
) -> float:
    revealed = np.full(len(outcomes), np.nan)
    revealed[audited] = outcomes[audited]
    aggregator = make_aggregator("online_weighted", reports.shape[1], eta=eta)
    run_online(aggregator, reports, revealed)
    labels = final_labels(aggregator, reports, revealed)[measured]
    return float(np.where(labels == 0.5, 0.5, (labels > 0.5) == (outcomes[measured] > 0.5)).mean())


def test_written_plans(tmp_path: Path) -> None:
    rows = rows_of(votes(30, [0.7] * 4, np.random.default_rng(3))[0], topics=["=1+1"] * 30)
    for row in rows:
        row["prompt"] = '=HYPERLINK("http://x")'
    annotations = read_annotations(rows)
    plan = plan_audit(annotations, 5, np.random.default_rng(0))
    write_plan(plan, annotations, tmp_path / "plan.csv")
    with (tmp_path / "plan.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["pair_id"] for row in table] == [annotations.pair_ids[t] for t in plan.rounds]
    assert {row["prompt"] for row in table} == {'\'=HYPERLINK("http://x")'}
    assert {row["topic"] for row in table} == {"'=1+1"}
    write_plan(plan, annotations, tmp_path / "plan.jsonl")
    exact = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()]
    assert exact[0]["prompt"].startswith("=HYPERLINK")
    assert exact[0]["outcome"] is None
    with pytest.raises(AnnotationError, match=r"written as .csv or .jsonl"):
        write_plan(plan, annotations, tmp_path / "plan.xlsx")


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_formulas_are_neutralised(cell: str) -> None:
    assert harmless_cell(cell) == "'" + cell
    assert harmless_cell("a" + cell) == "a" + cell
    assert harmless_cell(0.5) == 0.5
