"""Campaigns to try things on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def judge_all(campaign: Campaign, people: Sequence[str], most: int = 10**9, seed: int = 0) -> int:
    """Have people judge in turns until there is nothing left, or ``most`` reports; return how many came."""
    rng = np.random.default_rng(seed)
    n, idle = 0, 0
    while idle < len(people) and n < most:
        for name in people:
            task = campaign.next_task(name)
            idle = idle + 1 if task is None else 0
            if task is not None and n < most:
                n += 1
                value = float(rng.integers(0, 101)) / 100
                assert campaign.report(name, task.pair_id, value, 2.0, f"judge_all {seed} {n}").accepted
    return n


def audit_all(campaign: Campaign, seed: int = 0) -> int:
    """Have the expert answer whatever waits; return how many it was."""
    rng = np.random.default_rng(seed)
    n = 0
    while (task := campaign.next_audit("expert")) is not None:
        n += 1
        assert campaign.outcome("expert", task.pair_id, bool(rng.random() < 0.5), f"audit_all {seed} {n}").accepted
    return n
