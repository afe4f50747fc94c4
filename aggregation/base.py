"""The interface of every aggregation rule, and the checks at its door.

Notation: round t of T, labeler i of N, report r_ti in [0, 1] (NaN: did not judge), outcome y_t in
{0, 1} (NaN: not revealed), weight pi_ti on the simplex, soft label q_t = P(A better).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

NOTHING_KNOWN = 0.5
"""Soft label of a round that nobody judged."""

Key = str | int
"""Names a round for labels that are drawn from a secret: the pair's id."""

_BLOCK_ENTRIES = 1 << 15  # 256 kB of reports: a block and its temporaries stay in the cache


@dataclass(frozen=True)
class OnlineRun:
    """What a rule stated in a campaign of T rounds.

    Attributes:
        soft_labels: q_t, each stated before its outcome was used, shape ``(T,)``, in [0, 1].
        weights: pi_t, the weights before each round, shape ``(T, N)``. Read only where a rule has constant weights;
            shape ``(0, N)`` where they were not kept.
    """

    soft_labels: FloatArray
    weights: FloatArray


@runtime_checkable
class Aggregator(Protocol):
    """A rule that turns the reports of one round into one probability and learns from revealed outcomes."""

    weights_: FloatArray
    """Influence of each labeler, shape ``(n_labelers,)``, on the simplex."""

    def predict_one(self, reports: FloatArray, key: Key | None = None) -> float:
        """Return P(A better) for one round of reports, shape ``(n_labelers,)``; changes nothing.

        ``key``, the pair's id, is read by rules whose label is drawn from a secret; ``run_online`` passes it only where
        it was given keys.
        """
        ...

    def learn_one(self, reports: FloatArray, outcome: float, sample_weight: float = 1.0) -> None:
        """Learn from one round; the only mutation. A NaN outcome changes nothing.

        Args:
            reports: one round, shape ``(N,)``.
            outcome: 1 A better, 0 B better, NaN not revealed.
            sample_weight: what the outcome counts for where audits had unequal chances
                (``aggregation.auditing.design``); ``run_online`` passes it only where it was given weights.
        """
        ...


@runtime_checkable
class WholeCampaigns(Protocol):
    """A rule with an array path: what ``run_online`` and ``final_labels`` use in place of a loop over rounds."""

    def run(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        keep_weights: bool,
        keys: Iterable[Key] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> OnlineRun:
        """Do what the loop of ``predict_one`` and ``learn_one`` does, on arrays ``(T, N)`` and ``(T,)``.

        Shapes and outcomes are checked; the range of the reports is not, because a compiled rule checks it on the way.
        A rule that raises is unchanged.

        Args:
            reports: shape ``(T, N)``, probabilities that A is better, NaN where a labeler did not judge.
            outcomes: shape ``(T,)``, 0 or 1, NaN where it was not revealed.
            keep_weights: False leaves the weights of the rounds out of the result.
            keys: of the rounds, length T, for labels that are drawn from a secret; None where none is.
            sample_weights: what each outcome counts for, shape ``(T,)``; None: all alike.
        """
        ...

    def predict_many(self, reports: FloatArray, keys: Iterable[Key] | None = None) -> FloatArray:
        """Return P(A better) of every round under the present state, shape ``(T,)``, from checked reports."""
        ...


def row_blocks(n_rounds: int, n_labelers: int) -> Iterator[slice]:
    """Yield slices that cut a campaign into blocks of rounds small enough for the cache."""
    size = max(1, _BLOCK_ENTRIES // n_labelers)
    for first in range(0, n_rounds, size):
        yield slice(first, min(first + size, n_rounds))


def check_reports(reports: ArrayLike, n_labelers: int | None = None) -> FloatArray:
    """Return a campaign's reports as floats of shape ``(T, N)``, or raise ``ValueError`` naming the bad entry."""
    matrix = check_shape(reports, n_labelers)
    check_range(matrix)
    return matrix


def check_shape(reports: ArrayLike, n_labelers: int | None = None) -> FloatArray:
    """Return a campaign's reports as floats of shape ``(T, N)``, whatever their range."""
    matrix = np.ascontiguousarray(reports, dtype=np.float64)
    if np.ndim(reports) != 2:
        raise ValueError(f"reports must have shape (rounds, labelers), got shape {np.shape(reports)}")
    if matrix.shape[1] == 0:
        raise ValueError("a panel needs at least one labeler: the reports have no columns")
    if n_labelers is not None and matrix.shape[1] != n_labelers:
        raise ValueError(f"the rule was made for {n_labelers} labelers, the reports have {matrix.shape[1]} columns")
    return matrix


def check_range(matrix: FloatArray) -> None:
    """Raise ``ValueError`` naming the first report that is neither in [0, 1] nor NaN."""
    flat = matrix.reshape(-1)
    for first in range(0, flat.size, _BLOCK_ENTRIES):
        block = flat[first : first + _BLOCK_ENTRIES]
        # fmin and fmax pass over NaN ("did not judge"); infinities are found because they are out of range
        if np.fmin.reduce(block) < 0.0 or np.fmax.reduce(block) > 1.0:
            raise_bad_report(matrix)


def raise_bad_report(matrix: FloatArray) -> NoReturn:
    """Raise ``ValueError`` for a matrix that holds a report out of range."""
    bad = (matrix < 0.0) | (matrix > 1.0)
    row, column = (int(k) for k in np.argwhere(bad)[0])
    raise ValueError(
        f"reports must be in [0, 1] or NaN: round {row}, labeler {column} reports {float(matrix[row, column])!r}"
        f" ({int(bad.sum())} bad in all)"
    )


def check_round(reports: ArrayLike, n_labelers: int) -> FloatArray:
    """Return one round's reports as floats of shape ``(N,)``, or raise ``ValueError`` naming the bad entry."""
    vector = np.asarray(reports, dtype=np.float64)
    if vector.shape != (n_labelers,):
        raise ValueError(f"one round of reports must have shape ({n_labelers},), got {vector.shape}")
    bad = (vector < 0.0) | (vector > 1.0)
    if bad.any():
        column = int(np.argmax(bad))
        raise ValueError(f"reports must be in [0, 1] or NaN: labeler {column} reports {float(vector[column])!r}")
    return vector


def check_outcomes(outcomes: ArrayLike, n_rounds: int) -> FloatArray:
    """Return outcomes as a float array of shape ``(T,)`` with values 0, 1 or NaN, or raise ``ValueError``."""
    vector = np.ascontiguousarray(outcomes, dtype=np.float64)
    if np.shape(outcomes) != (n_rounds,):
        raise ValueError(f"outcomes must have shape ({n_rounds},) to match the reports, got {np.shape(outcomes)}")
    bad = ~(np.isnan(vector) | (vector == 0.0) | (vector == 1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"outcomes must be 0, 1 or NaN: round {row} has {float(vector[row])!r}")
    return vector


def check_outcome(outcome: float) -> float:
    """Return one outcome if it is 0, 1 or NaN, or raise ``ValueError``."""
    value = float(outcome)
    if not (value == 0.0 or value == 1.0 or np.isnan(value)):
        raise ValueError(f"an outcome must be 0, 1 or NaN, got {outcome!r}")
    return value


def uniform(n_labelers: int) -> FloatArray:
    """Return equal weights for ``n_labelers`` >= 1 labelers."""
    if isinstance(n_labelers, bool) or not isinstance(n_labelers, int | np.integer):
        raise TypeError(f"n_labelers must be a whole number, got {n_labelers!r}")
    if n_labelers < 1:
        raise ValueError(f"a panel needs at least one labeler, got {n_labelers}")
    return np.full(n_labelers, 1.0 / n_labelers)


def check_initial_weights(initial_weights: ArrayLike, n_labelers: int) -> FloatArray:
    """Return initial weights divided by their sum, shape ``(N,)``, or raise ``ValueError`` naming the bad entry."""
    try:
        vector = np.asarray(initial_weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"initial_weights must be numbers, one per labeler, got {initial_weights!r:.80}") from None
    if vector.shape != (n_labelers,):
        raise ValueError(f"initial_weights must have one entry per labeler ({n_labelers}), got shape {vector.shape}")
    bad = ~((vector > 0.0) & (vector < np.inf))
    if bad.any():
        column = int(np.argmax(bad))
        raise ValueError(f"initial_weights must be finite and > 0: labeler {column} has {float(vector[column])!r}")
    shares = vector / vector.max()
    if not (shares > 0.0).all():
        raise ValueError(f"initial_weights are too unequal: labeler {int(np.argmin(shares))} would start with 0")
    return shares / shares.sum()
