"""Is the log whole, and does it give what was stated? Everything is read and computed again.

Every event carries an HMAC of itself and of the one before it, under the campaign's key. So an event that was changed,
removed, added or moved is noticed, also by somebody who can write to the database, as long as the key is not known.
That the *end* of a log was cut off shows only in a copy that lies elsewhere: the ``log.jsonl`` of an export.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from truthful_rlhf.pipeline.live.book import Book
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.export import from_line
from truthful_rlhf.pipeline.live.intake import pairs_digest
from truthful_rlhf.pipeline.live.rounds import digest, state_of
from truthful_rlhf.pipeline.live.settings import CampaignError
from truthful_rlhf.pipeline.live.store import Event


@dataclass(frozen=True)
class Verification:
    """What came of it."""

    events: int
    """That were read, up to the first that is not right."""
    last_hash: str
    stated: int
    """How often labels and weights were computed again and found to be what had been stated, to the bit."""
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_campaign(campaign: Campaign, copy: Path | None = None) -> Verification:
    """Read the log from its beginning and compare.

    Args:
        campaign: which; it may go on meanwhile.
        copy: a ``log.jsonl`` of an earlier export, which must be how the log begins.
    """
    with campaign.store.reading() as connection:
        events = campaign.store.events_after(connection, 0)
    problems: list[str] = []
    book = Book(campaign.settings, campaign.secrets, campaign.store.heads)
    stated = {e.data["after"]: e.data["sha256"] for e in events if e.kind == "stated" and "after" in e.data}
    found = 0
    for event in events:
        if (problem := _problem(campaign, book.last, event)) is not None:
            problems.append(problem)
            break
        book.apply(event)
        if event.id in stated:
            found += 1
            if digest(state_of(book, campaign.secrets.label_secret()).result) != stated[event.id]:
                problems.append(f"event {event.id}: labels and weights are not those that were stated after it")
    else:
        state = campaign.state()
        if state.event == book.changed:  # nobody has written meanwhile
            again = digest(state_of(book, campaign.secrets.label_secret()).result)
            found += again == digest(state.result)
            if again != digest(state.result):
                problems.append("labels and weights read again are not those of the running campaign")
    if copy is not None:
        problems += _compared(events, copy)
    return Verification(*book.last, found, tuple(problems))


def _problem(campaign: Campaign, last: tuple[int, str], event: Event) -> str | None:
    """Return what is wrong with the next event, if anything is."""
    number, previous = last
    if event.id != number + 1:
        return f"event {number + 1} is missing"
    if campaign.secrets.chained(previous, event.text()) != event.hash:
        return f"event {event.id} ({event.kind}) was changed, or what came before it"
    if event.kind == "pairs_added":
        with campaign.store.reading() as connection:
            rows = campaign.store.pairs(connection, event.data["first"], event.data["count"])
        if pairs_digest(rows) != event.data["sha256"]:
            return f"event {event.id}: the pairs that it added were changed"
    return None


def _compared(events: list[Event], copy: Path) -> list[str]:
    """Return where a log differs from an earlier copy of it."""
    with copy.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                then = from_line(line)
            except (ValueError, TypeError):
                raise CampaignError(f"{copy}: line {number} is no event; give a log.jsonl of campaign export") from None
            if number > len(events):
                return [f"event {number} of {copy} is missing: the end of the log was cut off"]
            if then != events[number - 1]:
                return [f"event {number} is not that of {copy}"]
    return []
