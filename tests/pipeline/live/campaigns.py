"""Campaigns to try things on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignSettings, Person

PEOPLE = ("ann", "bob", "cem", "dee")


def made_up_pairs(n: int, first: int = 0, topics: int = 0) -> Pairs:
    numbers = range(first, first + n)
    topic = [f"topic {k % topics}" for k in numbers] if topics else None
    return Pairs(
        [f"p{k}" for k in numbers],
        [f"prompt {k}" for k in numbers],
        [f"first of {k}" for k in numbers],
        [f"second of {k}" for k in numbers],
        topic=topic,
    )


def new_campaign(
    folder: Path,
    n_pairs: int = 12,
    people: Sequence[Person | str] = PEOPLE,
    known: Mapping[str, float] | None = None,
    topics: int = 0,
    **settings: Any,
) -> Campaign:
    given = {"max_labelers": 6, "audit_rate": 0.5, **settings}
    pairs = made_up_pairs(n_pairs, topics=topics)
    return Campaign.create(folder, pairs, people, CampaignSettings.model_validate(given), known)


def a_better(campaign: Campaign, person: str, pair_id: str, report: float) -> float:
    """Return what to say on one's own sides so that the report is this probability that A is better."""
    return report if campaign.secrets.a_is_left(person, pair_id) else 1.0 - report
