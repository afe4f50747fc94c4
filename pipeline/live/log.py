"""The log and the book of a campaign in one process: catch up, then write, one transaction at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from truthful_rlhf.pipeline.live.book import Book
from truthful_rlhf.pipeline.live.messages import Receipt, stored_key
from truthful_rlhf.pipeline.live.secrets import Secrets
from truthful_rlhf.pipeline.live.settings import CampaignSettings
from truthful_rlhf.pipeline.live.store import Event, Store


class Writing:
    """One transaction: events are numbered as they come, and taken into account when it is on the disk."""

    def __init__(self, store: Store, connection: Any, last: tuple[int, str]) -> None:
        self.store, self.connection, self.last = store, connection, last
        self.written: list[Event] = []

    def append(
        self, kind: str, person: str | None = None, pair: str | None = None, key: str | None = None, **data: Any
    ) -> None:
        """Write an event behind the last one.

        Args:
            kind: of the event.
            person: whom it is about.
            pair: id of the pair that it is about.
            key: of the request, as it is stored.
            **data: the rest, JSON-able.
        """
        event = Event(0, time.time(), kind, person, pair, key, data, "")
        event = self.store.append(self.connection, self.last, event)
        self.last = (event.id, event.hash)
        self.written.append(event)

    def again(self, person: str, key: str) -> Receipt | None:
        """Return the receipt of a request that came before.

        Args:
            person: whose request it is.
            key: of the request.
        """
        event = self.store.event_of_key(self.connection, stored_key(person, key))
        if event is None:
            return None
        return Receipt(False, event.data["reason"]) if event.kind.endswith("_refused") else Receipt(True)


class Log:
    """What has happened, and the book that follows from it; several threads may use it."""

    def __init__(self, store: Store, settings: CampaignSettings, secrets: Secrets) -> None:
        """Begin before the first event.

        Args:
            store: of the campaign.
            settings: of the campaign.
            secrets: of the campaign.
        """
        self.store = store
        self.book = Book(settings, secrets, store.heads)
        self.lock = threading.RLock()
        """Held while the book is looked at or changed."""

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Give the one transaction that may write, after everything that others have written."""
        with self.lock:
            with self.store.writing() as connection:
                self._catch_up(connection)
                writing = Writing(self.store, connection, self.book.last)
                yield writing
            for event in writing.written:  # on the disk now
                self.book.apply(event)

    @contextmanager
    def reading(self) -> Iterator[Book]:
        """Give the book as it is now, and keep it so."""
        with self.lock:
            with self.store.reading() as connection:
                self._catch_up(connection)
            yield self.book

    def _catch_up(self, connection: Any) -> None:
        for event in self.store.events_after(connection, self.book.last[0]):
            self.book.apply(event)
