"""Equilibrium by iterated best response.

The players start from the truth and take turns: one member of a group of like players looks for the misreport that pays
it most while everybody else, its own group included, plays what they play now. If it gains more than ``tolerance``
(relative to the size of its payoff), its group of n moves 1 / n of the way towards that misreport, because each of them
expects to be the only one that moves. When no group can gain that much, the strategy profile is an approximate
equilibrium in symmetric group strategies *within the parametric family and on the campaigns searched*; the iteration
may also run out of turns, and then says so. What is left to gain is measured again on fresh campaigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from truthful_rlhf.aggregation.game.best_response import StrategyClass, best_response
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign, LabelerPosition, Objective, Rule
from truthful_rlhf.aggregation.game.incentives import relative_gain
from truthful_rlhf.aggregation.game.misreport import Misreport


@dataclass(frozen=True)
class Players:
    """Labelers who are alike and choose alike: their columns in the campaigns, and their objective."""

    columns: tuple[int, ...]
    objective: str


@dataclass(frozen=True)
class Play:
    """What a group of like players plays at the end of the iteration.

    Attributes:
        misreport: what each of them plays.
        at_edge: whether its scale or shift is at the edge of the family, and might want to go further.
        over_truth: relative gain over a unilateral return to the truth, with interval, on fresh campaigns.
        left: relative gain of one more best response, chosen on the search campaigns, on fresh campaigns.
    """

    misreport: Misreport
    at_edge: bool
    over_truth: tuple[float, float, float]
    left: tuple[float, float, float]


@dataclass(frozen=True)
class Equilibrium:
    """The result of iterated best response."""

    plays: tuple[Play, ...]
    """One per group, in their order."""
    converged: bool
    """Whether, in the last turn, no group could gain more than the tolerance on the campaigns searched."""
    n_turns: int


@dataclass(frozen=True)
class Game:
    """Who plays against which rule.

    Attributes:
        rule: from the number of labelers to a fresh aggregator.
        groups: the players; all other labelers report what the campaigns say (``Campaign.reports``).
        family: misreports to choose from.
        outcome_model: ``own`` or ``true``: which outcomes the players expect (``LabelerPosition``).
    """

    rule: Rule
    groups: Sequence[Players]
    family: StrategyClass
    outcome_model: str = "own"

    def position(self, index: int, campaigns: Sequence[Campaign], profile: Sequence[Misreport]) -> LabelerPosition:
        """Return the position of the first player of a group while all play a strategy profile.

        Args:
            index: of the group, from 0.
            campaigns: the drawn campaigns.
            profile: the strategy profile: one misreport per group.
        """
        first, objective = self.groups[index].columns[0], Objective(self.groups[index].objective)
        played = [self._played(campaign, profile) for campaign in campaigns]
        return LabelerPosition(self.rule, played, slice(first, first + 1), objective, self.outcome_model)

    def _played(self, campaign: Campaign, profile: Sequence[Misreport]) -> Campaign:
        reports = campaign.reports.copy()
        for players, misreport in zip(self.groups, profile, strict=True):
            for column in players.columns:
                reports[:, column] = misreport(campaign.beliefs[:, column])
        return replace(campaign, reports=reports)


def find_equilibrium(
    game: Game,
    search: Sequence[Campaign],
    fresh: Sequence[Campaign],
    rng: np.random.Generator,
    *,
    tolerance: float = 1e-3,
    max_turns: int = 40,
) -> Equilibrium:
    """Iterate best responses of the game's players to the rule and to each other.

    Args:
        game: rule and players; without players the equilibrium is empty and converged.
        search: simulated campaigns on which misreports are chosen.
        fresh: other campaigns of the same length, on which the plays are measured.
        rng: source of bootstrap resamples.
        tolerance: relative gain below which a group stays with what it plays.
        max_turns: turns of every group before giving up.
    """
    profile = [TRUTH for _ in game.groups]
    least, best = np.inf, profile
    turns = 0
    while least > tolerance and turns < max_turns:
        turns += 1
        now, largest = list(profile), 0.0
        for index, players in enumerate(game.groups):
            position = game.position(index, search, profile)
            choice = best_response(position.payoffs, position.n_rounds, game.family)
            gain = _mean_gain(position, choice, profile[index])
            largest = max(largest, gain)
            if gain > tolerance:
                profile[index] = _towards(profile[index], choice, 1.0 / len(players.columns))
        if largest < least:
            least, best = largest, now
    plays = tuple(_measured(game, index, search, fresh, best, rng) for index in range(len(game.groups)))
    return Equilibrium(plays, least <= tolerance, turns)


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


def _mean_gain(position: LabelerPosition, choice: Misreport, current: Misreport) -> float:
    now = float(position.payoffs(current).mean())
    return (float(position.payoffs(choice).mean()) - now) / max(abs(now), 1e-300)


def _measured(
    game: Game,
    index: int,
    search: Sequence[Campaign],
    fresh: Sequence[Campaign],
    profile: Sequence[Misreport],
    rng: np.random.Generator,
) -> Play:
    """Measure on fresh campaigns what a group gets, against the truth and against one more best response."""
    played = profile[index]
    searching, measuring = game.position(index, search, profile), game.position(index, fresh, profile)
    other = best_response(searching.payoffs, searching.n_rounds, game.family)
    now = measuring.payoffs(played)
    return Play(
        misreport=played,
        at_edge=_at_edge(played.scale, game.family.scales) or _at_edge(played.shift, game.family.shifts),
        over_truth=relative_gain(now, measuring.payoffs(TRUTH), rng),
        left=relative_gain(measuring.payoffs(other), now, rng),
    )


def _at_edge(value: float, grid: Sequence[float]) -> bool:
    """Return whether a value stands at an end of a grid that has more than one value."""
    return len(grid) > 1 and value in (min(grid), max(grid))
