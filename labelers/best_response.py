"""Best responses: the misreport that pays a labeler best against a rule, searched in simulated campaigns.

The labeler knows the rule, how often outcomes are revealed, and how the others judge as a distribution (``Peer``):
never the aggregator or anybody's reports. It imagines campaigns with those peers, lets itself report
sigmoid(scale * logit(belief)) in them for many scales, and takes the scale that pays best
(``aggregation.game.campaigns``). The best of many looks better than it is, so it is played only if it also beats the
truth in fresh campaigns, by two standard errors; otherwise the labeler is truthful. The imagined outcomes follow the
truth and not its taste, because a labeler whose taste is declared knows the difference: a contrarian may find that
reporting *against* its taste pays.

Shifts are not searched: A and B are arbitrary, so pushing towards A on every pair serves no taste.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from truthful_rlhf.aggregation import make_aggregator
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.game.best_response import StrategyClass, best_response
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign, Objective, Seat
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import OBJECTIVES, Group, Population
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.labelers.context import Peer, Setting

__all__ = ["OBJECTIVES", "best_misreport"]

SPREAD = 1.5
N_ROUNDS = 200
N_CAMPAIGNS = 8
"""To search on, and as many fresh ones."""
SEED = 20_260_901
"""Of the imagined campaigns: the search is a deterministic function of what the labeler knows."""

SCALES = StrategyClass(
    "scale the log-odds, either way", scales=(-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 0.75, 1.0, 1.25, 2.0, 4.0, 8.0)
)


def best_misreport(objective: str, setting: Setting) -> Misreport:
    """Return the best misreport for the labeler of a setting; searched once per rule, panel and position."""
    context, position = setting.context, setting.position
    if "initial_weights" not in context.rule_options:
        position = setting.peers.index(setting.peers[position])  # labelers of one kind share the search
    return _search(
        context.rule,
        json.dumps(dict(context.rule_options), sort_keys=True),
        context.audit_rate,
        setting.peers,
        position,
        objective,
    )


@lru_cache(maxsize=512)
def _search(
    rule: str, options: str, audit_rate: float, peers: tuple[Peer, ...], position: int, objective: str
) -> Misreport:
    population = Population(
        name="imagined",
        groups=tuple(Group(kind="noisy", noise=peer.noise, scale=peer.scale) for peer in peers),
        spread=SPREAD,
    )
    campaigns = imagine_campaigns(peers, audit_rate, np.random.default_rng(SEED))
    searched, fresh = (
        Seat(
            rule=lambda n_labelers: make_aggregator(rule, n_labelers, **json.loads(options)),
            population=population,
            index=position,
            campaigns=part,
            objective=Objective(objective),
            world="true",
        )
        for part in (campaigns[:N_CAMPAIGNS], campaigns[N_CAMPAIGNS:])
    )
    lie = best_response(searched.payoffs, N_ROUNDS, SCALES)
    gain = fresh.payoffs(lie) - fresh.payoffs(TRUTH)
    return lie if gain.mean() > 2.0 * gain.std(ddof=1) / len(gain) ** 0.5 else TRUTH


def imagine_campaigns(peers: Sequence[Peer], audit_rate: float, rng: np.random.Generator) -> list[Campaign]:
    """Draw 2 ``N_CAMPAIGNS`` campaigns in which each labeler judges by its known taste, and outcomes follow the truth.

    Args:
        peers: the N labelers.
        audit_rate: chance that an outcome is revealed.
        rng: source of everything.
    """
    n_campaigns = 2 * N_CAMPAIGNS
    total = N_ROUNDS * n_campaigns
    nature, *seats = rng.spawn(1 + len(peers))
    truth = nature.normal(0.0, SPREAD, total)
    outcomes = (nature.random(total) < sigmoid(truth)).astype(np.float64)
    audited = nature.random(total) < audit_rate
    beliefs = np.empty((total, len(peers)))
    for column, (peer, seat) in enumerate(zip(peers, seats, strict=True)):
        own = peer.gold * truth + peer.other * seat.normal(0.0, SPREAD, total)
        beliefs[:, column] = calibrated_beliefs(own, peer.noise, seat)
    nothing = np.zeros(total)
    parts = (slice(k * N_ROUNDS, (k + 1) * N_ROUNDS) for k in range(n_campaigns))
    return [
        Campaign(outcomes[p], audited[p], nothing[p].astype(np.int64), beliefs[p], beliefs[p], nothing[p])
        for p in parts
    ]
