"""One row per labeler: how many reports, how accurate, how well calibrated, how much in agreement with the others.

Computed from the sparse reports, so that thousands of labelers with a handful of reports each cost no dense matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.statistics import (
    bounded_mean_interval,
    calibration_errors,
    effective_size,
    hits,
    mean_by_group,
    wilson_interval,
)
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.aggregate.patterns import mean_of_others


@dataclass(frozen=True)
class Profiles:
    """Columns over labelers, each of shape ``(N,)``; NaN where a labeler has too few reports for the figure."""

    n_reports: IntArray
    n_scored: IntArray
    """Reports on pairs whose outcome was revealed; what follows up to the calibration error is measured on them."""
    accuracy: FloatArray
    accuracy_low: FloatArray
    accuracy_high: FloatArray
    brier: FloatArray
    brier_low: FloatArray
    brier_high: FloatArray
    calibration_error: FloatArray
    agreement: FloatArray
    """1 - mean distance to the mean report of the others."""


def labeler_profiles(annotations: Annotations, revealed: FloatArray) -> Profiles:
    """Measure every labeler on the revealed outcomes, shape ``(T,)``, NaN where not revealed.

    Where audits had unequal chances, each outcome counts 1 / chance.
    """
    N, who = annotations.n_labelers, annotations.labeler
    outcome = revealed[annotations.round_of_report]
    scored = ~np.isnan(outcome)
    own, report, y = who[scored], annotations.report[scored], outcome[scored]
    n, counts = np.bincount(own, minlength=N), annotations.outcome_weights
    heavy = np.ones(len(own)) if counts is None else counts[annotations.round_of_report[scored]]
    accuracy = mean_by_group(hits(report, y), own, N, heavy)
    accuracy_low, accuracy_high = wilson_interval(accuracy, effective_size(heavy, own, N))
    loss = (report - y) ** 2
    brier = mean_by_group(loss, own, N, heavy)
    brier_low, brier_high = bounded_mean_interval(loss, own, N, heavy)
    others = mean_of_others(annotations)
    shared = ~np.isnan(others)
    distance = np.abs(annotations.report - others)[shared]
    return Profiles(
        n_reports=np.bincount(who, minlength=N),
        n_scored=n,
        accuracy=accuracy,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        brier=brier,
        brier_low=np.minimum(brier_low, brier),
        brier_high=brier_high,
        calibration_error=calibration_errors(report, y, own, N, heavy),
        agreement=1.0 - mean_by_group(distance, who[shared], N),
    )
