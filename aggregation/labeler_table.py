"""Per-labeler statistics: how much, how accurate, how calibrated, with intervals, and the weight history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, IntArray, check_outcomes, check_reports
from truthful_rlhf.aggregation.statistics import accuracy, brier, percentile_interval, reliability

_Z = 1.959963984540054


@dataclass(frozen=True)
class LabelerRow:
    """One labeler over its own pairs with an outcome; NaN where it has none. Intervals are 95 %.

    Attributes:
        labeler: its column in the reports.
        n_reports: pairs that it judged.
        n_audited: those among them with an outcome.
        accuracy: share of its reports on the outcome's side of 1/2; 1/2 counts half.
        accuracy_interval: Wilson interval.
        brier: mean squared distance from the outcome.
        brier_interval: bootstrap interval over its pairs.
        calibration_error: expected calibration error in ten bins; biased upwards when ``n_audited`` is small.
        calibration_error_interval: bootstrap interval over its pairs.
        overconfidence: mean of (confidence - correct), confidence = max(r, 1 - r): > 0 says too sure of itself.
    """

    labeler: int
    n_reports: int
    n_audited: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    brier: float
    brier_interval: tuple[float, float]
    calibration_error: float
    calibration_error_interval: tuple[float, float]
    overconfidence: float


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share observed in n trials; NaN for n = 0.

    Examples:
        >>> [round(end, 3) for end in wilson_interval(1.0, 10)]
        [0.722, 1.0]
    """
    if n == 0:
        return np.nan, np.nan
    centre = (share + _Z**2 / (2 * n)) / (1.0 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1.0 - share) / n + _Z**2 / (4 * n * n)) / (1.0 + _Z**2 / n)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def labeler_table(
    reports: ArrayLike, outcomes: ArrayLike, rng: np.random.Generator, n_resamples: int = 200
) -> list[LabelerRow]:
    """Return one row of statistics per labeler, in the order of the columns.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 0, 1 or NaN.
        rng: draws the resampled pairs; spawned per labeler, so that one labeler's interval does not depend on others.
        n_resamples: bootstrap resamples per labeler, >= 1.
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be >= 1, got {n_resamples}")
    parts = rng.spawn(matrix.shape[1])
    return [_row(i, matrix[:, i], vector, part, n_resamples) for i, part in enumerate(parts)]


def _row(labeler: int, column: FloatArray, outcomes: FloatArray, rng: np.random.Generator, n: int) -> LabelerRow:
    judged = ~np.isnan(column)
    audited = judged & ~np.isnan(outcomes)
    report, outcome = column[audited], outcomes[audited]
    n_audited = len(report)
    briers, errors = np.full(n, np.nan), np.full(n, np.nan)
    for k in range(n if n_audited else 0):
        picks = rng.integers(n_audited, size=n_audited)
        briers[k] = brier(report[picks], outcome[picks])
        errors[k] = reliability(report[picks], outcome[picks]).ece
    share = accuracy(report, outcome)
    sureness = float(np.maximum(report, 1.0 - report).mean()) if n_audited else np.nan
    return LabelerRow(
        labeler=labeler,
        n_reports=int(judged.sum()),
        n_audited=n_audited,
        accuracy=share,
        accuracy_interval=wilson_interval(share, n_audited),
        brier=brier(report, outcome),
        brier_interval=percentile_interval(briers),
        calibration_error=reliability(report, outcome).ece,
        calibration_error_interval=percentile_interval(errors),
        overconfidence=sureness - share,
    )


def weight_history(weights: ArrayLike, final_weights: ArrayLike, n_points: int = 200) -> tuple[IntArray, FloatArray]:
    """Thin the weights of a run for a plot or a table.

    Args:
        weights: before each round, shape ``(T, N)`` (``OnlineRun.weights``).
        final_weights: after the last round, shape ``(N,)``.
        n_points: at most this many moments, >= 2; the first and the last are always among them.

    Returns:
        The number of rounds played at each moment, shape ``(K,)``, and the weights then, shape ``(K, N)``.
    """
    history, last = np.asarray(weights, dtype=np.float64), np.asarray(final_weights, dtype=np.float64)
    if history.ndim != 2 or last.shape != history.shape[1:]:
        raise ValueError(f"weights {history.shape} and final weights {last.shape} do not belong together")
    if n_points < 2:
        raise ValueError(f"n_points must be >= 2, got {n_points}")
    moments = np.unique(np.linspace(0, len(history), n_points).round().astype(np.int64))
    before = moments[moments < len(history)]
    return moments, np.vstack([history[before], last])
