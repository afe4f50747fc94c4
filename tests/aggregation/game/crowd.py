"""Small crowds as arrays for the tests of the game: who they are is three numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs, with_bias
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign, draw_nature
from truthful_rlhf.aggregation.game.misreport import Misreport


@dataclass(frozen=True)
class Judge:
    """One labeler: how well it sees, what it favours, and what it does with its belief."""

    noise: float = 1.0
    bias: float = 0.0
    misreport: Misreport = TRUTH


def drawn(
    judges: Sequence[Judge], n_rounds: int, n_campaigns: int, seed: int = 0, audit_rate: float = 1.0
) -> list[Campaign]:
    """Return campaigns that these labelers judge."""
    first, *streams = np.random.default_rng(seed).spawn(1 + len(judges))
    nature = draw_nature(n_rounds * n_campaigns, first, audit_rate=audit_rate)
    posteriors = np.column_stack(
        [
            calibrated_beliefs(nature.log_odds, judge.noise, stream)
            for judge, stream in zip(judges, streams, strict=True)
        ]
    )
    beliefs = np.column_stack([with_bias(posteriors[:, k], judge.bias) for k, judge in enumerate(judges)])
    campaigns = nature.campaigns(n_rounds, beliefs, beliefs.copy(), posteriors)
    for campaign in campaigns:
        for k, judge in enumerate(judges):
            campaign.reports[:, k] = judge.misreport(campaign.beliefs[:, k])
    return campaigns
