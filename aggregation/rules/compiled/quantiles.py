"""Compiled weighted quantiles (numba). Imported where they run, never at ``import aggregation``.

The shares of those present are whole numbers, about 2^50 in all, so that a sum of shares is exact and the same in any
order. So who decides at a point never depends on the order of the reports, which a labeler could change: every label is
exactly a generalised median, not only up to rounding (``aggregation.rules.quantile_labels``).

Reports are compared by their bits: floats >= 0 are ordered as the whole numbers that these bits spell, and passes over
whole numbers compile to vector instructions, where NaN and the order of floating-point sums forbid it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from truthful_rlhf.aggregation.base import FloatArray, IntArray

_UNITS = 2.0**50
_ROUNDING = 2.0**52
"""Adding it to a number below rounds that to a whole one, which then stands in the last bits of the sum."""
_ROUNDING_BITS = np.int64(0x4330000000000000)
_INFINITY_BITS = np.int64(0x7FF0000000000000)
_TIE = 2.0**-40
"""Cumulative shares this near to the point (relative to their sum) meet it: equal weights are 1/N up to rounding."""
_ABSENT = np.int64(2**63 - 1)
_NONE = np.int64(-1)
_BLOCK = 16
"""Rounds are padded to a multiple of this, so that the passes leave no scalar rest."""
_SMALL = 16
"""Up to this many labelers N^2 comparisons without a branch are faster than a search."""


@njit(cache=True, nogil=True)
def scratch(n_labelers: int) -> IntArray:
    """Return room for the bits of the reports and the shares of one round, and for a result: ``(3, >= N)``."""
    room = np.zeros((3, (n_labelers + _BLOCK - 1) // _BLOCK * _BLOCK), dtype=np.int64)
    room[0] = _ABSENT
    return room


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def weighted_quantile(reports: FloatArray, weights: FloatArray, point: float, room: IntArray) -> float:
    """Return the weighted quantile of one round at ``point``; 0.5 where nobody present has weight.

    Args:
        reports: shape ``(N,)``, contiguous, NaN where absent.
        weights: shape ``(N,)``, >= 0; need not sum to 1.
        point: u in (0, 1).
        room: from ``scratch(N)``; overwritten.

    Returns:
        The report at which the cumulative share of the present reports passes u; 1/2 clamped between the two
        neighbours where it meets u exactly.
    """
    n = len(reports)
    mass = 0.0
    for i in range(n):
        mass += weights[i] if reports[i] == reports[i] else 0.0
    if not mass > 0.0:
        return 0.5
    scale = _UNITS / mass
    bits, shares, spelled = room[0], room[1], reports.view(np.int64)
    rounded = shares.view(np.float64)
    for i in range(n):
        rounded[i] = weights[i] * scale + _ROUNDING
    total, low, high = np.int64(0), _ABSENT, _NONE
    for i in range(n):
        report = spelled[i] & _ABSENT  # without the sign bit: -0.0 is 0
        share = shares[i] - _ROUNDING_BITS if report <= _INFINITY_BITS else np.int64(0)
        judged = share > 0
        shares[i] = share
        bits[i] = report if judged else _ABSENT
        low = min(low, report if judged else _ABSENT)
        high = max(high, report if judged else _NONE)
        total += share
    reached = max(np.int64(np.ceil((point - _TIE) * total)), np.int64(1))
    passed = min(np.int64(np.floor((point + _TIE) * total)), total - 1)
    if len(bits) <= _SMALL:
        return _count(room, n, reached, passed)
    return _bisect(room, low, high, reached, passed)


@njit(cache=True, nogil=True)
def _count(room: IntArray, n_labelers: int, reached: int, passed: int) -> float:
    """Find the quantile of a small round without a branch: the cumulative share at every report."""
    bits, shares = room[0], room[1]
    low, high = _ABSENT, _ABSENT
    for k in range(n_labelers):
        report, cumulative = bits[k], np.int64(0)
        for i in range(len(bits)):
            cumulative += shares[i] if bits[i] <= report else np.int64(0)
        low = min(low, report if cumulative >= reached else _ABSENT)
        high = min(high, report if cumulative > passed else _ABSENT)
    return _clamped_half(room[2], low, high)


@njit(cache=True, nogil=True)
def _clamped_half(found: IntArray, low: int, high: int) -> float:
    """Return 1/2 clamped between two reports, given by their bits."""
    found[0], found[1] = low, high
    values = found.view(np.float64)
    return min(max(0.5, values[0]), values[1])


@njit(cache=True, nogil=True)
def _bisect(room: IntArray, low: int, high: int, reached: int, passed: int) -> float:
    """Find the quantile between the reports ``low`` and ``high`` (bits), one pass over the round per step.

    Kept true: the cumulative share is < ``reached`` just below ``low``, and > ``passed`` at ``high``.
    """
    bits, shares = room[0], room[1]
    while low < high:
        cumulative, last, first = _cut(bits, shares, low + (high - low) // 2)
        if cumulative < reached:
            low = first
        elif cumulative > passed:
            high = last
        else:
            low, high = last, first
            break
    return _clamped_half(room[2], low, high)


@njit(cache=True, nogil=True)
def _cut(bits: IntArray, shares: IntArray, pivot: int) -> tuple[np.int64, np.int64, np.int64]:
    """Return the share of reports <= ``pivot``, the last report <= it and the first report above it."""
    cumulative, last, first = np.int64(0), _NONE, _ABSENT
    for i in range(len(bits)):
        report = bits[i]
        cumulative += shares[i] if report <= pivot else np.int64(0)
        last = max(last, report if report <= pivot else _NONE)
        first = min(first, report if report > pivot else _ABSENT)
    return cumulative, last, first


@njit(cache=True, nogil=True)
def quantile_labels(reports: FloatArray, weights: FloatArray, points: FloatArray, soft_labels: FloatArray) -> None:
    """Write the weighted quantile of every round of ``reports`` ``(T, N)`` at its point ``(T,)``.

    Args:
        reports: shape ``(T, N)``, NaN where absent.
        weights: before each round, shape ``(T, N)``, >= 0.
        points: of the quantiles, shape ``(T,)``, in [0, 1].
        soft_labels: shape ``(T,)``, written.
    """
    room = scratch(reports.shape[1])
    for t in range(len(reports)):
        soft_labels[t] = weighted_quantile(reports[t], weights, points[t], room)
