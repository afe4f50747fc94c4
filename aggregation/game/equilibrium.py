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

from truthful_rlhf.aggregation.game.best_response import SCALES, SHIFTS, STRATEGY_CLASSES, StrategyClass, best_response
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign, Objective, Plan, Rule, Seat
from truthful_rlhf.aggregation.game.incentives import relative_gain
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import Population


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
    game = _Game(rule, population, discount, family)
    responders = population.best_responders
    plan: dict[int, Misreport] = {index: TRUTH for index in responders}
    least, best = np.inf, plan
    turns = 0
    while least > tolerance and turns < max_turns:
        turns += 1
        now, largest = dict(plan), 0.0
        for index in responders:
            seat = game.seat(index, search, plan)
            choice = best_response(seat.payoffs, seat.n_rounds, family)
            gain = _mean_gain(seat, choice, plan[index])
            largest = max(largest, gain)
            if gain > tolerance:
                group = population.groups[index]
                plan[index] = _towards(plan[index], choice, 1.0 if group.bloc else 1.0 / group.n)
        if largest < least:
            least, best = largest, now
    plays = tuple(game.measured(index, search, fresh, best, rng) for index in responders)
    return Equilibrium(plays, least <= tolerance, search[0].n_rounds, turns)


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


def _mean_gain(seat: Seat, choice: Misreport, current: Misreport) -> float:
    now = float(seat.payoffs(current).mean())
    return (float(seat.payoffs(choice).mean()) - now) / max(abs(now), 1e-300)


@dataclass(frozen=True)
class _Game:
    """What stays the same while plans and campaigns change."""

    rule: Rule
    population: Population
    discount: float
    family: StrategyClass

    def seat(self, index: int, campaigns: Sequence[Campaign], plan: Plan) -> Seat:
        objective = Objective(self.population.groups[index].objective or "taste", self.discount)
        return Seat(self.rule, self.population, index, campaigns, objective, plan)

    def measured(
        self,
        index: int,
        search: Sequence[Campaign],
        fresh: Sequence[Campaign],
        plan: Plan,
        rng: np.random.Generator,
    ) -> Play:
        """Measure on fresh campaigns what a group gets, against the truth and against one more best response."""
        played = plan[index]
        searching, measuring = self.seat(index, search, plan), self.seat(index, fresh, plan)
        other = best_response(searching.payoffs, searching.n_rounds, self.family)
        now = measuring.payoffs(played)
        return Play(
            group=index,
            kind=self.population.groups[index].kind,
            misreport=played,
            at_edge=played.scale in SCALES or played.shift in SHIFTS,
            over_truth=relative_gain(now, measuring.payoffs(TRUTH), rng),
            left=relative_gain(measuring.payoffs(other), now, rng),
        )
