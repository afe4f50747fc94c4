"""Compiled loops of the sequential rules (numba). Imported where they run, not with the package.

Both kernels go through the reports once. They write the soft labels and, unless ``history`` is empty, the weights
before each round, and leave the weights after the last round in ``weights``. They return the number of updates made so
far and the number of reports out of range: where that is not 0, everything that they wrote is to be thrown away.
"""

from __future__ import annotations

import math

from numba import njit

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.compiled.quantiles import scratch, weighted_quantile
from truthful_rlhf.aggregation.rules.multiplicative import ROUNDS_PER_SUM, SMALLEST_WEIGHT

# Sums may be reordered (SIMD), but NaN keeps its meaning: the flags leave out "nnan" and "ninf".
_REORDERED = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=_REORDERED)
def mix_in(reports: FloatArray, initial: FloatArray, mass: float, weights: FloatArray) -> None:
    """Spread ``mass`` over the labelers present like their initial weights.

    Args:
        reports: of the round, shape ``(N,)``, NaN where absent.
        initial: initial weights, shape ``(N,)``, > 0.
        mass: weight that is spread, >= 0.
        weights: shape ``(N,)``, changed.
    """
    initial_mass = 0.0
    for i in range(len(reports)):
        initial_mass += initial[i] if reports[i] == reports[i] else 0.0
    scale = mass / initial_mass
    for i in range(len(reports)):
        weights[i] += scale * initial[i] if reports[i] == reports[i] else 0.0


@njit(cache=True, nogil=True, fastmath=_REORDERED)
def centred_updates(
    reports: FloatArray,
    outcomes: FloatArray,
    weights: FloatArray,
    initial: FloatArray,
    n_updates: int,
    etas: FloatArray,
    shares: FloatArray,
    fractions: FloatArray,
    linear: float,
    points: FloatArray,
    soft_labels: FloatArray,
    history: FloatArray,
) -> tuple[int, int]:
    """Run pi_i <- pi_i (1 - step (l_i - Lbar)) with step = eta / (1 - linear eta Lbar); see ``multiplicative``.

    The label is the weighted quantile at ``points``, or the weighted mean where that is empty.

    Args:
        reports: shape ``(T, N)``, NaN where absent.
        outcomes: shape ``(T,)``, 0, 1 or NaN.
        weights: shape ``(N,)``, > 0, changed.
        initial: initial weights, shape ``(N,)``, > 0.
        n_updates: number of updates before the first round.
        etas: step size of every update, shape ``(n,)``, n at least the number of updates in these rounds.
        shares: part of the weight that each update mixes in from the initial weights, shape ``(n,)``, in [0, 1).
        fractions: part of the way that each round's update goes, shape ``(T,)``, in (0, 1].
        linear: 1 for the linear rule, 0 for weighted-score wagering.
        points: of the quantiles, shape ``(T,)``, in [0, 1], or empty.
        soft_labels: shape ``(T,)``, written.
        history: weights before each round, shape ``(T, N)``, written, or empty.
    """
    n_rounds, n_labelers = reports.shape
    first, n_bad, keep, room = n_updates, 0, len(history) > 0, scratch(n_labelers)
    for t in range(n_rounds):
        outcome = outcomes[t]
        if keep:
            history[t] = weights
        mass, stated, loss, n_present = 0.0, 0.0, 0.0, 0
        for i in range(n_labelers):
            report = reports[t, i]
            n_bad += (report < 0.0) | (report > 1.0)
            is_present = report == report
            weight = weights[i] if is_present else 0.0
            value = report if is_present else 0.0
            mass += weight
            stated += weight * value
            loss += weight * (value - outcome) * (value - outcome)
            n_present += is_present
        if len(points) > 0:
            soft_labels[t] = weighted_quantile(reports[t], weights, points[t], room)
        else:
            soft_labels[t] = min(max(stated / mass, 0.0), 1.0) if n_present > 0 else 0.5
        if outcome != outcome or n_present < 2:
            continue
        mean_loss, eta, share, part = loss / mass, etas[n_updates - first], shares[n_updates - first], fractions[t]
        step = eta / (1.0 - linear * eta * mean_loss)
        for i in range(n_labelers):
            report = reports[t, i]
            distance = report - outcome
            moved = (1.0 - share) * weights[i] * (1.0 - step * (distance * distance - mean_loss)) + SMALLEST_WEIGHT
            weights[i] = part * moved + (1.0 - part) * weights[i] if report == report else weights[i]
        if share > 0.0:
            mix_in(reports[t], initial, part * share * mass, weights)
        n_updates += 1
        if n_updates % ROUNDS_PER_SUM == 0:
            weights /= weights.sum()
    return n_updates, n_bad


@njit(cache=True, nogil=True)
def exponential_updates(
    reports: FloatArray,
    outcomes: FloatArray,
    weights: FloatArray,
    fractions: FloatArray,
    eta: float,
    n_updates: int,
    soft_labels: FloatArray,
    history: FloatArray,
) -> tuple[int, int]:
    """Run pi_i <- pi_i exp(-eta l_i), scaled so that the labelers present keep their joint weight; see ``hedge``.

    Args:
        reports: shape ``(T, N)``, NaN where absent.
        outcomes: shape ``(T,)``, 0, 1 or NaN.
        weights: shape ``(N,)``, > 0, changed.
        fractions: part of the way that each round's update goes, shape ``(T,)``, in (0, 1].
        eta: step size, > 0.
        n_updates: number of updates before the first round.
        soft_labels: shape ``(T,)``, written.
        history: weights before each round, shape ``(T, N)``, written, or empty.
    """
    n_rounds, n_labelers = reports.shape
    n_bad, keep = 0, len(history) > 0
    for t in range(n_rounds):
        outcome = outcomes[t]
        mass, stated, moved_mass, n_present = 0.0, 0.0, 0.0, 0
        for i in range(n_labelers):
            if keep:
                history[t, i] = weights[i]
            report = reports[t, i]
            n_bad += (report < 0.0) | (report > 1.0)
            if report == report:
                mass += weights[i]
                stated += weights[i] * report
                moved_mass += weights[i] * math.exp(-eta * (report - outcome) ** 2)
                n_present += 1
        soft_labels[t] = min(max(stated / mass, 0.0), 1.0) if n_present > 0 else 0.5
        if outcome != outcome or n_present < 2:
            continue
        scale, part = mass / moved_mass, fractions[t]
        for i in range(n_labelers):
            report = reports[t, i]
            if report == report:
                moved = weights[i] * math.exp(-eta * (report - outcome) ** 2) * scale + SMALLEST_WEIGHT
                weights[i] = part * moved + (1.0 - part) * weights[i]
        n_updates += 1
        if n_updates % ROUNDS_PER_SUM == 0:
            weights /= weights.sum()
    return n_updates, n_bad
