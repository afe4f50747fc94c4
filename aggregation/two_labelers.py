"""Rules for two labelers as processes: how the weight of one moves, and what is stated under it.

What ``aggregation.game.adaptive_lies`` solves. With two labelers one number is the whole state of a rule. Places are
coordinates in a grid of states, and values between the states are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from truthful_rlhf.aggregation.base import NOTHING_KNOWN, FloatArray
from truthful_rlhf.aggregation.rules.examined import STEP
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.aggregation.rules.step_size import make_schedule

_TIE = 1e-12
_LIMIT = 1e-9
"""How far from 1/2 the weights stand that stand for the limits there."""

Move = tuple[FloatArray | float, FloatArray]
"""A chance and what it brings: the place of the next state, or a label. Both broadcast to (states, R, L)."""


@dataclass(frozen=True)
class Process:
    """A rule for two labelers.

    ``weights``: round n -> the weight of labeler 0 in every state, shape ``(S,)``. ``moves``: (n, losses of labeler 0
    ``(R, 1)``, losses of the other ``(1, L)``) -> the moves at the update of round n. ``order``: of the polynomials
    between states, 0 where states are hit exactly.
    """

    weights: Callable[[int], FloatArray]
    moves: Callable[[int, FloatArray, FloatArray], list[Move]]
    start: int
    order: int
    label: str


def process_of(rule: str, label: str, n_rounds: int, eta: float | Literal["auto"], grid: int) -> Process:
    """Return a rule as a process.

    Args:
        rule: mean, median, online_weighted, linear_weighted, hedge or examined.
        label: how it is stated, a name of ``LABELS``.
        n_rounds: T.
        eta: step of the multiplicative rules, or "auto": the schedule (not for hedge).
        grid: intervals of the grid of weights, even; not read by rules whose states are few.
    """
    if rule in ("mean", "median"):
        half = np.array([0.5])
        return Process(lambda n: half, lambda n, own, other: [(1.0, np.zeros((1, 1, 1)))], 0, 0, label)
    if rule == "examined":
        return _examined(n_rounds, label)
    states, place, start = _grid(grid, split=label == "median")
    weights = states[:, None, None]
    if rule == "hedge":
        if eta == "auto":
            raise ValueError("hedge takes a number as eta, not 'auto'")
        rate = float(eta)
        etas, shares = np.full(n_rounds, rate), np.zeros(n_rounds)
    else:
        etas, shares = make_schedule(2, eta, 0.0).steps(0, n_rounds)

    def moves(n: int, own: FloatArray, other: FloatArray) -> list[Move]:
        if rule == "online_weighted":
            moved = weights * (1.0 + etas[n] * (1.0 - weights) * (other - own))
        else:
            kept, rest = (_kept(rule, etas[n], losses) for losses in (own, other))
            moved = weights * kept / (weights * kept + (1.0 - weights) * rest)
        return [(1.0, place((1.0 - shares[n]) * moved + 0.5 * shares[n]))]

    return Process(lambda n: states, moves, start, 3 if label in ("mean", "drawn") else 1, label)


def _grid(grid: int, split: bool) -> tuple[FloatArray, Callable[[FloatArray], FloatArray], int]:
    """Return the weights of the states, the way from a weight to its place among them, and the place of 1/2.

    Where a label jumps at 1/2 the grid is ``split`` there: the last state below stands for the limit from below, then
    comes 1/2 itself, then the limit from above. Linear interpolation never reaches across.
    """
    if not split:
        return np.linspace(0.0, 1.0, grid + 1), lambda weights: weights * grid, grid // 2
    half = grid // 2
    below = np.linspace(0.0, 0.5, half + 1)
    below[-1] -= _LIMIT

    def place(weights: FloatArray) -> FloatArray:
        upper = weights * grid + 2.0
        placed: FloatArray = np.where(weights < 0.5, np.minimum(weights * grid, half), np.maximum(upper, half + 2))
        return np.where(np.abs(weights - 0.5) <= _TIE, half + 1.0, placed)

    return np.concatenate([below, [0.5], 1.0 - below[::-1]]), place, half + 1


def _kept(rule: str, eta: float, losses: FloatArray) -> FloatArray:
    """Return the factor that a loss leaves of a weight."""
    factor: FloatArray = np.exp(-eta * losses) if rule == "hedge" else 1.0 - eta * losses
    return factor


def _examined(n_rounds: int, label: str) -> Process:
    """Return one lottery: the state is the own debt less the other's, in quarters, from -3 T to 3 T."""
    reach = 3 * n_rounds
    debts = np.arange(-reach, reach + 1, dtype=np.float64)

    def weights(n: int) -> FloatArray:
        step = STEP / 4.0 * math.sqrt(2.0 * math.log(2.0) / n) if n else 0.0
        share: FloatArray = 0.5 * (1.0 - np.tanh(0.5 * step * debts))
        return share

    def moves(n: int, own: FloatArray, other: FloatArray) -> list[Move]:
        places = np.arange(len(debts))[:, None, None]
        after = [(own, 3), (1.0 - own, -1), (other, -3), (1.0 - other, 1)]
        return [(0.5 * chance, np.clip(places + step, 0, 2 * reach)) for chance, step in after]

    return Process(weights, moves, reach, 0, label)


def labels_of(label: str, weights: FloatArray, own: FloatArray, other: FloatArray) -> list[Move]:
    """Return what may be stated, with its chance; see ``quantile_labels``.

    Args:
        label: a name of ``LABELS``.
        weights: of labeler 0, shape ``(S,)``.
        own: its reports, shape ``(R, 1)``.
        other: the other's reports, shape ``(1, L)``.

    Returns:
        Pairs of a chance, shape ``(S, 1, 1)``, and a label that broadcasts to ``(S, R, L)``.
    """
    share = weights[:, None, None]
    edge = LABELS[label]
    if edge is None:
        return [(np.ones_like(share), share * own + (1.0 - share) * other)]
    if edge < 0.5:
        chance = np.clip((share - edge) / (1.0 - 2.0 * edge), 0.0, 1.0)
        return [(chance, own), (1.0 - chance, other)]
    tie = np.abs(share - 0.5) <= _TIE
    middle = np.clip(NOTHING_KNOWN, np.minimum(own, other), np.maximum(own, other))
    heavier, lighter = ~tie & (share > 0.5), ~tie & (share < 0.5)
    return [(heavier.astype(float), own), (lighter.astype(float), other), (tie.astype(float), middle)]


def between(values: FloatArray, places: FloatArray, order: int) -> FloatArray:
    """Return ``values`` (first axis: states) at fractional places, by Lagrange polynomials of an order, 0, 1 or 3.

    Args:
        values: on the grid, shape ``(S, ...)``.
        places: fractional positions in [0, S - 1], any shape.
        order: of the polynomials: 0 takes the state below.
    """
    if order == 0:
        return values[places.astype(np.int64)]
    first = np.clip(np.floor(places).astype(np.int64) - (order - 1) // 2, 0, len(values) - 1 - order)
    nodes = np.arange(order + 1)
    total = np.zeros(places.shape + values.shape[1:])
    for node in nodes:
        part = np.ones_like(places)
        for other in nodes[nodes != node]:
            part = part * (places - first - other) / (node - other)
        total += part.reshape(places.shape + (1,) * (values.ndim - 1)) * values[first + node]
    return total
