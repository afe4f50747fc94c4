"""Compiled loops of the examined rule (numba). Imported where they run, never at ``import aggregation``.

Debts are counted in quarters: a failed coin adds 3, a coin that holds takes 1 away. They are whole numbers, so nothing
drifts, however long a campaign is.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.rules.compiled.quantiles import scratch, weighted_quantile

_TOO_SMALL = 1e-250
"""Below this the chances of those present are computed anew, from the best of *them*: exp may have given 0."""


@njit(cache=True, nogil=True)
def step(n_labelers: int, n_updates: int) -> float:
    """Return N eta_n / 4 at c = 4, the step per quarter: sqrt(N ln N / n); 0 before the first update."""
    return math.sqrt(n_labelers * math.log(n_labelers) / n_updates) if n_updates > 0 else 0.0


@njit(cache=True, nogil=True)
def lottery_chances(debts: IntArray, n_updates: int, chances: FloatArray) -> None:
    """Write pi^(k), shape ``(K, N)``, from the debts, shape ``(K, N)``.

    Args:
        debts: of every lottery and labeler, shape ``(K, N)``.
        n_updates: number of audited pairs so far; the step size depends on it.
        chances: shape ``(K, N)``, written: each row is on the simplex.
    """
    n_labelers = debts.shape[1]
    size = step(n_labelers, n_updates)
    for k in range(len(debts)):
        low, total = debts[k].min(), 0.0
        for i in range(n_labelers):
            chances[k, i] = math.exp(-size * (debts[k, i] - low))
            total += chances[k, i]
        for i in range(n_labelers):
            chances[k, i] /= total


@njit(cache=True, nogil=True)
def mean_weights(chances: FloatArray, weights: FloatArray) -> None:
    """Write the mean of pi^(k) over the lotteries, shape ``(N,)``."""
    weights[:] = 0.0
    for k in range(len(chances)):
        for i in range(len(weights)):
            weights[i] += chances[k, i]
    weights /= weights.sum()


@njit(cache=True, nogil=True)
def present_weights(
    chances: FloatArray, debts: IntArray, n_updates: int, reports: FloatArray, weights: FloatArray
) -> None:
    """Write the weights of a round's label, shape ``(N,)``: the mean of the lotteries, each scaled to those present.

    Args:
        chances: of every lottery, shape ``(K, N)``, rows on the simplex.
        debts: shape ``(K, N)``.
        n_updates: number of audited pairs so far.
        reports: of the round, shape ``(N,)``, NaN where absent.
        weights: shape ``(N,)``, written; all 0 if nobody is present.
    """
    n_labelers = len(reports)
    weights[:] = 0.0
    n_present = 0
    for i in range(n_labelers):
        n_present += reports[i] == reports[i]
    if n_present == 0:
        return
    own = np.empty(n_labelers)
    for k in range(len(chances)):
        mass = 0.0
        for i in range(n_labelers):
            own[i] = chances[k, i] if reports[i] == reports[i] else 0.0
            mass += own[i]
        if mass < _TOO_SMALL:
            mass = _chances_of_present(debts[k], n_updates, reports, own)
        scale = 1.0 / mass
        for i in range(n_labelers):
            weights[i] += own[i] * scale
    weights /= len(chances)


@njit(cache=True, nogil=True)
def _chances_of_present(debts: IntArray, n_updates: int, reports: FloatArray, own: FloatArray) -> float:
    """Write one lottery's chances of those present, up to scale, and return their sum."""
    low, size, mass = np.int64(2**62), step(len(reports), n_updates), 0.0
    for i in range(len(reports)):
        low = min(low, debts[i]) if reports[i] == reports[i] else low
    for i in range(len(reports)):
        own[i] = math.exp(-size * (debts[i] - low)) if reports[i] == reports[i] else 0.0
        mass += own[i]
    return mass


@njit(cache=True, nogil=True)
def stated(reports: FloatArray, weights: FloatArray, points: FloatArray, t: int, room: IntArray) -> float:
    """Return the label of round t under its weights: a quantile at ``points[t]``, or the mean where that is empty.

    Args:
        reports: of the round, shape ``(N,)``, NaN where absent.
        weights: shape ``(N,)``, >= 0.
        points: of the quantiles, shape ``(T,)``, in [0, 1], or empty.
        t: the round, in 0 to T - 1.
        room: scratch space for sorting, from ``scratch(N)``.
    """
    if len(points) > 0:
        return weighted_quantile(reports, weights, points[t], room)
    mass, total = 0.0, 0.0
    for i in range(len(reports)):
        if reports[i] == reports[i]:
            mass += weights[i]
            total += weights[i] * reports[i]
    return min(max(total / mass, 0.0), 1.0) if mass > 0.0 else 0.5


@njit(cache=True, nogil=True)
def examine(reports: FloatArray, outcome: float, draws: FloatArray, debts: IntArray) -> None:
    """Hold one audited pair's examinations: lottery k takes the labeler in ``draws[k]`` and tosses its coin.

    Args:
        reports: shape ``(N,)``, NaN where absent.
        outcome: 0 or 1.
        draws: uniform on [0, 1), shape ``(K,)``: floor(N u) is the labeler, the fraction of N u its coin; from 1 on the
            lottery examines nobody.
        debts: shape ``(K, N)``, changed.
    """
    n_labelers = len(reports)
    for k in range(len(debts)):
        if draws[k] >= 1.0:
            continue
        place = draws[k] * n_labelers
        examined = min(int(place), n_labelers - 1)
        report = reports[examined]
        if report == report:
            failed = place - examined < (report - outcome) * (report - outcome)
            debts[k, examined] += 3 if failed else -1


@njit(cache=True, nogil=True)
def examined_rounds(
    reports: FloatArray,
    outcomes: FloatArray,
    points: FloatArray,
    draws: FloatArray,
    debts: IntArray,
    n_updates: int,
    soft_labels: FloatArray,
    history: FloatArray,
    weights: FloatArray,
) -> int:
    """Run rounds; change ``debts`` and ``weights``, write ``soft_labels`` and ``history`` (each unless empty).

    ``draws`` has one row per round with an outcome and somebody present. Returns the number of updates so far.

    Args:
        reports: shape ``(T, N)``, NaN where absent.
        outcomes: shape ``(T,)``, 0, 1 or NaN.
        points: of the quantiles, shape ``(T,)``, in [0, 1], or empty for the weighted mean.
        draws: uniform on [0, 1), shape ``(n, K)``, one row per round with an outcome and somebody present.
        debts: shape ``(K, N)``, changed.
        n_updates: number of updates before the first round.
        soft_labels: shape ``(T,)``, written, or empty.
        history: weights before each round, shape ``(T, N)``, written, or empty.
        weights: shape ``(N,)``, written: those after the last round.
    """
    n_labelers = reports.shape[1]
    chances, room, used = np.empty(debts.shape), scratch(n_labelers), 0
    present = np.empty(n_labelers)
    lottery_chances(debts, n_updates, chances)
    for t in range(len(reports)):
        row = reports[t]
        if len(history) > 0:
            history[t] = weights
        if len(soft_labels) > 0:
            present_weights(chances, debts, n_updates, row, present)
            soft_labels[t] = stated(row, present, points, t, room)
        if outcomes[t] != outcomes[t] or np.isnan(row).all():
            continue
        examine(row, outcomes[t], draws[used], debts)
        used += 1
        n_updates += 1
        lottery_chances(debts, n_updates, chances)
        mean_weights(chances, weights)
    return n_updates
