"""Best responses: the misreport that pays a labeler best against a rule, searched in simulated campaigns.

The labeler knows the rule, how often outcomes are revealed, and how the others judge as a distribution
(``PublicProfile``): never the aggregator or anybody's reports. It imagines campaigns of such labelers, lets itself
report sigmoid(scale * logit(belief)) in them for many scales, and takes the scale that pays best
(``aggregation.game.campaigns``). The best of many looks better than it is, so it is played only if it also beats the
truth in fresh campaigns, by two standard errors; otherwise the labeler is truthful. The imagined outcomes follow the
truth and not its taste, because a labeler whose taste is declared knows the difference: a contrarian may find that
reporting *against* its taste pays.

In an *equilibrium* the others respond too (``aggregation.game.equilibrium``): all labelers with an objective
choose their scale, like labelers alike, until nobody gains by moving alone.

Shifts are not searched: A and B are arbitrary, so pushing towards A on every pair serves no taste.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs, with_bias
from truthful_rlhf.aggregation.game.best_response import StrategyClass, best_response
from truthful_rlhf.aggregation.game.campaigns import (
    SPREAD,
    TRUTH,
    Campaign,
    LabelerPosition,
    Objective,
    Rule,
    draw_nature,
)
from truthful_rlhf.aggregation.game.equilibrium import Equilibrium, Game, Play, Players, find_equilibrium
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.rules import simulated_rule
from truthful_rlhf.labelers.context import PublicProfile, ReportContext

N_ROUNDS = 200
N_CAMPAIGNS = 8
"""To search on, and as many fresh ones."""
SEED = 20_260_901
"""Of the imagined campaigns: the search is a deterministic function of what the labeler knows."""

SCALES = StrategyClass(
    "scale the log-odds, either way", scales=(-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 0.75, 1.0, 1.25, 2.0, 4.0, 8.0)
)
STAND_IN = {"dawid_skene": "mean", "glad": "mean", "mace": "mean"}
"""Rules that re-estimate everything are too slow to iterate against: an equilibrium is one against this rule."""


def best_misreport(
    objective: str, context: ReportContext, profiles: tuple[PublicProfile, ...], position: int
) -> Misreport:
    """Return the best misreport of one labeler; searched once per rule, panel and kind of labeler.

    Args:
        objective: ``influence``, ``taste`` or ``policy_taste``.
        context: the rule, its options and the audit rate.
        profiles: all N labelers as they are known publicly; what they declare is what they are taken to do.
        position: which of them it is.
    """
    if "initial_weights" not in context.rule_options:
        position = profiles.index(profiles[position])  # labelers of one kind share the search
    return _search(*_rule(context), context.audit_rate, profiles, position, objective)


def equilibrium_misreport(
    objective: str, context: ReportContext, profiles: tuple[PublicProfile, ...], position: int
) -> Misreport:
    """Return what one labeler plays in the equilibrium of all labelers that have an objective; arguments as above.

    Args:
        objective: ``influence``, ``taste`` or ``policy_taste``.
        context: the rule, its options and the audit rate.
        profiles: all N labelers as they are known publicly.
        position: which of them it is.
    """
    return equilibrium_play(objective, context, profiles, position)[0].misreport


def equilibrium_play(
    objective: str, context: ReportContext, profiles: tuple[PublicProfile, ...], position: int
) -> tuple[Play, Equilibrium]:
    """Return what one labeler plays in the equilibrium of all labelers that have an objective, and the equilibrium.

    Args:
        objective: the labeler's own: ``influence``, ``taste`` or ``policy_taste``.
        context: the rule, its options and the audit rate.
        profiles: all N labelers as they are known publicly.
        position: which of them it is.
    """
    known = (*profiles[:position], replace(profiles[position], objective=objective), *profiles[position + 1 :])
    groups = _groups(known, apart="initial_weights" in context.rule_options)
    name, options = _rule(context)
    if name in STAND_IN:
        name, options = STAND_IN[name], "{}"
    found = _iterate(name, options, context.audit_rate, known, groups)
    index = next(k for k, players in enumerate(groups) if position in players.columns)
    return found.plays[index], found


def _rule(context: ReportContext) -> tuple[str, str]:
    return context.rule, json.dumps(dict(context.rule_options), sort_keys=True)


def _factory(rule: str, options: str) -> Rule:
    """Return the rule that labelers know, from its name and its options as JSON."""
    chosen: dict[str, Any] = json.loads(options)
    return simulated_rule(rule, chosen)


def _groups(profiles: tuple[PublicProfile, ...], apart: bool) -> tuple[Players, ...]:
    """Return the players: labelers who are alike choose alike, unless they have weights of their own (``apart``)."""
    columns: dict[Any, list[int]] = {}
    for column, profile in enumerate(profiles):
        if profile.objective is not None:
            columns.setdefault((column, profile) if apart else profile, []).append(column)
    return tuple(Players(tuple(members), str(profiles[members[0]].objective)) for members in columns.values())


@lru_cache(maxsize=512)
def _search(
    rule: str, options: str, audit_rate: float, profiles: tuple[PublicProfile, ...], position: int, objective: str
) -> Misreport:
    campaigns = imagine_campaigns(profiles, audit_rate, np.random.default_rng(SEED))
    searched, fresh = (
        LabelerPosition(_factory(rule, options), part, slice(position, position + 1), Objective(objective), "true")
        for part in (campaigns[:N_CAMPAIGNS], campaigns[N_CAMPAIGNS:])
    )
    lie = best_response(searched.payoffs, N_ROUNDS, SCALES)
    gain = fresh.payoffs(lie) - fresh.payoffs(TRUTH)
    return lie if gain.mean() > 2.0 * gain.std(ddof=1) / len(gain) ** 0.5 else TRUTH


@lru_cache(maxsize=128)
def _iterate(
    rule: str, options: str, audit_rate: float, profiles: tuple[PublicProfile, ...], groups: tuple[Players, ...]
) -> Equilibrium:
    rng, resampling = np.random.default_rng(SEED).spawn(2)
    campaigns = imagine_campaigns(profiles, audit_rate, rng)
    game = Game(_factory(rule, options), groups, SCALES, "true")
    return find_equilibrium(game, campaigns[:N_CAMPAIGNS], campaigns[N_CAMPAIGNS:], resampling)


def imagine_campaigns(profiles: Sequence[PublicProfile], audit_rate: float, rng: np.random.Generator) -> list[Campaign]:
    """Draw 2 ``N_CAMPAIGNS`` campaigns in which each labeler judges by its known taste, and outcomes follow the truth.

    Args:
        profiles: the N labelers.
        audit_rate: chance that an outcome is revealed.
        rng: source of everything.
    """
    first, *streams = rng.spawn(1 + len(profiles))
    nature = draw_nature(2 * N_CAMPAIGNS * N_ROUNDS, first, SPREAD, audit_rate)
    beliefs = np.empty((len(nature.log_odds), len(profiles)))
    reports = np.empty_like(beliefs)
    for column, (profile, stream) in enumerate(zip(profiles, streams, strict=True)):
        own = profile.gold * nature.log_odds + profile.other * stream.normal(0.0, SPREAD, len(nature.log_odds))
        posterior = calibrated_beliefs(own, profile.noise, stream)
        beliefs[:, column] = with_bias(posterior, profile.bias) if profile.bias else posterior
        reports[:, column] = Misreport(profile.scale)(beliefs[:, column])
    return nature.campaigns(N_ROUNDS, beliefs, reports, posteriors=beliefs)
