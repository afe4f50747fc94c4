"""Pairs and people as they come in: checked, then stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.log import Writing
from truthful_rlhf.pipeline.live.messages import Link
from truthful_rlhf.pipeline.live.secrets import KEY, Secrets, new_token
from truthful_rlhf.pipeline.live.settings import (
    DATABASE,
    SETTINGS,
    CampaignError,
    CampaignSettings,
    Person,
    check_people,
)
from truthful_rlhf.pipeline.live.store import PairRow

_PAIRS_PER_EVENT = 5_000


@contextmanager
def undone_if_it_fails(folder: Path) -> Iterator[None]:
    """Make the folder of a new campaign; if the block fails, remove what it has put there.

    Raises:
        CampaignError: there is a campaign, or what is left of one.
    """
    files = [SETTINGS, KEY, *(f"{DATABASE}{end}" for end in ("", "-wal", "-shm"))]
    if taken := [name for name in files if (folder / name).exists()]:
        raise CampaignError(f"{folder} has a {taken[0]} already: choose another folder, or remove this one")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except FileExistsError as error:  # another init was faster: what is there is its own
        raise CampaignError(f"{error.filename} is there already: choose another folder") from None
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise


def with_owner_and_expert(people: list[Person]) -> list[Person]:
    """Return the people, and an owner and an expert where nobody has that role."""
    roles = {person.role for person in people}
    return people + [Person(role, role) for role in ("expert", "owner") if role not in roles]


def checked_people(
    people: Sequence[Person | str], there: Mapping[str, str], settings: CampaignSettings
) -> list[Person]:
    """Return who comes, a name alone being a labeler or somebody who is there.

    Args:
        people: who comes, or wants a new link.
        there: name -> role of those who are there.
        settings: of the campaign.

    Raises:
        CampaignError: a name that is no name, one with another role, or more labelers than the steps are fixed for.
    """
    roles: dict[str, Any] = dict(there)
    persons = [Person(p, roles.get(p, "labeler")) if isinstance(p, str) else p for p in people]
    check_people(persons)
    for person in persons:
        if roles.setdefault(person.id, person.role) != person.role:
            raise CampaignError(f"{person.id!r} is there as {roles[person.id]}: nobody has two roles")
    n, most = sum(role == "labeler" for role in roles.values()), settings.max_labelers
    if n > most:
        raise CampaignError(f"{n} labelers, but the campaign's steps are fixed for {most} (--max-labelers at init)")
    return persons


def let_in(
    writing: Writing,
    people: Sequence[Person | str],
    there: Mapping[str, str],
    settings: CampaignSettings,
    secrets: Secrets,
) -> list[Link]:
    """Write people down, or that they have a new link; return the links, of which the store keeps hashes.

    Args:
        writing: the transaction.
        people: who comes, or wants a new link.
        there: name -> role of those who are there.
        settings: of the campaign.
        secrets: of the campaign.
    """
    links = []
    for person in checked_people(people, there, settings):
        links.append(Link(person, new_token()))
        writing.append("link_renewed" if person.id in there else "person_added", person.id, role=person.role)
        writing.store.set_token(writing.connection, person, secrets.token_hash(links[-1].token))
    return links


def pair_rows(
    pairs: Pairs, first: int, there: set[str], known: Mapping[str, float], settings: CampaignSettings
) -> list[PairRow]:
    """Return pairs as they are stored.

    Args:
        pairs: that come.
        first: position of the first of them.
        there: ids of the pairs that are there.
        known: pair id -> 1 (A better) or 0 (B better).
        settings: of the campaign.

    Raises:
        CampaignError: with the row of a pair that is there already or cannot be stored.
    """
    if not len(pairs):
        raise CampaignError("there are no pairs")
    if settings.per_topic and pairs.topic is None:
        raise CampaignError("weights per topic need a topic for every pair: --topic-column NAME")
    seen: dict[str, int] = {}
    rows = []
    columns = zip(pairs.pair_id, pairs.prompt, pairs.response_a, pairs.response_b, strict=True)
    for k, (name, prompt, response_a, response_b) in enumerate(columns):
        if name in there or name in seen:
            where = f"in row {seen[name]}" if name in seen else "in the campaign"
            raise CampaignError(f"row {k + 1}: pair {name!r} stands {where} already; nothing was added")
        topic = None if pairs.topic is None else pairs.topic[k]
        for text in (name, topic or "", prompt, response_a, response_b):
            if "\0" in text or not _is_unicode(text):
                raise CampaignError(f"row {k + 1}: pair {name!r} has a text that is not valid Unicode, or a zero byte")
        seen[name] = k + 1
        rows.append(PairRow(first + k, name, prompt, response_a, response_b, topic, known.get(name)))
    for name, outcome in known.items():
        if name not in seen:
            raise CampaignError(f"known outcomes: pair {name!r} is not among these{nearest(name, seen)}")
        if outcome not in (0.0, 1.0):
            raise CampaignError(f"known outcomes: pair {name!r}: {outcome!r} is neither 1 (A better) nor 0 (B better)")
    return rows


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def append_pairs(writing: Writing, rows: Sequence[PairRow]) -> None:
    """Write pairs and say so in the log, a few thousand at a time."""
    for first in range(0, len(rows), _PAIRS_PER_EVENT):
        part = rows[first : first + _PAIRS_PER_EVENT]
        writing.store.add_pairs(writing.connection, part)
        writing.append("pairs_added", first=part[0].position, count=len(part), sha256=pairs_digest(part))


def pairs_digest(rows: Sequence[PairRow]) -> str:
    """Return the SHA-256 of pairs, with their texts and known outcomes."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(json.dumps(row).encode() + b"\n")
    return whole.hexdigest()
