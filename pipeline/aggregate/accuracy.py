"""How accurate the soft labels are, beside the plain rules on the same pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules import fits_all_at_once
from truthful_rlhf.aggregation.statistics import effective_size, hits, log_loss, mean_interval, wilson_interval
from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult, plain_labels

_BASELINES = ("mean", "majority", "median")


@dataclass(frozen=True)
class AccuracyRow:
    """One set of labels measured against outcomes that it had not seen; intervals 95 %, ``None`` where undefined."""

    name: str
    chosen: bool
    n: int
    n_effective: float
    """Equally likely pairs that would tell as much; n if audits were uniform."""
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    brier: float
    brier_low: float
    brier_high: float
    log_loss: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None


def measured_pairs(result: CampaignResult) -> BoolArray:
    """Return the pairs to measure on: known outcomes that were kept from the rule, or all known ones if none was."""
    annotations = result.annotations
    known = ~np.isnan(annotations.outcome) & (np.diff(annotations.start) > 0)
    unaudited = known & np.isnan(result.revealed)
    return unaudited if unaudited.any() else known


def accuracy_table(result: CampaignResult) -> list[AccuracyRow]:
    """Return the plain rules and the chosen one on the same pairs; empty without any outcome.

    With unaudited outcomes, online and final labels are both measured on those. Otherwise only labels that were stated
    before each outcome can be measured: final labels of audited pairs *are* the outcomes, and
    reweighted ones have learnt from them.
    """
    annotations = result.annotations
    pairs = measured_pairs(result)
    if not pairs.any():
        return []
    labels = {name: plain_labels(name, annotations) for name in _BASELINES}
    rule = result.rule.name
    if rule not in _BASELINES:
        labels[f"{rule}, online"] = result.stated
    chosen = rule if rule in _BASELINES else f"{rule}, online"
    kind = result.settings.labels
    learnt = (
        kind != "online" and rule not in _BASELINES and not fits_all_at_once(rule)
    )  # other rules state what they end with
    if (learnt or kind == "recalibrated") and np.isnan(result.revealed[pairs]).all():
        chosen = f"{rule}, {kind}"
        labels[chosen] = result.soft_labels
    y, counts = annotations.outcome[pairs], annotations.outcome_weights
    measured = _Measured(y, np.ones(len(y)) if counts is None else counts[pairs])
    baseline = hits(labels["mean"][pairs], y)
    return [
        measured.row(name, name == chosen, q[pairs], None if name == "mean" else baseline) for name, q in labels.items()
    ]


class _Measured:
    """Outcomes and what each counts for: 1 / chance where audits had unequal chances."""

    def __init__(self, outcomes: FloatArray, counts: FloatArray) -> None:
        self.outcomes, self.counts = outcomes, counts
        self.n = float(effective_size(counts, np.zeros(len(counts), dtype=np.int64), 1)[0])

    def row(self, name: str, chosen: bool, q: FloatArray, baseline: FloatArray | None) -> AccuracyRow:
        right = hits(q, self.outcomes)
        share = float(np.average(right, weights=self.counts))
        low, high = wilson_interval(share, self.n)
        brier = mean_interval((q - self.outcomes) ** 2, self.counts)
        loss = log_loss(q, self.outcomes, self.counts)
        difference = (None, None, None) if baseline is None else mean_interval(right - baseline, self.counts)
        n = len(self.outcomes)
        return AccuracyRow(name, chosen, n, self.n, share, float(low), float(high), *brier, loss, *difference)
