"""The interface of every aggregation rule, and the checks at its door.

Notation (design, section 2): round t of T, labeler i of N, report r_ti in [0, 1] (NaN: did not judge), outcome y_t in
{0, 1} (NaN: not revealed), weight pi_ti on the simplex, soft label q_t = P(A better).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@runtime_checkable
class Aggregator(Protocol):
    """A rule that turns the reports of one round into one probability and learns from revealed outcomes."""

    weights_: FloatArray
    """Influence of each labeler, shape ``(n_labelers,)``, on the simplex."""

    def predict_one(self, reports: FloatArray) -> float:
        """Return P(A better) for one round of reports, shape ``(n_labelers,)``; changes nothing."""
        ...

    def learn_one(self, reports: FloatArray, outcome: float) -> None:
        """Learn from one round; the only mutation. A NaN outcome changes nothing."""
        ...


def check_reports(reports: ArrayLike, n_labelers: int | None = None) -> FloatArray:
    """Return a campaign's reports as floats of shape ``(T, N)``, or raise ``ValueError`` naming the bad entry."""
    matrix = np.asarray(reports, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"reports must have shape (rounds, labelers), got shape {matrix.shape}")
    if n_labelers is not None and matrix.shape[1] != n_labelers:
        raise ValueError(f"the rule was made for {n_labelers} labelers, the reports have {matrix.shape[1]} columns")
    bad = (matrix < 0.0) | (matrix > 1.0)  # NaN compares false: it means "did not judge"
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(
            f"reports must be in [0, 1] or NaN: round {row}, labeler {column} reports {matrix[row, column]!r}"
            f" ({int(bad.sum())} bad in all)"
        )
    return matrix


def check_outcomes(outcomes: ArrayLike, n_rounds: int) -> FloatArray:
    """Return outcomes as a float array of shape ``(T,)`` with values 0, 1 or NaN, or raise ``ValueError``."""
    vector = np.asarray(outcomes, dtype=np.float64)
    if vector.shape != (n_rounds,):
        raise ValueError(f"outcomes must have shape ({n_rounds},) to match the reports, got {vector.shape}")
    bad = ~(np.isnan(vector) | (vector == 0.0) | (vector == 1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"outcomes must be 0, 1 or NaN: round {row} has {vector[row]!r}")
    return vector


def uniform(n_labelers: int) -> FloatArray:
    """Return equal weights for ``n_labelers`` >= 1 labelers."""
    if n_labelers < 1:
        raise ValueError(f"a panel needs at least one labeler, got {n_labelers}")
    return np.full(n_labelers, 1.0 / n_labelers)
