"""Aggregate recorded annotations: choose what is revealed, run the rule, keep what the report needs.

Everything here is a pure function of the annotations (an append-only log), the settings and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from truthful_rlhf.aggregation import AGGREGATORS, final_labels, make_aggregator, recalibrate, run_online
from truthful_rlhf.aggregation.base import Aggregator, FloatArray
from truthful_rlhf.aggregation.campaign import SoftLabelKind
from truthful_rlhf.labelers.recorded.read import AnnotationError, nearest
from truthful_rlhf.labelers.recorded.table import Annotations

IntArray = NDArray[np.int64]

LEARNING_RULES = ("online_weighted", "linear_weighted", "hedge", "elf")
"""Rules that learn from outcomes as they are revealed."""
BATCH_RULES = ("dawid_skene", "glad", "mace")
"""Rules that fit a model of all reports at once and read no outcome."""

_CHUNK_BYTES = 16 * 2**20
_MAX_BATCH_BYTES = 4 * 2**30
_MAX_HISTORY = 1_000_000


@dataclass(frozen=True)
class Settings:
    """How to aggregate.

    Attributes:
        rule: a key of ``AGGREGATORS``; None chooses ``online_weighted`` if any outcome is known, else ``mean``.
        labels: ``final`` re-aggregates every pair with the last weights and labels audited pairs with their outcome;
            ``reweighted`` leaves audited pairs the panel's label (where an outcome is one person's noisy verdict);
            ``recalibrated`` makes these as sure as the outcomes warrant; ``online`` keeps what was stated before each
            outcome.
        audit_rate: share of the known outcomes that the rule may see, in (0, 1]; the others measure the accuracy.
        eta: step size of a learning rule, or None for the rule's own default.
        per_topic: keep one set of weights per topic of the annotations.
        seed: of the choice of audited pairs (and of a rule's own lottery).
    """

    rule: str | None = None
    labels: SoftLabelKind = "final"
    audit_rate: float = 1.0
    eta: float | None = None
    per_topic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.labels not in get_args(SoftLabelKind):
            raise AnnotationError(f"labels {self.labels!r}: valid are {', '.join(get_args(SoftLabelKind))}")
        if self.seed < 0:
            raise AnnotationError(f"the seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class CampaignResult:
    """What came out, in round order."""

    annotations: Annotations
    settings: Settings
    rule: str
    revealed: FloatArray
    """Outcomes that the rule saw, shape ``(T,)``, NaN elsewhere."""
    stated: FloatArray
    """q_t, stated before the outcome, shape ``(T,)``."""
    soft_labels: FloatArray
    """P(A better) for training, of the settings' kind, shape ``(T,)``; NaN for a pair that nobody judged."""
    weights: FloatArray
    """Weights after the last round, shape ``(N,)``."""
    history_rounds: NDArray[np.int64]
    """Rounds before which the weights were recorded, and T; shape ``(K,)``."""
    history: FloatArray = field(repr=False)
    """Weights at those rounds, shape ``(K, N)``."""
    payouts: FloatArray = field(repr=False)
    """Sum over audited rounds of weight x (score - weighted mean score of the present labelers), shape ``(N,)``."""


def run_campaign(annotations: Annotations, settings: Settings) -> CampaignResult:
    """Aggregate a campaign with one rule.

    Raises:
        AnnotationError: an unknown rule, an audit rate that reveals nothing, or too much for a batch rule.
    """
    rule = choose_rule(annotations, settings.rule)
    if rule in BATCH_RULES:
        _check_memory(annotations, rule)
    revealed = reveal(annotations, settings.audit_rate, np.random.default_rng([settings.seed, 0]))
    taken = revealed if settings.labels == "final" else np.full_like(revealed, np.nan)
    T, N = annotations.n_pairs, annotations.n_labelers
    recorded = np.append(np.arange(0, T, max(1, -(-T * N // _MAX_HISTORY))), T)
    stated, final = np.empty(T), np.empty(T)
    history, payouts = np.zeros((len(recorded), N)), np.zeros(N)
    for rounds in _topics(annotations, settings):
        aggregator = _aggregator(rule, N, settings)
        chunks = [rounds] if rule in BATCH_RULES else _chunks(rounds, N)
        stated[rounds], own_history, own_payouts = _online(aggregator, annotations, revealed, chunks, recorded)
        history += own_history * (len(rounds) / T)
        payouts += own_payouts * (len(rounds) / T)
        for chunk in [] if rule in BATCH_RULES else chunks:
            final[chunk] = final_labels(aggregator, annotations.matrix(chunk), taken[chunk])
    if rule in BATCH_RULES:  # what such a rule states has already seen every report
        final = np.where(np.isnan(taken), stated, taken)
    if settings.labels == "recalibrated":
        final = recalibrate(final, revealed)
    soft_labels = np.where(np.diff(annotations.start) > 0, stated if settings.labels == "online" else final, np.nan)
    return CampaignResult(
        annotations, settings, rule, revealed, stated, soft_labels, history[-1], recorded, history, payouts
    )


def choose_rule(annotations: Annotations, rule: str | None) -> str:
    """Return the rule's name, or the default for these annotations."""
    if rule is None:
        return "mean" if np.isnan(annotations.outcome).all() else "online_weighted"
    if rule not in AGGREGATORS:
        raise AnnotationError(f"rule {rule!r}: not known{nearest(rule, AGGREGATORS)}; valid: {', '.join(AGGREGATORS)}")
    return rule


def reveal(annotations: Annotations, audit_rate: float, rng: np.random.Generator) -> FloatArray:
    """Return the outcomes with only a share of the known ones left, shape ``(T,)``."""
    if not 0.0 < audit_rate <= 1.0:
        raise AnnotationError(f"the audit rate must be in (0, 1], got {audit_rate}")
    known = np.flatnonzero(~np.isnan(annotations.outcome))
    n = round(audit_rate * len(known))
    if len(known) and n == 0:
        raise AnnotationError(
            f"an audit rate of {audit_rate} reveals none of the {len(known)} known outcomes; "
            f"the smallest that reveals one is {1 / len(known):.3g}"
        )
    revealed = np.full(annotations.n_pairs, np.nan)
    audited = rng.permutation(known)[:n]
    revealed[audited] = annotations.outcome[audited]
    return revealed


def plain_labels(rule: str, annotations: Annotations) -> FloatArray:
    """Return the labels of a rule that never learns, shape ``(T,)`` (for comparison tables)."""
    reports = annotations.packed()  # these rules treat all labelers alike
    aggregator = make_aggregator(rule, reports.shape[1])
    return run_online(aggregator, reports, np.full(annotations.n_pairs, np.nan)).soft_labels


def _aggregator(rule: str, n_labelers: int, settings: Settings) -> Aggregator:
    options = {} if settings.eta is None else {"eta": settings.eta}
    try:
        return make_aggregator(rule, n_labelers, **options)
    except ValueError as error:
        raise AnnotationError(str(error)) from None


def _topics(annotations: Annotations, settings: Settings) -> list[IntArray]:
    """Return the rounds that share one mechanism: all, or those of each topic."""
    if not settings.per_topic:
        return [np.arange(annotations.n_pairs)]
    if annotations.topic is None:
        raise AnnotationError(f"{annotations.source}: weights per topic need a topic column")
    topic = np.unique(np.array(annotations.topic, dtype=np.str_), return_inverse=True)[1]
    return [np.flatnonzero(topic == k) for k in range(topic.max() + 1)]


def _chunks(rounds: IntArray, n_labelers: int) -> list[IntArray]:
    """Cut rounds so that one chunk's dense matrix stays small, however many labelers there are."""
    size = max(1, _CHUNK_BYTES // (8 * n_labelers))
    return [rounds[first : first + size] for first in range(0, len(rounds), size)]


def _online(
    aggregator: Aggregator, annotations: Annotations, revealed: FloatArray, chunks: list[IntArray], recorded: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Run the rule over the chunks; return its labels, its weights before each recorded round, and the pay-outs."""
    position = np.searchsorted(np.concatenate(chunks), recorded)
    history = np.empty((len(recorded), annotations.n_labelers))
    payouts = np.zeros(annotations.n_labelers)
    stated, first = [], 0
    for chunk in chunks:
        reports = annotations.matrix(chunk)
        run = run_online(aggregator, reports, revealed[chunk])
        payouts += _payouts(run.weights, reports, revealed[chunk])
        stated.append(run.soft_labels)
        here = (position >= first) & (position < first + len(chunk))
        history[here] = run.weights[position[here] - first]
        first += len(chunk)
    history[position == first] = aggregator.weights_
    return np.concatenate(stated), history, payouts


def _payouts(weights: FloatArray, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    """Return each labeler's sum of weighted-score wagering pay-outs; every round sums to 0 over the labelers."""
    known = ~np.isnan(revealed)
    present = ~np.isnan(reports[known])
    stakes = np.where(present, weights[known], 0.0)
    scores = np.where(present, 1.0 - (reports[known] - revealed[known, None]) ** 2, 0.0)
    total = stakes.sum(axis=1, keepdims=True)
    mean = (stakes * scores).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    result: FloatArray = (stakes * (scores - mean)).sum(axis=0)
    return result


def _check_memory(annotations: Annotations, rule: str) -> None:
    needed = 8 * annotations.n_pairs * annotations.n_labelers
    if needed > _MAX_BATCH_BYTES:
        raise AnnotationError(
            f"rule {rule!r} reads all reports at once: {annotations.n_pairs} pairs x {annotations.n_labelers} labelers "
            f"need {needed / 2**30:.0f} GB, the limit is {_MAX_BATCH_BYTES / 2**30:.0f}. Use one of "
            f"{', '.join(LEARNING_RULES)} or mean, which work in pieces"
        )
