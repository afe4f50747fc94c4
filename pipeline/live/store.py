"""The log, the pairs and the people: SQLAlchemy Core on SQLite or PostgreSQL.

``events`` is only ever appended to, by transactions that hold the database's one write lock. So numbers have no gaps
and their order is the order in which things happened, for any number of threads, processes and machines. A transaction
that has returned is on the disk: SQLite runs in WAL mode with ``synchronous=FULL``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from truthful_rlhf.pipeline.live.secrets import Secrets
from truthful_rlhf.pipeline.live.settings import CampaignError, Person

_BUSY_SECONDS = 30.0
"""How long a writer waits for the others."""

_METADATA = sa.MetaData()
EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("person", sa.Text),
    sa.Column("pair_id", sa.Text),
    sa.Column("key", sa.Text, unique=True),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
PAIRS = sa.Table(
    "pairs",
    _METADATA,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("pair_id", sa.Text, unique=True, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("response_a", sa.Text, nullable=False),
    sa.Column("response_b", sa.Text, nullable=False),
    sa.Column("topic", sa.Text),
    sa.Column("known", sa.Double),
)
PEOPLE = sa.Table(
    "people",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("token_hash", sa.Text, unique=True, nullable=False),
)


class StoreError(RuntimeError):
    """The database cannot be read or written just now; nothing that was acknowledged is lost."""


class Event(NamedTuple):
    """A line of the log."""

    id: int
    """1, 2, ... without gaps."""
    at: float
    """Seconds since 1970, UTC."""
    kind: str
    person: str | None
    pair_id: str | None
    key: str | None
    """Of the request, each its own: a request that is sent twice is written once."""
    data: dict[str, Any]
    hash: str
    """HMAC of the event and of the hash before it."""

    def text(self) -> str:
        """Return what is hashed."""
        return json.dumps(self[:-1], separators=(",", ":"), sort_keys=True, allow_nan=False)


class PairHead(NamedTuple):
    """A pair without its texts."""

    position: int
    pair_id: str
    topic: str | None
    known: float | None


class PairRow(NamedTuple):
    """A pair as it is stored."""

    position: int
    pair_id: str
    prompt: str
    response_a: str
    response_b: str
    topic: str | None
    known: float | None
    """Its outcome, where it was known from the start: 1 A better, 0 B better."""


class Store:
    """One campaign's tables in one database."""

    def __init__(self, url: str, secrets: Secrets) -> None:
        """Open a database; nothing is written."""
        self._secrets = secrets
        try:
            parsed = sa.make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            arguments: dict[str, Any] = {"timeout": _BUSY_SECONDS} if self.is_sqlite else {}
            self.engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=not self.is_sqlite)
        except (SQLAlchemyError, ModuleNotFoundError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != "psycopg":
                raise CampaignError(f"the database's URL needs {error.name}, which is not installed") from error
            if isinstance(error, SQLAlchemyError):
                raise CampaignError(f"the database's URL is not understood: {error}") from error
            raise
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
        sa.event.listen(self.engine, "begin", self._begin)

    def _begin(self, connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        if self.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
        elif writing:
            connection.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Make the tables, and take them away again if the block fails.

        Raises:
            CampaignError: the database has a campaign already.
        """
        with _explained(), self.engine.connect() as connection:
            if sa.inspect(connection).has_table("events"):
                shown = self.engine.url.render_as_string(hide_password=True)
                raise CampaignError(f"{shown} has a campaign already; give every campaign a database of its own")
            _METADATA.create_all(connection)
            connection.commit()
        try:
            yield
        except BaseException:
            with self.engine.begin() as connection:
                _METADATA.drop_all(connection)
            raise

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a transaction that sees one state of the log, or raise `StoreError`."""
        with _explained(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give the transaction that may write; when the block has ended it is on the disk, or `StoreError` raised."""
        with _explained(), self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            yield connection

    # ---- events

    def events_after(self, connection: sa.Connection, last: int) -> list[Event]:
        """Return the events behind number ``last``, in their order."""
        return [_event(row) for row in connection.execute(_EVENTS_AFTER, {"last": last})]

    def event_of_key(self, connection: sa.Connection, key: str) -> Event | None:
        """Return the event that a request has written, if it has come before."""
        row = connection.execute(_EVENT_OF_KEY, {"wanted": key}).first()
        return None if row is None else _event(row)

    def append(self, connection: sa.Connection, after: tuple[int, str], event: Event) -> Event:
        """Write an event behind the last one; return it with its number and its hash.

        Args:
            connection: of ``writing``.
            after: number and hash of the last event.
            event: what happened; its own number and hash are not read.
        """
        numbered = event._replace(id=after[0] + 1)
        chained = numbered._replace(hash=self._secrets.chained(after[1], numbered.text()))
        values = chained._asdict() | {"data": json.dumps(chained.data, separators=(",", ":"), sort_keys=True)}
        connection.execute(_APPEND, values)
        return chained

    # ---- pairs

    def add_pairs(self, connection: sa.Connection, rows: Sequence[PairRow]) -> None:
        """Write pairs behind those that are there."""
        connection.execute(sa.insert(PAIRS), [row._asdict() for row in rows])

    def pairs(self, connection: sa.Connection, first: int, count: int) -> list[PairRow]:
        """Return the pairs of some positions, in their order.

        Args:
            connection: of a transaction.
            first: position, from 0.
            count: how many.
        """
        wanted = sa.select(PAIRS).where(PAIRS.c.position >= first, PAIRS.c.position < first + count)
        return [PairRow(*row) for row in connection.execute(wanted.order_by(PAIRS.c.position))]

    def heads(self, first: int, count: int) -> list[PairHead]:
        """Return the same without texts, read by itself.

        Args:
            first: position, from 0.
            count: how many.
        """
        columns = sa.select(PAIRS.c.position, PAIRS.c.pair_id, PAIRS.c.topic, PAIRS.c.known)
        wanted = columns.where(PAIRS.c.position >= first, PAIRS.c.position < first + count)
        with self.reading() as connection:
            return [PairHead(*row) for row in connection.execute(wanted.order_by(PAIRS.c.position))]

    def pair(self, connection: sa.Connection, position: int) -> PairRow:
        """Return one pair."""
        return PairRow(*connection.execute(_PAIR, {"wanted": position}).one())

    # ---- people

    def set_token(self, connection: sa.Connection, person: Person, token_hash: str) -> None:
        """Write somebody down, with a new token in place of an older one.

        Args:
            connection: of ``writing``.
            person: who.
            token_hash: of the token, from `Secrets.token_hash`.
        """
        connection.execute(sa.delete(PEOPLE).where(PEOPLE.c.id == person.id))
        connection.execute(sa.insert(PEOPLE), {"id": person.id, "role": person.role, "token_hash": token_hash})

    def person_of(self, connection: sa.Connection, token_hash: str) -> Person | None:
        """Return whose token it is."""
        row = connection.execute(_PERSON, {"wanted": token_hash}).first()
        return None if row is None else Person(*row)


_EVENTS_AFTER = sa.select(EVENTS).where(EVENTS.c.id > sa.bindparam("last")).order_by(EVENTS.c.id)
_EVENT_OF_KEY = sa.select(EVENTS).where(EVENTS.c.key == sa.bindparam("wanted"))
_APPEND = sa.insert(EVENTS)
_PAIR = sa.select(PAIRS).where(PAIRS.c.position == sa.bindparam("wanted"))
_PERSON = sa.select(PEOPLE.c.id, PEOPLE.c.role).where(PEOPLE.c.token_hash == sa.bindparam("wanted"))


def _event(row: Any) -> Event:
    number, at, kind, person, pair_id, key, data, digest = row
    return Event(number, at, kind, person, pair_id, key, json.loads(data), digest)


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where this module says
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(
            f"the campaign's database cannot be used: {cause}; nothing that was acknowledged is lost. Free space on"
            " its disk, or start the database again"
        ) from error
