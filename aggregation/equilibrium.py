"""Equilibrium by iterated best response.

The best-responding groups start from the truth and take turns: one member (or a whole bloc) looks for the misreport
that pays it most while everybody else, its own group included, plays what they play now. If it gains more than
``tolerance`` (relative to the size of its payoff), its group moves towards that misreport: by 1 / n of the way for n
members who decide alone, because each of them expects to be the only one that moves, and all the way for a bloc. When
no group can gain that much, the plan is an approximate equilibrium in symmetric group strategies *within the
parametric family and on the campaigns searched*; the iteration may also run out of turns, and then says so. What is
left to gain is measured again on fresh campaigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aggregation.best_response import SCALES, SHIFTS, STRATEGY_CLASSES, StrategyClass, best_response
from aggregation.game import TRUTH, Campaign, Objective, Plan, Rule, Seat
from aggregation.incentives import relative_gain
from aggregation.misreport import Misreport
from aggregation.population import Population


@dataclass(frozen=True)
class Play:
    """What one best-responding group plays at the end of the iteration.

    Attributes:
        group: its index in the population.
        kind: its kind.
        misreport: what it plays.
        at_edge: whether scale or shift is at the edge of the family, and might want to go further.
        over_truth: relative gain over a unilateral return to the truth, with interval, on fresh campaigns.
        left: relative gain of one more best response, chosen on the search campaigns, on fresh campaigns.
    """

    group: int
    kind: str
    misreport: Misreport
    at_edge: bool
    over_truth: tuple[float, float, float]
    left: tuple[float, float, float]


@dataclass(frozen=True)
class Equilibrium:
    """The result of iterated best response."""

    plays: tuple[Play, ...]
    converged: bool
    """Whether, in the last turn, no group could gain more than the tolerance on the campaigns searched."""
    n_rounds: int
    n_turns: int

    def plan(self, n_rounds: int) -> dict[int, Misreport]:
        """Return the misreports by group for a campaign of ``n_rounds``: starts keep their share of the campaign."""
        return {
            play.group: Misreport(
                play.misreport.scale,
                play.misreport.shift,
                round(play.misreport.start / self.n_rounds * n_rounds),
            )
            for play in self.plays
        }


def find_equilibrium(
    rule: Rule,
    population: Population,
    search: Sequence[Campaign],
    fresh: Sequence[Campaign],
    rng: np.random.Generator,
    *,
    discount: float = 1.0,
    family: StrategyClass = STRATEGY_CLASSES["any"],
    tolerance: float = 1e-3,
    max_turns: int = 40,
) -> Equilibrium:
    """Iterate best responses of the population's best-responding groups to the rule and to each other.

    Args:
        rule: from the number of labelers to a fresh aggregator.
        population: who judges; without best-responding groups the equilibrium is empty and converged.
        search: simulated campaigns on which misreports are chosen.
        fresh: other campaigns of the same length, on which the plays are measured.
        rng: source of bootstrap resamples.
        discount: of the objectives, per round.
        family: misreports to choose from.
        tolerance: relative gain below which a group stays with what it plays.
        max_turns: turns of every group before giving up.
    """
    responders = population.best_responders
    n_rounds = search[0].n_rounds
    plan: dict[int, Misreport] = {index: TRUTH for index in responders}
    converged = False
    turns = 0
    while not converged and turns < max_turns:
        turns += 1
        converged = True
        for index in responders:
            seat = _seat(rule, population, index, search, plan, discount)
            choice = best_response(seat.payoffs, n_rounds, family)
            if _mean_gain(seat, choice, plan[index]) > tolerance:
                group = population.groups[index]
                plan[index] = _towards(plan[index], choice, 1.0 if group.bloc else 1.0 / group.n)
                converged = False
    plays = tuple(_measured(rule, population, i, search, fresh, plan, discount, family, rng) for i in responders)
    return Equilibrium(plays, converged, n_rounds, turns)


def _towards(current: Misreport, choice: Misreport, part: float) -> Misreport:
    """Return the misreport that lies a part of the way from the current one to the choice."""
    if current.is_truthful or choice.is_truthful:  # the start of a truthful labeler means nothing
        start = max(current.start, choice.start)
    else:
        start = round(current.start + part * (choice.start - current.start))
    return Misreport(
        scale=current.scale + part * (choice.scale - current.scale),
        shift=current.shift + part * (choice.shift - current.shift),
        start=start,
    )


def _seat(
    rule: Rule, population: Population, index: int, campaigns: Sequence[Campaign], plan: Plan, discount: float
) -> Seat:
    objective = Objective(population.groups[index].objective or "taste", discount)
    return Seat(rule, population, index, campaigns, objective, plan)


def _mean_gain(seat: Seat, choice: Misreport, current: Misreport) -> float:
    now = float(seat.payoffs(current).mean())
    return (float(seat.payoffs(choice).mean()) - now) / max(abs(now), 1e-300)


def _measured(
    rule: Rule,
    population: Population,
    index: int,
    search: Sequence[Campaign],
    fresh: Sequence[Campaign],
    plan: Plan,
    discount: float,
    family: StrategyClass,
    rng: np.random.Generator,
) -> Play:
    played = plan[index]
    searching = _seat(rule, population, index, search, plan, discount)
    measuring = _seat(rule, population, index, fresh, plan, discount)
    other = best_response(searching.payoffs, searching.n_rounds, family)
    now = measuring.payoffs(played)
    return Play(
        group=index,
        kind=population.groups[index].kind,
        misreport=played,
        at_edge=played.scale in SCALES or played.shift in SHIFTS,
        over_truth=relative_gain(now, measuring.payoffs(TRUTH), rng),
        left=relative_gain(measuring.payoffs(other), now, rng),
    )
