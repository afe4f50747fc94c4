"""What goes to people and what comes from them."""

from __future__ import annotations

import json
from typing import NamedTuple

from truthful_rlhf.pipeline.live.settings import CampaignError, Person

_LONGEST_KEY = 200
_LONGEST_TASK_SECONDS = 3600.0
"""What a report may say it took: somebody who leaves the page open was not working."""


class Task(NamedTuple):
    """A pair on somebody's screen; the sides are already swapped."""

    pair_id: str
    prompt: str
    left: str
    right: str
    topic: str | None
    done: int
    """How many this person has answered."""
    total: int
    """How many will be about this person's share."""


class Receipt(NamedTuple):
    """What became of a request; a request that is sent twice gets the same one."""

    accepted: bool
    reason: str | None = None
    """Why not: ``closed``, ``answered``, ``not yours`` or ``paused``."""


class Link(NamedTuple):
    """Somebody's way in; whoever has the token is that person."""

    person: Person
    token: str

    def url(self, base: str) -> str:
        """Return the address to send to the person, such as ``http://localhost:8000/join/...``."""
        return f"{base.rstrip('/')}/join/{self.token}"


class Progress(NamedTuple):
    """How far a labeler is."""

    done: int
    total: int
    seconds: float
    """What its reports took, together."""
    can_undo: bool
    """Whether it has a report that it may take back."""


def stored_key(person: str, key: str) -> str:
    """Return a request's key as it is stored: nobody can take another's."""
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
        raise CampaignError(f"a request needs a key of 1 to {_LONGEST_KEY} printable characters, got {key!r:.80}")
    return json.dumps([person, key])


def checked_report(value: float) -> float:
    """Return a report, or raise `CampaignError` if it is no probability."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise CampaignError(f"a report is a probability in [0, 1], got {value!r:.80}")
    return float(value)


def checked_seconds(value: float) -> float:
    """Return what a report took, at most an hour, or raise `CampaignError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0.0:
        raise CampaignError(f"seconds must be a number >= 0, got {value!r:.80}")
    return min(float(value), _LONGEST_TASK_SECONDS)
