"""Everything of a campaign as files: those of ``aggregate``, and the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.labelers.recorded.texts import PairTexts
from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult
from truthful_rlhf.pipeline.aggregate.job import aggregate_into
from truthful_rlhf.pipeline.aggregate.measures import Analysis
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.rounds import State
from truthful_rlhf.pipeline.live.settings import CampaignError
from truthful_rlhf.pipeline.live.store import Event
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically

LOG = "log.jsonl"


def export_campaign(
    campaign: Campaign, out: Path, copies: int = 0, on_step: Callable[[str], None] = lambda step: None
) -> tuple[CampaignResult, Analysis]:
    """Write what ``aggregate`` writes, and ``log.jsonl``; the campaign goes on meanwhile.

    Closed pairs are the rounds, in the order in which they closed; behind them stand the open pairs that somebody has
    judged. The log has everything: outcomes, and who said what. It is for the owner alone.

    Args:
        campaign: what is exported.
        out: folder; files of an earlier export are replaced one by one, each at once.
        copies: per pair in the data sets for trainers without soft labels; 0 writes none of them.
        on_step: told what comes next.

    Raises:
        CampaignError: nobody has reported anything yet.
    """
    on_step("reading the log")
    state = campaign.set_down()
    if state.result is None:
        raise CampaignError(f"{campaign.folder}: nobody has reported anything yet, there is nothing to export")
    log = out / LOG
    with campaign.store.reading() as connection:
        events = campaign.store.events_after(connection, 0)
    write_text_atomically(log, "".join(as_line(event) for event in events))
    rounds = replace(state.rounds, texts=_texts(campaign, state), has_texts=True)
    return aggregate_into(out, rounds, state.aggregation, log, {}, on_step, copies, state.live)


def as_line(event: Event) -> str:
    """Return an event as a line of JSON."""
    return json.dumps(event._asdict(), allow_nan=False) + "\n"


def from_line(line: str) -> Event:
    """Return the event of a line; ``ValueError`` or ``TypeError`` if it is none."""
    fields: dict[str, Any] = json.loads(line)
    return Event(**fields)


def _texts(campaign: Campaign, state: State) -> PairTexts:
    """Return the texts of the rounds, in their order."""
    with campaign.store.reading() as connection:
        rows = campaign.store.pairs(connection, 0, int(np.max(state.positions)) + 1)
    texts = PairTexts()
    for position in state.positions.tolist():
        texts.append(rows[position].prompt, rows[position].response_a, rows[position].response_b)
    return texts.close()
