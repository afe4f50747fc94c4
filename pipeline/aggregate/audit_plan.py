"""Which pairs to audit next: drawn uniformly, or with a higher chance where labelers disagree.

An outcome teaches about labelers only if they disagree: revealing y moves the weights by eta * pi_i * (s_i - sbar), and

    sum_i pi_i |s_i - sbar|   is, for votes, exactly   2 * pi(S) * Var_pi(r),

zero for a unanimous pair. So a pair's value is the weight present times the weighted variance of its reports.

Taking the most valuable pairs would be a mistake: anyone who sees the reports, or guesses them, would know which pairs
are audited and could lie on the rest (arXiv 2505.19134). Pairs are therefore *drawn*, with a secret seed.

- ``uniform``: every pair has the same chance, and topics get their share: systematic sampling along a random order
  within topics. Exactly the budget is drawn.
- ``planned``: the chance grows with the value, within the bounds of ``aggregation.auditing.design.audit_chances``. Each
  pair is drawn independently of the others, so the budget is what is drawn on average. The chance then depends on
  reports: the belief stays the best report because updates are weighted by the inverse chance, and the smaller steps
  learn more slowly. ``python -m benchmarks audit_plans`` compares them at equal budgets.

The chance, its floor and the number of the plan are written beside each pair (``audit_probability``, ``audit_floor``,
``audit_wave``) and travel with the outcome: every reader takes them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from truthful_rlhf.aggregation.auditing.design import EVEN_SHARE, audit_chances
from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.labelers.recorded.texts import MESSAGES
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically
from truthful_rlhf.pipeline.storage.tables import harmless_cell

Design = Literal["uniform", "planned"]


@dataclass(frozen=True)
class AuditPlan:
    """Pairs to audit, in round order."""

    rounds: IntArray
    """Rounds (indices into the annotations) that were drawn, shape ``(n,)``."""
    probability: FloatArray
    """Probability with which each of them was drawn, shape ``(n,)``."""
    floor: float
    """A probability that no pair could fall below, whatever was reported."""
    wave: int
    """Number of the plan, from 1."""
    value: FloatArray
    """What its outcome would teach (weight present times weighted variance), shape ``(n,)``."""


def audit_values(annotations: Annotations, weights: FloatArray | None = None) -> FloatArray:
    """Return what each pair's outcome would teach about the labelers, shape ``(T,)``, >= 0; uniform weights if None."""
    weights = np.full(annotations.n_labelers, 1.0 / annotations.n_labelers) if weights is None else weights
    rounds, T = annotations.round_of_report, annotations.n_pairs
    own = weights[annotations.labeler]
    present = np.bincount(rounds, own, T)
    mean = np.bincount(rounds, own * annotations.report, T) / np.maximum(present, np.finfo(float).tiny)
    values: FloatArray = np.bincount(rounds, own * (annotations.report - mean[rounds]) ** 2, T).astype(float)
    return values


def plan_audit(
    annotations: Annotations,
    budget: int,
    rng: np.random.Generator,
    weights: FloatArray | None = None,
    design: Design = "uniform",
) -> AuditPlan:
    """Draw pairs without a known outcome to audit.

    Args:
        annotations: the campaign so far.
        budget: number of pairs (``planned``: expected number), between 1 and the number of those without an outcome.
        rng: the secret.
        weights: the labelers' weights so far, shape ``(N,)``; equal if None.
        design: ``uniform`` or ``planned``.

    Raises:
        AnnotationError: nothing left to audit, a budget that does not fit, or an unknown design.
    """
    if design not in get_args(Design):
        raise AnnotationError(
            f"design {design!r}: not known{nearest(design, get_args(Design))}; valid: uniform, planned"
        )
    candidates = np.flatnonzero(np.isnan(annotations.outcome))
    if not len(candidates):
        raise AnnotationError(f"{annotations.source}: every pair has its outcome already: there is nothing to audit")
    values = audit_values(annotations, weights)[candidates]
    try:
        chances = audit_chances(values if design == "planned" else np.ones(len(values)), budget)
    except ValueError as error:
        raise AnnotationError(str(error)) from None
    rate = budget / len(candidates)
    if design == "planned":
        drawn, floor = np.flatnonzero(rng.random(len(candidates)) < chances), EVEN_SHARE * rate
    else:
        chances, drawn, floor = np.full(len(candidates), rate), _spread(annotations, candidates, budget, rng), rate
    return AuditPlan(candidates[drawn], chances[drawn], floor, next_wave(annotations), values[drawn])


def next_wave(annotations: Annotations) -> int:
    """Return the number of the next plan: one more than the last whose outcomes are in the file."""
    if annotations.audit_design is None:
        return 1
    drawn = ~np.isnan(annotations.audit_design.probability) & ~np.isnan(annotations.outcome)
    waves = annotations.audit_design.wave[drawn]
    return 1 + int(np.where(np.isnan(waves), 1.0, waves).max(initial=0.0))


def _spread(annotations: Annotations, candidates: IntArray, budget: int, rng: np.random.Generator) -> IntArray:
    """Return positions of ``budget`` candidates, equally likely, every ``len(candidates) / budget``-th by topic."""
    order = rng.permutation(len(candidates))
    if annotations.topic is not None:
        topics = np.unique(np.array(annotations.topic, dtype=object)[candidates].astype(str), return_inverse=True)[1]
        order = order[np.argsort(topics[order], kind="stable")]
    points = (rng.random() + np.arange(budget)) * (len(candidates) / budget)
    return np.sort(order[np.minimum(points.astype(np.int64), len(candidates) - 1)])


def write_plan(plan: AuditPlan, annotations: Annotations, path: Path) -> None:
    """Write the plan as CSV or JSONL, by the path's suffix; the column ``outcome`` is left empty for the auditor.

    Args:
        plan: the pairs to audit.
        annotations: the table that they are from.
        path: ends in ``.csv`` or ``.jsonl``.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise AnnotationError(f"{path}: the plan is written as .csv or .jsonl")
    table = annotations.texts.take(annotations.text_row[plan.rounds]).to_pandas().drop(columns=MESSAGES)
    table.insert(0, "pair_id", [annotations.pair_ids[t] for t in plan.rounds])
    if annotations.topic is not None:
        table.insert(1, "topic", [annotations.topic[t] for t in plan.rounds])
    table["audit_probability"] = plan.probability
    table["audit_floor"], table["audit_wave"] = plan.floor, plan.wave
    table["outcome"] = None
    if path.suffix == ".jsonl":
        text = table.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
    else:
        text = table.apply(lambda column: column.map(harmless_cell)).to_csv(index=False)
    write_text_atomically(path, text)
