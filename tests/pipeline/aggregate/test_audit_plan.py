"""The audit plan: what it prefers, that nobody can predict it, that estimates on it stay unbiased."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tests.pipeline.aggregate.campaigns import annotations_of, rows_of, votes
from truthful_rlhf.aggregation.auditing.design import audit_chances
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.audit_plan import (
    Design,
    audit_values,
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


@pytest.mark.parametrize("design", ["uniform", "planned"])
def test_pairs_are_drawn_with_their_stated_probability(design: Design) -> None:
    """So weights 1 / probability make every estimate unbiased; without the seed, no pair is surely drawn or spared."""
    rng = np.random.default_rng(1)
    annotations = annotations_of(*votes(40, [0.7] * 4, rng)[:1])
    drawn, stated, sizes = np.zeros(40), np.zeros(40), []
    for seed in range(3000):
        plan = plan_audit(annotations, 8, np.random.default_rng(seed), design=design)
        sizes.append(len(plan.rounds))
        drawn[plan.rounds] += 1
        stated[plan.rounds] = plan.probability
        assert (plan.probability >= plan.floor - 1e-12).all()
    np.testing.assert_allclose(drawn / 3000, stated, atol=4 * np.sqrt(0.25 / 3000))
    assert np.mean(sizes) == pytest.approx(8, abs=0.2)
    assert (drawn > 0).all()
    assert (drawn < 3000).all()
    assert (np.ptp(stated) < 1e-12) == (design == "uniform")


def test_planned_pairs_are_drawn_independently_and_uniform_ones_fill_the_budget() -> None:
    """The variance of the number drawn is sum p (1 - p) for independent draws, and 0 where the number is fixed."""
    annotations = annotations_of(votes(40, [0.7] * 4, np.random.default_rng(1))[0])
    sizes = {
        design: [len(plan_audit(annotations, 8, np.random.default_rng(s), design=design).rounds) for s in range(2000)]
        for design in get_args(Design)
    }
    chances = audit_chances(audit_values(annotations), 8)
    assert np.var(sizes["planned"]) == pytest.approx((chances * (1 - chances)).sum(), rel=0.12)
    assert set(sizes["uniform"]) == {8}


def test_disagreement_is_preferred_and_known_outcomes_are_left_out() -> None:
    reports = np.ones((200, 4))
    reports[:50, :2] = 0.0
    outcomes = np.full(200, np.nan)
    outcomes[:10] = 1.0
    annotations = annotations_of(reports, outcomes)
    plans = [plan_audit(annotations, 20, np.random.default_rng(s), design="planned") for s in range(20)]
    assert min(plan.rounds.min() for plan in plans) >= 10
    share = np.mean([(plan.rounds < 50).mean() for plan in plans])
    assert share > 0.6, "uniform choice would give 0.21"


def test_topics_get_their_share() -> None:
    reports, _ = votes(300, [0.7] * 4, np.random.default_rng(2))
    annotations = annotations_of(reports, topics=["law"] * 100 + ["maths"] * 200)
    for seed in range(20):
        plan = plan_audit(annotations, 30, np.random.default_rng(seed))
        assert abs((plan.rounds < 100).sum() - 10) <= 1


def test_plans_that_follow_one_another_are_numbered() -> None:
    rows = rows_of(*votes(60, [0.7] * 4, np.random.default_rng(2)))
    annotations = read_annotations([{**row, "outcome": None} for row in rows])
    first = plan_audit(annotations, 10, np.random.default_rng(0), design="planned")
    chances = dict(zip((annotations.pair_ids[t] for t in first.rounds), first.probability, strict=True))
    for row in rows:
        row["outcome"] = row["outcome"] if row["pair_id"] in chances else None
        row |= {"audit_probability": chances.get(row["pair_id"]), "audit_floor": None, "audit_wave": None}
        if row["pair_id"] in chances:
            row |= {"audit_floor": first.floor, "audit_wave": first.wave}
    again = read_annotations(rows)
    second = plan_audit(again, 10, np.random.default_rng(0))
    assert (first.wave, second.wave) == (1, 2)
    assert not set(first.rounds) & set(second.rounds)
    assert "audit_probability" in str(again.reading)


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
    with pytest.raises(AnnotationError, match="valid: uniform, planned"):
        plan_audit(annotations, 5, np.random.default_rng(0), design="plan")  # type: ignore[arg-type]


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
    assert [row["audit_probability"] for row in exact] == pytest.approx([5 / 30] * 5)
    assert [row["audit_floor"] for row in exact] == pytest.approx([5 / 30] * 5)
    assert {row["audit_wave"] for row in exact} == {1}
    with pytest.raises(AnnotationError, match=r"written as .csv or .jsonl"):
        write_plan(plan, annotations, tmp_path / "plan.xlsx")


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_formulas_are_neutralised(cell: str) -> None:
    assert harmless_cell(cell) == "'" + cell
    assert harmless_cell("a" + cell) == "a" + cell
    assert harmless_cell(0.5) == 0.5
