"""How good the probabilities of a reward model are: sharp enough to rank, and true as frequencies.

A reward model states P(A better) = sigmoid(r(A) - r(B)). It is compared with a target probability per pair: held-out
soft labels (what it was trained towards), or the true preference (what an experiment knows and the model never saw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.log_odds import sigmoid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BINS = 10
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Calibration:
    """Measures of stated probabilities against target probabilities of the same n pairs."""

    n_pairs: int
    accuracy: float
    """Share of pairs whose direction is right; a tie, stated or true, counts half. In [0, 1]."""
    brier: float
    """Mean squared difference. In [0, 1]."""
    log_loss: float
    """Mean cross-entropy in nats; its floor is the mean entropy of the targets, ``entropy``."""
    entropy: float
    """Mean entropy of the targets in nats: the log loss that no model can beat."""
    ece: float
    """Expected calibration error: the mean over pairs of |mean stated - mean target| of the pair's bin. In [0, 1]."""


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability plot that are not empty, each array of shape ``(n_bins,)``."""

    stated: FloatArray
    target: FloatArray
    count: IntArray


def preference_probability(reward_a: FloatArray, reward_b: FloatArray) -> FloatArray:
    """Return sigmoid(r(A) - r(B)), shape ``(n,)``, without overflow.

    >>> preference_probability(np.array([1.0, 800.0]), np.array([1.0, -800.0]))
    array([0.5, 1. ])
    """
    return sigmoid(reward_a - reward_b)


def reliability(stated: FloatArray, target: FloatArray, n_bins: int = N_BINS) -> Reliability:
    """Bin pairs by their stated probability into ``n_bins`` bins of equal width.

    Args:
        stated: the model's P(A better), shape ``(n,)``.
        target: the target probabilities (or outcomes 0 and 1), shape ``(n,)``.
        n_bins: at least 1.
    """
    bins = np.minimum((stated * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    kept = count > 0
    mean_stated = np.bincount(bins, stated, n_bins)[kept] / count[kept]
    mean_target = np.bincount(bins, target, n_bins)[kept] / count[kept]
    return Reliability(mean_stated, mean_target, count[kept])


def calibrate(stated: FloatArray, target: FloatArray) -> Calibration:
    """Measure stated probabilities against target probabilities.

    Both orders of every pair are counted, (p, t) and (1 - p, 1 - t): which response is called A is a convention, and in
    a table that is oriented by its soft labels every target is at least one half.

    Args:
        stated: the model's P(A better), shape ``(n,)``, in [0, 1].
        target: the target probabilities, shape ``(n,)``, in [0, 1].

    Raises:
        ValueError: shapes differ, no pair, or values outside [0, 1].

    Examples:
        >>> result = calibrate(np.array([0.8, 0.8]), np.array([1.0, 0.6]))  # too low, too high: right on average
        >>> round(result.ece, 6), round(result.brier, 6)
        (0.0, 0.04)
    """
    if stated.shape != target.shape or stated.ndim != 1 or not len(stated):
        raise ValueError(f"stated and target must be vectors of one length >= 1, got {stated.shape} and {target.shape}")
    for name, values in (("stated", stated), ("target", target)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must be probabilities in [0, 1]")
    p, t = np.concatenate([stated, 1 - stated]), np.concatenate([target, 1 - target])
    direction = np.sign(stated - 0.5) * np.sign(target - 0.5)
    bins = reliability(p, t)
    return Calibration(
        n_pairs=len(stated),
        accuracy=float(np.mean((direction + 1) / 2)),
        brier=float(np.mean((p - t) ** 2)),
        log_loss=_cross_entropy(t, p),
        entropy=_cross_entropy(t, t),
        ece=float(np.sum(bins.count * np.abs(bins.stated - bins.target)) / len(p)),
    )


def _cross_entropy(target: FloatArray, stated: FloatArray) -> float:
    return float(-np.mean(target * np.log(np.maximum(stated, _SMALLEST))) * 2)  # both orders are in: twice one half


def reliability_figure(curves: dict[str, tuple[FloatArray, FloatArray]]) -> Figure:
    """Draw stated against target probabilities; the diagonal is perfect calibration.

    Args:
        curves: name of the target -> (stated, target), each of shape ``(n,)``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    for name, (stated, target) in curves.items():
        bins = reliability(np.concatenate([stated, 1 - stated]), np.concatenate([target, 1 - target]))
        axes.plot(bins.stated, bins.target, label=name, linewidth=1)
        axes.scatter(bins.stated, bins.target, s=80 * bins.count / bins.count.max() + 4)
    axes.set(xlabel="stated P(A better)", ylabel="mean target in the bin", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(frameon=False)
    return figure
