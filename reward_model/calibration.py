"""How good the probabilities of a reward model are: sharp enough to rank, and true as frequencies.

A reward model states P(A better) = sigmoid(r(A) - r(B)). It is compared with a target probability per pair: held-out
soft labels (what it was trained towards), or the true preference (what an experiment knows and the model never saw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.statistics import calibration_error, hits, log_loss, mean_squared_error, reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Calibration:
    """Measures of predicted probabilities against target probabilities of the same n pairs."""

    n_pairs: int
    accuracy: float
    """Share of pairs whose direction is right; a tie, predicted or true, counts half. In [0, 1]."""
    mean_squared_error: float
    """Mean squared distance to the target probability. In [0, 1]."""
    log_loss: float
    """Mean cross-entropy in nats; its floor is the mean entropy of the targets, ``entropy``."""
    entropy: float
    """Mean entropy of the targets in nats: the log loss that no model can beat."""
    ece: float
    """Expected calibration error, in [0, 1]: mean over pairs of |mean predicted - mean target| in the pair's bin."""


def preference_probability(reward_a: FloatArray, reward_b: FloatArray) -> FloatArray:
    """Return sigmoid(r(A) - r(B)), shape ``(n,)``, without overflow.

    >>> preference_probability(np.array([1.0, 800.0]), np.array([1.0, -800.0]))
    array([0.5, 1. ])
    """
    return sigmoid(reward_a - reward_b)


def calibrate(predicted: FloatArray, target: FloatArray) -> Calibration:
    """Measure predicted probabilities against target probabilities.

    The calibration error counts both orders of every pair, (p, t) and (1 - p, 1 - t): which response is called A is a
    convention, and in a table that is oriented by its soft labels every target is at least one half. The other measures
    are the same in both orders.

    Args:
        predicted: the model's P(A better), shape ``(n,)``, in [0, 1].
        target: the target probabilities, shape ``(n,)``, in [0, 1].

    Raises:
        ValueError: shapes differ, no pair, or values outside [0, 1].

    Examples:
        >>> result = calibrate(np.array([0.8, 0.8]), np.array([1.0, 0.6]))  # too low, too high: right on average
        >>> round(result.ece, 6), round(result.mean_squared_error, 6)
        (0.0, 0.04)
    """
    if predicted.shape != target.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(
            f"predicted and target must be vectors of one length >= 1, got {predicted.shape} and {target.shape}"
        )
    for name, values in (("predicted", predicted), ("target", target)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must be probabilities in [0, 1]")
    return Calibration(
        n_pairs=len(predicted),
        accuracy=float(hits(predicted, target).mean()),
        mean_squared_error=mean_squared_error(predicted, target),
        log_loss=log_loss(predicted, target),
        entropy=log_loss(target, target),
        ece=calibration_error(*_both_orders(predicted, target)),
    )


def _both_orders(predicted: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.concatenate([predicted, 1 - predicted]), np.concatenate([target, 1 - target])


def reliability_figure(curves: dict[str, tuple[FloatArray, FloatArray]]) -> Figure:
    """Draw predicted against target probabilities; the diagonal is perfect calibration.

    Args:
        curves: name of the target -> (predicted, target), each of shape ``(n,)``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    for name, (predicted, target) in curves.items():
        bins = reliability(*_both_orders(predicted, target))
        axes.plot(bins.stated, bins.observed, label=name, linewidth=1)
        axes.scatter(bins.stated, bins.observed, s=80 * bins.count / bins.count.max() + 4)
    axes.set(xlabel="stated P(A better)", ylabel="mean target in the bin", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(frameon=False)
    return figure
