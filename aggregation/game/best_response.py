"""Searchers for a labeler's best misreport: grid with golden-section refinement, and SPSA.

Both maximise the mean payoff over simulated campaigns with common random numbers, so the objective is a deterministic
function of the misreport and small differences are visible. The maximum over candidates is biased upwards by the
campaigns that it was found on: a gain has to be measured on fresh campaigns (``aggregation.game.incentives``).

SPSA (simultaneous perturbation stochastic approximation, J. C. Spall 1992) moves all parameters at once along a
random direction of signs, with the usual gain sequences a / (A + k)^.602 and c / k^.101.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.misreport import Misreport

Payoffs = Callable[[Misreport], FloatArray]
"""From a misreport to its payoff in every campaign, shape ``(n_campaigns,)``."""

SCALES = (-8.0, 8.0)
SHIFTS = (-4.0, 4.0)
LATEST_START = 0.99
_GOLDEN = (5.0**0.5 - 1.0) / 2.0


@dataclass(frozen=True)
class StrategyClass:
    """A named family of misreports: every combination of the listed scales, shifts and starts except the truth.

    ``starts`` are shares of the campaign. A scale or shift with several values is refined between its neighbours.
    """

    about: str
    scales: tuple[float, ...] = (1.0,)
    shifts: tuple[float, ...] = (0.0,)
    starts: tuple[float, ...] = (0.0,)

    def lies(self, n_rounds: int) -> list[Misreport]:
        """Return the family's grid in a campaign of ``n_rounds``."""
        grid = (
            Misreport(scale, shift, round(start * n_rounds))
            for scale, shift, start in product(self.scales, self.shifts, self.starts)
        )
        return [misreport for misreport in grid if not misreport.is_truthful]


_SHADE_OR_EXAGGERATE = (0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
_PUSH = (-4.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 4.0)

STRATEGY_CLASSES: dict[str, StrategyClass] = {
    "scale": StrategyClass("shade towards 1/2 or exaggerate, by one factor", scales=_SHADE_OR_EXAGGERATE),
    "shift": StrategyClass("push every report to one side", shifts=_PUSH),
    "flip": StrategyClass("report the opposite", scales=(-1.0,)),
    "sleep": StrategyClass(
        "honest first, then exaggerate, push or flip",
        scales=(-1.0, 1.0, 1.5, 4.0),
        shifts=(-1.0, 0.0, 1.0),
        starts=(0.5, 0.8, 0.95),
    ),
    "any": StrategyClass(
        "scale, shift and start together",
        scales=(-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0),
        shifts=(-2.0, -1.0, 0.0, 1.0, 2.0, 4.0),
        starts=(0.0, 0.5, 0.8, 0.95),
    ),
}


def _golden(value_of: Callable[[float], float], low: float, high: float, steps: int = 8) -> float:
    """Return the argument with the greatest value found by golden-section search on [low, high]."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value_of(left), value_of(right)
    for _ in range(steps):
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value_of(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value_of(right)
    return left if at_left >= at_right else right


def _neighbours(grid: Sequence[float], value: float) -> tuple[float, float]:
    ordered = sorted(grid)
    k = ordered.index(value)
    return ordered[max(k - 1, 0)], ordered[min(k + 1, len(ordered) - 1)]


def grid_search(payoffs: Payoffs, family: StrategyClass, n_rounds: int) -> Misreport:
    """Return the best lie of a family: the best of its grid, then scale and shift refined by golden section.

    Args:
        payoffs: payoff of each misreport.
        family: the misreports to try; its scales and shifts are the grid.
        n_rounds: T, rounds of the campaign.
    """

    def value(misreport: Misreport) -> float:
        return float(payoffs(misreport).mean())

    def refined(parameter: str, grid: Sequence[float], origin: Misreport) -> Misreport:
        def moved(x: float) -> Misreport:
            return replace(origin, scale=x) if parameter == "scale" else replace(origin, shift=x)

        if len(grid) == 1:
            return origin
        other = moved(_golden(lambda x: value(moved(x)), *_neighbours(grid, getattr(origin, parameter))))
        return origin if other.is_truthful else max(origin, other, key=value)

    best = max(family.lies(n_rounds), key=value)
    best = refined("scale", family.scales, best)
    return refined("shift", family.shifts, best)


def spsa_search(
    payoffs: Payoffs, n_rounds: int, rng: np.random.Generator, start: Misreport | None = None, steps: int = 40
) -> Misreport:
    """Return the best misreport seen by simultaneous-perturbation stochastic approximation.

    Args:
        payoffs: what a misreport yields in every campaign.
        n_rounds: length of the campaigns.
        rng: source of the random directions.
        start: where to begin; the truth by default.
        steps: iterations, of three payoff evaluations each.
    """
    lowest = np.array([SCALES[0], SHIFTS[0], 0.0])
    highest = np.array([SCALES[1], SHIFTS[1], LATEST_START])
    width = np.array([0.3, 0.3, 0.1])  # a step of one unit in each parameter, in the search's own units
    start = start or Misreport()
    place = np.array([start.scale, start.shift, start.start / n_rounds])

    def misreport_at(point: FloatArray) -> Misreport:
        scale, shift, share = np.clip(point, lowest, highest)
        return Misreport(float(scale), float(shift), round(float(share) * n_rounds))

    best, best_value = start, float(payoffs(start).mean())
    gain = None
    for k in range(1, steps + 1):
        direction = rng.choice([-1.0, 1.0], size=3)
        probe = width * direction / k**0.101
        up, down = (float(payoffs(misreport_at(place + sign * probe)).mean()) for sign in (1.0, -1.0))
        slope = (up - down) * k**0.101 / 2.0
        if gain is None and slope != 0.0:
            gain = (0.1 * steps + 1.0) ** 0.602 / abs(slope)  # the first step moves every parameter by one width
        step = (gain or 0.0) * slope / (0.1 * steps + k) ** 0.602
        place = np.clip(place + np.clip(step, -2.0, 2.0) * width * direction, lowest, highest)
        if (value := float(payoffs(misreport_at(place)).mean())) > best_value:
            best, best_value = misreport_at(place), value
    return best


def best_response(payoffs: Payoffs, n_rounds: int, family: StrategyClass | None = None) -> Misreport:
    """Return the best misreport of a family (default ``any``) by grid search, or the truth where no lie beats it.

    Args:
        payoffs: payoff of each misreport.
        n_rounds: T, rounds of the campaign.
        family: the misreports to try.
    """
    truth = Misreport()
    lie = grid_search(payoffs, family or STRATEGY_CLASSES["any"], n_rounds)
    return lie if payoffs(lie).mean() > payoffs(truth).mean() else truth
