"""From reports to soft labels of every kind: the one road that ``compare``, ``aggregate``, campaigns and Python take.

There are five kinds of labels. q_t is what the rule states about pair t before its outcome is used, y_t the outcome:

    online        q_t, for every pair
    final         the rule's last state applied to every pair; an audited pair is labeled with y_t
    reweighted    the rule's last state applied to every pair, audited or not: y_t may be one person's noisy verdict
    recalibrated  reweighted, made as sure as the outcomes warrant (``aggregation.calibration``)
    stacked       the last weights of ``online_weighted``, and a step from weights to labels that is fitted to the
                  outcomes (``aggregation.stacking``); an audited pair is labeled with y_t

Rules that fit all reports at once (Dawid-Skene, GLAD, MACE) have no last state that could be applied to one pair: their
labels are the posteriors of that fit. What they state of an audited pair comes from a fit without its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.auditing.folds import held_out_labels
from truthful_rlhf.aggregation.base import (
    Aggregator,
    BoolArray,
    FloatArray,
    IntArray,
    Key,
    check_outcomes,
    check_reports,
)
from truthful_rlhf.aggregation.calibration import recalibrate
from truthful_rlhf.aggregation.mechanism import Mechanism, Piece, ReportTable
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.rules import (
    draws_from_a_secret,
    is_rule,
    make_aggregator,
    moves_by_steps,
    with_lottery,
)
from truthful_rlhf.aggregation.secret import input_secret
from truthful_rlhf.aggregation.stacking import fit_stack

__all__ = ["LabeledCampaign", "Piece", "ReportTable", "SoftLabelKind", "label_campaign"]

SoftLabelKind = Literal["final", "online", "reweighted", "recalibrated", "stacked"]
"""Which labels train."""
STACKED_RULE = "online_weighted"


@dataclass(frozen=True)
class LabeledCampaign:
    """One probability per pair, and how it came about.

    Attributes:
        soft_labels: P(A better) of the kind asked for, shape ``(T,)``; NaN for a pair that nobody judged.
        stated: q_t, each stated before its outcome was used, shape ``(T,)``; 0.5 for a pair that nobody judged. Regret,
            and accuracy on audited pairs, are measured on these.
        weights: before each round and after the last, shape ``(T + 1, N)``; None where they were not kept. With one
            mechanism per topic, those of the round's topic, and at the end the average over pairs.
        last_weights: after the last round, shape ``(N,)``.
    """

    soft_labels: FloatArray
    stated: FloatArray
    weights: FloatArray | None
    last_weights: FloatArray


def label_campaign(
    reports: ArrayLike | ReportTable,
    outcomes: ArrayLike,
    rule: str = "online_weighted",
    kind: SoftLabelKind = "final",
    *,
    pair_ids: Sequence[Key] | None = None,
    topics: Sequence[Hashable] | None = None,
    audit_probability: ArrayLike | None = None,
    audit_floor: ArrayLike | None = None,
    audit_wave: ArrayLike | None = None,
    outcome_after: ArrayLike | None = None,
    seed: int = 0,
    keep_weights: bool = True,
    watch: Callable[[Piece], None] | None = None,
    **options: Any,
) -> LabeledCampaign:
    """Aggregate a campaign: one soft label per pair.

    Args:
        reports: shape ``(T, N)``, probabilities that A is better, NaN where a labeler did not judge; or a table of them
            that is read in pieces.
        outcomes: shape ``(T,)``, 1 A better, 0 B better, NaN not revealed.
        rule: a key of ``AGGREGATORS``, or an import path such as ``my_pkg.rules:MyRule``.
        kind: which labels, see the module.
        pair_ids: length T, strings or whole numbers, each its own: what labels that are drawn from a secret are drawn
            by; by default 0, 1, ...
        topics: length T: one mechanism for every topic. A labeler that lies about one topic keeps its influence on the
            others only, and every topic learns alone.
        audit_probability: chance with which each audited pair was drawn, shape ``(T,)``, in (0, 1]; NaN, or None for
            all: uniformly. Updates, fits and calibration are weighted by its inverse (``aggregation.auditing.design``).
        audit_floor: chance that no report could bring a pair below, shape ``(T,)`` or one number, as ``audit-plan``
            writes it: the truth is exactly the best report only with it.
        audit_wave: whole numbers, shape ``(T,)``: the order of the plans, where several followed one another.
        outcome_after: whole numbers, shape ``(T,)``: how many rounds had been stated when the outcome of a pair
            arrived, at least t + 1, which is the default; one that would arrive after round T is not used.
        seed: >= 0, of the rule's own lottery where it draws one that is no secret.
        keep_weights: False leaves the weights of the rounds out of the result.
        watch: is shown every piece of the campaign as the rule runs over it.
        **options: of the rule. A rule that needs a ``secret`` and is given none takes the SHA-256 of the whole input,
            which no labeler knows beforehand: the same input gives the same labels anywhere.

    Returns:
        The labels, what was stated online, and the weights.

    Raises:
        ValueError: an unknown rule, option or kind; bad reports, outcomes, topics, chances or pair ids; ``stacked``
            labels of another rule than online_weighted; more reports than a rule that fits all at once can take.

    Examples:
        >>> nan = float("nan")
        >>> reports, outcomes = [[0.9, 0.2], [0.8, 0.4], [nan, nan]], [1, nan, nan]
        >>> labeled = label_campaign(reports, outcomes, "online_weighted", eta=0.5)
        >>> labeled.stated.round(3).tolist(), labeled.soft_labels.round(3).tolist()
        ([0.55, 0.632, 0.5], [1.0, 0.632, nan])
    """
    if kind not in get_args(SoftLabelKind):
        raise ValueError(unknown("kind of labels", str(kind), get_args(SoftLabelKind)))
    if kind == "stacked" and rule != STACKED_RULE:
        raise ValueError(f"stacked labels are a step from the weights of {STACKED_RULE}; the rule is {rule!r}")
    table = reports if isinstance(reports, ReportTable) else _Matrix(check_reports(reports))
    n_pairs = table.n_pairs
    given = check_outcomes(outcomes, n_pairs)
    keys = _checked_keys(pair_ids, n_pairs)
    arrival = _arrivals(outcome_after, given)
    revealed = np.where(arrival <= n_pairs, given, np.nan)
    groups = _rounds_by_topic(topics, n_pairs)
    if draws_from_a_secret(rule, options) and options.get("secret") is None:
        options = {**options, "secret": _secret(table, revealed, keys)}

    design = AuditDesign.make(n_pairs, audit_probability, audit_floor, audit_wave)
    counts, steps = _sample_weights(design, ~np.isnan(revealed))

    def fresh(number: int) -> Aggregator:
        return make_aggregator(rule, table.n_labelers, **with_lottery(rule, options, [seed, 2, number]))

    weighted = steps if is_rule(rule) and moves_by_steps(rule) else counts
    mechanisms = [
        Mechanism(partial(fresh, number), table, rounds, revealed, arrival, keys, weighted)
        for number, rounds in enumerate(groups)
    ]
    labels = _Labels(table, revealed, mechanisms, counts)
    weights = labels.run(keep_weights, watch)
    soft_labels = np.where(labels.judged, labels.of_kind(kind), np.nan)
    return LabeledCampaign(soft_labels, labels.stated, weights, labels.last_weights)


@dataclass(frozen=True)
class _Matrix:
    """A matrix of reports as a table."""

    reports: FloatArray

    @property
    def n_pairs(self) -> int:
        return len(self.reports)

    @property
    def n_labelers(self) -> int:
        return int(self.reports.shape[1])

    def matrix(self, rounds: IntArray) -> FloatArray:
        return self.reports[rounds]


class _Labels:
    """The labels of a campaign's mechanisms, by round."""

    def __init__(
        self, table: ReportTable, revealed: FloatArray, mechanisms: Sequence[Mechanism], counts: FloatArray | None
    ) -> None:
        self.table, self.revealed, self.mechanisms, self.counts = table, revealed, mechanisms, counts
        self.stated = np.full(table.n_pairs, 0.5)
        self.judged = np.zeros(table.n_pairs, dtype=bool)
        self.last_weights = np.zeros(table.n_labelers)

    def run(self, keep_weights: bool, watch: Callable[[Piece], None] | None) -> FloatArray | None:
        """Run every mechanism over its rounds; return the weights, shape ``(T + 1, N)``, if they are wanted."""
        n_pairs = self.table.n_pairs
        weights = np.empty((n_pairs + 1, self.table.n_labelers)) if keep_weights else None
        for mechanism in self.mechanisms:
            for piece, run in mechanism.run(keep_weights or watch is not None):
                self.stated[piece.rounds] = run.soft_labels
                self.judged[piece.rounds] = ~np.isnan(piece.reports).all(axis=1)
                if weights is not None:
                    weights[piece.rounds] = run.weights
                if watch is not None:
                    watch(piece)
            self.last_weights += mechanism.weights * (len(mechanism.rounds) / max(1, n_pairs))
        if weights is not None:
            weights[-1] = self.last_weights
        return weights

    def of_kind(self, kind: SoftLabelKind) -> FloatArray:
        """Return the labels of a kind, shape ``(T,)``."""
        if kind == "online":
            return self.stated
        if kind == "recalibrated":
            return recalibrate(self._pooled(), self.revealed, self._held_out(), self.counts)
        pooled = self._stacked() if kind == "stacked" else self._pooled()
        return pooled if kind == "reweighted" else np.where(np.isnan(self.revealed), pooled, self.revealed)

    def _pooled(self) -> FloatArray:
        pooled = np.empty(self.table.n_pairs)
        for mechanism in self.mechanisms:
            pooled[mechanism.rounds] = mechanism.pooled(self.stated)
        return pooled

    def _held_out(self) -> FloatArray:
        """Return labels of the audited pairs that have not seen their own outcome, shape ``(T,)``, NaN elsewhere."""
        if all(mechanism.fits_all for mechanism in self.mechanisms):
            return np.where(np.isnan(self.revealed), np.nan, self.stated)

        def labels(outcomes: FloatArray) -> FloatArray:
            result = np.full(self.table.n_pairs, np.nan)
            for mechanism in self.mechanisms:
                result[mechanism.audited] = mechanism.again(outcomes)[0]
            return result

        return held_out_labels(labels, self.revealed)

    def _stacked(self) -> FloatArray:
        audited = np.flatnonzero(~np.isnan(self.revealed))
        position = np.full(self.table.n_pairs, -1)
        position[audited] = np.arange(len(audited))

        def last_weights(outcomes: FloatArray) -> FloatArray:
            everywhere = np.full(self.table.n_pairs, np.nan)
            everywhere[audited] = outcomes
            result = np.empty((len(audited), self.table.n_labelers))
            for mechanism in self.mechanisms:
                result[position[mechanism.audited]] = mechanism.again(everywhere)[1]
            return result

        counts = None if self.counts is None else self.counts[audited]
        stack = fit_stack(self.table.matrix(audited), self.revealed[audited], last_weights, counts)
        labels = np.empty(self.table.n_pairs)
        for mechanism in self.mechanisms:
            for rounds in mechanism.pieces():
                labels[rounds] = stack.labels(self.table.matrix(rounds), mechanism.weights)
        return labels


def _sample_weights(design: AuditDesign | None, known: BoolArray) -> tuple[FloatArray | None, FloatArray | None]:
    """Return what every outcome counts for in fits and estimates, and the part of a step that it makes."""
    if design is None:
        return None, None
    return design.estimate_weights(known), design.step_fractions(known)


def _checked_keys(pair_ids: Sequence[Key] | None, n_pairs: int) -> Sequence[Key]:
    keys: Sequence[Key] = range(n_pairs) if pair_ids is None else pair_ids
    if len(keys) != n_pairs:
        raise ValueError(f"pair_ids must have one entry per pair: {n_pairs} pairs, {len(keys)} ids")
    return keys


def _arrivals(outcome_after: ArrayLike | None, outcomes: FloatArray) -> IntArray:
    """Return after how many stated rounds each outcome arrives, shape ``(T,)``; t + 1 where there is none."""
    at_once = np.arange(1, len(outcomes) + 1)
    if outcome_after is None:
        return at_once
    arrival = np.asarray(outcome_after)
    if arrival.shape != outcomes.shape or not np.issubdtype(arrival.dtype, np.integer):
        raise ValueError(
            f"outcome_after must be {len(outcomes)} whole numbers, one per pair, got {outcome_after!r:.80}"
        )
    early = (arrival < at_once) & ~np.isnan(outcomes)
    if early.any():
        t = int(np.argmax(early))
        raise ValueError(f"outcome_after: the outcome of round {t} cannot arrive before {t + 1} rounds were stated")
    return np.where(np.isnan(outcomes), at_once, arrival).astype(np.int64)


def _rounds_by_topic(topics: Sequence[Hashable] | None, n_pairs: int) -> list[IntArray]:
    """Return the rounds of each mechanism: all, or those of each topic, in the order in which topics appear."""
    if topics is None:
        return [np.arange(n_pairs)]
    if len(topics) != n_pairs:
        raise ValueError(f"topics must have one entry per pair: {n_pairs} pairs, {len(topics)} topics")
    rounds: dict[Hashable, list[int]] = {}
    for t, topic in enumerate(topics):
        rounds.setdefault(topic, []).append(t)
    return [np.array(of_topic, dtype=np.int64) for of_topic in rounds.values()]


def _secret(table: ReportTable, revealed: FloatArray, keys: Sequence[Key]) -> bytes:
    """Return the SHA-256 of everything that a campaign's labels depend on, read in pieces."""
    pieces = [np.arange(first, min(first + 4096, table.n_pairs)) for first in range(0, table.n_pairs, 4096)]
    digests = [input_secret(table.matrix(rounds)).hex() for rounds in pieces]
    return input_secret(digests, revealed, list(keys))
