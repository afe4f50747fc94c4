"""How accurate the soft labels are, beside the plain rules on the same pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules import fits_all_at_once
from truthful_rlhf.aggregation.statistics import hits, mean_interval, wilson_interval
from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult, plain_labels

_BASELINES = ("mean", "majority", "median")


@dataclass(frozen=True)
class AccuracyRow:
    """One set of labels measured against outcomes that it had not seen; intervals 95 %, ``None`` where undefined."""

    name: str
    chosen: bool
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    brier: float
    brier_low: float
    brier_high: float
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
    y = annotations.outcome[pairs]
    baseline = hits(labels["mean"][pairs], y)
    return [_row(name, name == chosen, q[pairs], y, None if name == "mean" else baseline) for name, q in labels.items()]


def _row(name: str, chosen: bool, q: FloatArray, y: FloatArray, baseline: FloatArray | None) -> AccuracyRow:
    right, n = hits(q, y), len(y)
    low, high = wilson_interval(right.mean(), n)
    brier = mean_interval((q - y) ** 2)
    difference = (None, None, None) if baseline is None else mean_interval(right - baseline)
    return AccuracyRow(name, chosen, n, float(right.mean()), float(low), float(high), *brier, *difference)
