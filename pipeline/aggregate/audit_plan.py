"""Which pairs to audit next.

An outcome teaches about labelers only if they disagree: revealing y moves the weights by eta * pi_i * (s_i - sbar), and

    sum_i pi_i |s_i - sbar|   is, for votes, exactly   2 * pi(S) * Var_pi(r),

zero for a unanimous pair. So a pair's value is the weight present times the weighted variance of its reports.

Taking the most valuable pairs would be a mistake: anyone who sees the reports, or guesses them, would know which pairs
are audited and could lie on the rest (arXiv 2505.19134). Pairs are therefore *drawn*, with a secret seed: every pair
has a known probability of being drawn, never 0 and (unless most pairs are audited) never above 1/2. The draw is
systematic sampling with unequal probabilities along a random order within topics, so each topic gets its share, and
weighting by 1 / probability keeps every estimate on the audited pairs unbiased.

One caution: a labeler who votes with the others makes an audit of that pair less likely. The even share of the budget
limits what that can gain; uniform audits are the choice if labelers are known to look ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically
from truthful_rlhf.pipeline.storage.tables import harmless_cell

_UNIFORM_SHARE = 0.25
"""Part of the budget that is spread evenly, so that no pair is safe from an audit."""
_MOST_LIKELY = 0.5


@dataclass(frozen=True)
class AuditPlan:
    """Pairs to audit, in round order."""

    rounds: IntArray
    """Rounds (indices into the annotations) that were drawn, shape ``(budget,)``."""
    probability: FloatArray
    """Probability with which each of them was drawn, shape ``(budget,)``."""
    value: FloatArray
    """What its outcome would teach (weight present times weighted variance), shape ``(budget,)``."""


def audit_values(annotations: Annotations, weights: FloatArray | None = None) -> FloatArray:
    """Return what each pair's outcome would teach about the labelers, shape ``(T,)``, >= 0; uniform weights if None."""
    weights = np.full(annotations.n_labelers, 1.0 / annotations.n_labelers) if weights is None else weights
    rounds, T = annotations.round_of_report, annotations.n_pairs
    own = weights[annotations.labeler]
    present = np.bincount(rounds, own, T)
    mean = np.bincount(rounds, own * annotations.report, T) / np.maximum(present, np.finfo(float).tiny)
    values: FloatArray = np.bincount(rounds, own * (annotations.report - mean[rounds]) ** 2, T).astype(float)
    return values


def inclusion_probabilities(values: FloatArray, budget: int) -> FloatArray:
    """Return the probability of drawing each pair, shape as ``values`` ``(n,)``; they sum to ``budget`` <= n."""
    n = len(values)
    if not 1 <= budget <= n:
        raise AnnotationError(f"the budget must be between 1 and the {n} pairs without an outcome, got {budget}")
    total = values.sum()
    share = values / total if total > 0 else np.full(n, 1.0 / n)
    share = (1.0 - _UNIFORM_SHARE) * share + _UNIFORM_SHARE / n
    most = max(_MOST_LIKELY, budget / n)
    probability = np.minimum(budget * share, most)
    while (missing := budget - probability.sum()) > 1e-9:  # what the cap took is spread over the others
        free = probability < most
        if not free.any():
            break
        grown = probability[free] * (1.0 + missing / probability[free].sum())
        probability[free] = np.minimum(grown, most)
    return probability


def plan_audit(
    annotations: Annotations,
    budget: int,
    rng: np.random.Generator,
    weights: FloatArray | None = None,
) -> AuditPlan:
    """Draw pairs without a known outcome to audit.

    Args:
        annotations: the campaign so far.
        budget: number of pairs, between 1 and the number of pairs whose outcome is not known.
        rng: the secret.
        weights: the labelers' weights so far, shape ``(N,)``; uniform if None.
    """
    candidates = np.flatnonzero(np.isnan(annotations.outcome))
    if not len(candidates):
        raise AnnotationError(f"{annotations.source}: every pair has its outcome already: there is nothing to audit")
    values = audit_values(annotations, weights)[candidates]
    probability = inclusion_probabilities(values, budget)
    order = rng.permutation(len(candidates))
    if annotations.topic is not None:
        topics = np.unique(np.array(annotations.topic, dtype=object)[candidates].astype(str), return_inverse=True)[1]
        order = order[np.argsort(topics[order], kind="stable")]
    # One point in each unit interval of the cumulated probabilities: a pair's chance is its length.
    ends = np.cumsum(probability[order])
    drawn = order[np.minimum(np.searchsorted(ends, rng.random() + np.arange(budget), side="right"), len(order) - 1)]
    drawn = np.sort(np.unique(drawn))
    return AuditPlan(candidates[drawn], probability[drawn], values[drawn])


def write_plan(plan: AuditPlan, annotations: Annotations, path: Path) -> None:
    """Write the plan as CSV or JSONL, by the path's suffix; the column ``outcome`` is left empty for the auditor.

    Args:
        plan: the pairs to audit.
        annotations: the table that they are from.
        path: ends in ``.csv`` or ``.jsonl``.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise AnnotationError(f"{path}: the plan is written as .csv or .jsonl")
    table = annotations.texts.take(annotations.text_row[plan.rounds]).to_pandas()
    table.insert(0, "pair_id", [annotations.pair_ids[t] for t in plan.rounds])
    if annotations.topic is not None:
        table.insert(1, "topic", [annotations.topic[t] for t in plan.rounds])
    table["probability"] = plan.probability
    table["outcome"] = None
    if path.suffix == ".jsonl":
        text = table.to_json(orient="records", lines=True, force_ascii=False)
    else:
        text = table.apply(lambda column: column.map(harmless_cell)).to_csv(index=False)
    write_text_atomically(path, text)
