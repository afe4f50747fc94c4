"""Aggregate recorded annotations: choose what is revealed, run the rule, keep what the report needs.

Everything here is a pure function of the annotations (an append-only log), the settings and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from truthful_rlhf.aggregation import AGGREGATORS, label_campaign
from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.labeling import Piece, SoftLabelKind
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.aggregation.rules import is_rule
from truthful_rlhf.aggregation.statistics import payouts
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.config.rule import LabelingRule

_MAX_HISTORY = 1_000_000


@dataclass(frozen=True)
class AggregationSettings:
    """How to aggregate.

    Attributes:
        rule: a key of ``AGGREGATORS``; None chooses ``online_weighted`` if any outcome is known, else ``mean``.
        labels: the kind of labels (``aggregation.labeling``).
        audit_rate: share of the known outcomes that the rule may see, in (0, 1]; the others measure the accuracy.
        options: of the rule, such as ``{"eta": 0.3}``.
        per_topic: keep one set of weights per topic of the annotations.
        seed: of the choice of audited pairs; never a rule's secret, which is the SHA-256 of the input.
    """

    rule: str | None = None
    labels: SoftLabelKind = "final"
    audit_rate: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    per_topic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.labels not in get_args(SoftLabelKind):
            raise AnnotationError(f"labels {self.labels!r}: valid are {', '.join(get_args(SoftLabelKind))}")
        if self.seed < 0:
            raise AnnotationError(f"the seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class LiveRounds:
    """What a live campaign knows of its rounds beside the annotations.

    Attributes:
        outcome_after: how many rounds had been stated when the outcome of each round arrived, shape ``(T,)``.
        columns: labelers for which the step schedule was fixed, at least N; those beyond N are absent so far.
        secret: of rules that draw their labels.
    """

    outcome_after: IntArray
    columns: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class CampaignResult:
    """What came out, in round order."""

    annotations: Annotations
    settings: AggregationSettings
    rule: LabelingRule
    revealed: FloatArray
    """Outcomes that the rule saw, shape ``(T,)``, NaN elsewhere."""
    stated: FloatArray
    """q_t, stated before the outcome, shape ``(T,)``."""
    soft_labels: FloatArray
    """P(A better) for training, of the settings' kind, shape ``(T,)``; NaN for a pair that nobody judged."""
    weights: FloatArray
    """Weights after the last round, shape ``(N,)``."""
    history_rounds: IntArray
    """Rounds before which the weights were recorded, and T; shape ``(K,)``."""
    history: FloatArray = field(repr=False)
    """Weights at those rounds, shape ``(K, N)``."""
    payouts: FloatArray = field(repr=False)
    """Sum over audited rounds of weight x (score - weighted mean score of the present labelers), shape ``(N,)``.

    With unequal chances each round counts the part of a full update that it made."""


def run_campaign(
    annotations: Annotations, settings: AggregationSettings, live: LiveRounds | None = None
) -> CampaignResult:
    """Aggregate a campaign with one rule.

    Args:
        annotations: the table, in round order.
        settings: how to aggregate.
        live: of a live campaign; its weights are shares among the labelers who have joined, its pay-outs as they are.

    Raises:
        AnnotationError: an unknown rule or option, an audit rate that reveals nothing, or too much for a batch rule.
    """
    rule = choose_rule(annotations, settings)
    revealed = reveal(annotations, settings.audit_rate, np.random.default_rng([settings.seed, 0]))
    history = _History(annotations.n_pairs, annotations.n_labelers, _step_fractions(annotations, revealed))
    try:
        labeled = rule.label(
            annotations if live is None else _Wider(annotations, live.columns),
            revealed,
            _topics(annotations) if rule.per_topic else None,
            pair_ids=annotations.pair_ids,
            audit_design=annotations.audit_design,
            seed=settings.seed,
            keep_weights=False,
            watch=history.add,
            outcome_after=None if live is None else live.outcome_after,
            secret=None if live is None else live.secret,
        )
    except ValueError as error:
        raise AnnotationError(str(error)) from None
    history.weights[-1] = labeled.last_weights[: annotations.n_labelers]
    if live is not None:
        history.weights /= history.weights.sum(axis=1, keepdims=True)
    return CampaignResult(
        annotations,
        settings,
        rule,
        revealed,
        labeled.stated,
        labeled.soft_labels,
        history.weights[-1].copy(),
        history.rounds,
        history.weights,
        history.paid,
    )


def choose_rule(annotations: Annotations, settings: AggregationSettings) -> LabelingRule:
    """Return the rule of the settings, or the default for these annotations."""
    name = settings.rule
    if name is None:
        name = "mean" if np.isnan(annotations.outcome).all() else "online_weighted"
    if not is_rule(name):
        raise AnnotationError(f"rule {name!r}: not known{nearest(name, AGGREGATORS)}; valid: {', '.join(AGGREGATORS)}")
    given = {"name": name, "options": dict(settings.options), "per_topic": settings.per_topic}
    try:
        return LabelingRule.model_validate({**given, "labels": settings.labels})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors(include_url=False))
        raise AnnotationError("; ".join(problems).replace("Value error, ", "")) from None


def reveal(annotations: Annotations, audit_rate: float, rng: np.random.Generator) -> FloatArray:
    """Return the outcomes with only a share of the known ones left, shape ``(T,)``.

    Args:
        annotations: the table, with its T pairs.
        audit_rate: share of the known outcomes that is kept, in (0, 1].
        rng: chooses which.
    """
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
    unknown = np.full(annotations.n_pairs, np.nan)
    return label_campaign(reports, unknown, rule, "online", keep_weights=False).stated


def _topics(annotations: Annotations) -> list[str]:
    if annotations.topic is None:
        raise AnnotationError(f"{annotations.source}: weights per topic need a topic column")
    return [str(topic) for topic in annotations.topic]


def _step_fractions(annotations: Annotations, revealed: FloatArray) -> FloatArray:
    if annotations.audit_design is None:
        return np.ones(annotations.n_pairs)
    return annotations.audit_design.step_fractions(~np.isnan(revealed))


class _History:
    """What is kept of the weights of a campaign of any length: some rounds, and the pay-outs of all."""

    def __init__(self, n_pairs: int, n_labelers: int, step_fractions: FloatArray) -> None:
        self.step_fractions = step_fractions
        self.rounds = np.append(np.arange(0, n_pairs, max(1, -(-n_pairs * n_labelers // _MAX_HISTORY))), n_pairs)
        self.weights = np.zeros((len(self.rounds), n_labelers))
        self.paid = np.zeros(n_labelers)

    def add(self, piece: Piece) -> None:
        """Keep a piece's weights of the recorded rounds, and add up its pay-outs."""
        n = self.weights.shape[1]  # a live campaign has columns that nobody has taken
        weights = piece.weights[:, :n]
        stakes = weights * self.step_fractions[piece.rounds, None]  # as the weights: the belief pays best
        self.paid += payouts(piece.reports[:, :n], piece.outcomes, stakes).sum(axis=0)
        here = np.searchsorted(self.rounds, piece.rounds)
        recorded = self.rounds[here] == piece.rounds
        self.weights[here[recorded]] = weights[recorded]


@dataclass(frozen=True)
class _Wider:
    """Annotations with columns for labelers who have not joined."""

    annotations: Annotations
    n_labelers: int

    @property
    def n_pairs(self) -> int:
        return self.annotations.n_pairs

    def matrix(self, rounds: IntArray) -> FloatArray:
        wide = np.full((len(rounds), self.n_labelers), np.nan)
        wide[:, : self.annotations.n_labelers] = self.annotations.matrix(rounds)
        return wide
