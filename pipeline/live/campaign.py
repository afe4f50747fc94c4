"""A live campaign: what the server, the command line and Python call.

    campaign = Campaign.create(folder, pairs, people, CampaignSettings())
    links = campaign.links                       # shown once: only hashes of the tokens are kept
    task = campaign.next_task("ann")
    campaign.report("ann", task.pair_id, 0.8, seconds=12.0, key="a fresh one per click")
    campaign.state().result.soft_labels

Every method may be called by several threads and processes at once. A method that has returned has written: what a
receipt says is on the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.allocation import may_keep, next_pair
from truthful_rlhf.pipeline.live.book import LabelerEntry, PairEntry
from truthful_rlhf.pipeline.live.intake import (
    append_pairs,
    checked_people,
    let_in,
    pair_rows,
    undone_if_it_fails,
    with_owner_and_expert,
)
from truthful_rlhf.pipeline.live.log import Log, Writing
from truthful_rlhf.pipeline.live.messages import (
    Link,
    Progress,
    Receipt,
    Task,
    checked_report,
    checked_seconds,
    stored_key,
)
from truthful_rlhf.pipeline.live.rounds import State, digest, state_of
from truthful_rlhf.pipeline.live.secrets import Secrets
from truthful_rlhf.pipeline.live.settings import (
    SETTINGS,
    CampaignError,
    CampaignSettings,
    Person,
)
from truthful_rlhf.pipeline.live.store import Store

__all__ = ["Campaign", "CampaignError", "CampaignSettings", "Link", "Person", "Progress", "Receipt", "State", "Task"]


class Campaign:
    """One campaign, in a folder with its settings and its key, and a database with its log."""

    def __init__(self, folder: Path, settings: CampaignSettings, secrets: Secrets) -> None:
        """Take the parts of a campaign; use ``create`` or ``open``."""
        self.folder, self.settings, self.secrets = folder, settings, secrets
        self.store = Store(settings.database_url(folder), secrets)
        self.links: list[Link] = []
        """Of everybody, right after ``create``; they cannot be read again."""
        self._log = Log(self.store, settings, secrets)
        self._book = self._log.book
        self._state_lock = threading.Lock()
        self._state: State | None = None

    # ---- begin, open, close

    @classmethod
    def create(
        cls,
        folder: Path | str,
        pairs: Pairs,
        people: Sequence[Person | str],
        settings: CampaignSettings | None = None,
        known_outcomes: Mapping[str, float] | None = None,
    ) -> Campaign:
        """Begin a campaign; ``links`` of the result are everybody's, and nobody can read them again.

        Args:
            folder: where settings, key and (by default) the database go.
            pairs: what is judged.
            people: a name alone is a labeler. An owner and an expert are added where nobody has that role.
            settings: fixed from now on.
            known_outcomes: pair id -> 1 (A better) or 0 (B better): gold questions, whose answers are known.

        Raises:
            CampaignError: the folder or the database has a campaign already; a name or a pair that stands twice.
        """
        folder, settings = Path(folder), settings or CampaignSettings()
        persons = with_owner_and_expert(checked_people(people, {}, settings))
        rows = pair_rows(pairs, 0, set(), known_outcomes or {}, settings)
        with undone_if_it_fails(folder):
            campaign = cls(folder, settings, Secrets.create(folder))
            with campaign.store.creating():
                with campaign._log.writing() as writing:
                    writing.append("created", settings=settings.fixed(), version=1)
                    append_pairs(writing, rows)
                    campaign.links = let_in(writing, persons, {}, settings, campaign.secrets)
                settings.write(folder)
        return campaign

    @classmethod
    def open(cls, folder: Path | str) -> Campaign:
        """Open a campaign that was begun.

        Raises:
            CampaignError: there is none, or its settings are not those that it was begun with.
            StoreError: its database cannot be read.
        """
        folder = Path(folder)
        campaign = cls(folder, CampaignSettings.read(folder), Secrets.read(folder))
        with campaign._log.reading() as book:
            now, then = campaign.settings.fixed(), book.fixed
        if not then:
            raise CampaignError(f"{folder}: the database has no campaign in it; restore it from a copy")
        for name, value in now.items():
            if then.get(name, value) != value:
                raise CampaignError(
                    f"{folder / SETTINGS}: {name} is {value!r}, but the campaign was begun with {then[name]!r};"
                    " write that again, or begin another campaign"
                )
        return campaign

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    # ---- who

    def role(self, token: str) -> Person | None:
        """Return whose token it is, or None."""
        with self.store.reading() as connection:
            return self.store.person_of(connection, self.secrets.token_hash(token))

    def people(self) -> list[Person]:
        """Return everybody, in the order in which they joined."""
        with self._log.reading() as book:
            return [Person(name, role) for name, role in book.people.items()]  # type: ignore[arg-type]

    def invite(self, people: Sequence[Person | str]) -> list[Link]:
        """Let people join, and give those who are there a new link, which ends their old one; return the links.

        Labelers who join count as absent until now, so that no earlier label changes. The links cannot be read again.

        Args:
            people: a name alone is a labeler, or somebody who is there.

        Raises:
            CampaignError: a name that is no name or that has another role, or more labelers than the step schedule was
                fixed for.
        """
        with self._log.writing() as writing:
            return let_in(writing, people, self._book.people, self.settings, self.secrets)

    def pause(self, labeler: str, key: str, paused: bool = True) -> Receipt:
        """Give a labeler no more pairs, or pairs again; what it has reported stays.

        Args:
            labeler: its name.
            key: of the request.
            paused: False: go on.
        """
        with self._log.writing() as writing:
            if (again := writing.again(labeler, key)) is not None:
                return again
            self._labeler(labeler)
            writing.append("paused" if paused else "resumed", labeler, None, stored_key(labeler, key))
        return Receipt(True)

    # ---- labelers

    def next_task(self, labeler: str) -> Task | None:
        """Return the pair that a labeler judges next, the same until it is answered or skipped; None: none just now.

        Args:
            labeler: its name.
        """
        with self._log.reading():
            me, now = self._labeler(labeler), time.time()
            if me.paused:
                return None
            pair = self._on_screen(me, now)
            if pair is not None and (me.number in pair.held or me.revising == pair.position):
                return self._task(me, pair)  # it has it, and not for too long
        with self._log.writing() as writing:
            pair = self._on_screen(me, now)
            if pair is None:
                pair = next_pair(self._book, me, now)
            if pair is not None and not me.paused:
                writing.append("handed", me.id, pair.id)
        return None if pair is None or me.paused else self._task(me, pair)

    def report(self, labeler: str, pair_id: str, left_is_better: float, seconds: float, key: str) -> Receipt:
        """Write what a labeler believes.

        Args:
            labeler: its name.
            pair_id: of a pair that it was given.
            left_is_better: probability that the response on its left is better, in [0, 1].
            seconds: what it took, >= 0.
            key: of the request, up to 200 characters; the same key again returns the first receipt.

        Raises:
            CampaignError: a value out of range, or a labeler that does not exist.
        """
        value, taken = checked_report(left_is_better), checked_seconds(seconds)
        with self._log.writing() as writing:
            if (again := writing.again(labeler, key)) is not None:
                return again
            me, pair = self._labeler(labeler), self._book.by_id.get(pair_id)
            if pair is None:
                return Receipt(False, "not yours")
            a_left = self.secrets.a_is_left(labeler, pair_id)
            said = {"report": value if a_left else 1.0 - value, "a_left": a_left, "seconds": taken}
            reason = self._refusal(me, pair)
            if reason is not None:
                kind = "revision_refused" if me.revising == pair.position else "report_refused"
                writing.append(kind, labeler, pair_id, stored_key(labeler, key), reason=reason, **said)
                return Receipt(False, reason)
            writing.append("report", labeler, pair_id, stored_key(labeler, key), **said)
            self._hand_next(writing, me, pair)
        return Receipt(True)

    def skip(self, labeler: str, pair_id: str, key: str) -> Receipt:
        """Pass over the pair on a labeler's screen; one that it has taken back stays without its report.

        Args:
            labeler: its name.
            pair_id: of the pair on its screen.
            key: of the request.
        """
        with self._log.writing() as writing:
            if (again := writing.again(labeler, key)) is not None:
                return again
            me, pair = self._labeler(labeler), self._book.by_id.get(pair_id)
            if pair is None or me.task != pair.position:
                return Receipt(False, "not yours")
            if me.revising == pair.position and pair.round is not None:
                writing.append("revision_refused", labeler, pair_id, stored_key(labeler, key), reason="closed")
                return Receipt(False, "closed")
            writing.append("skip", labeler, pair_id, stored_key(labeler, key))
            self._hand_next(writing, me, pair)
        return Receipt(True)

    def undo(self, labeler: str) -> Task | None:
        """Take the last report back: its pair is on the screen again, and the report stands until it is replaced.

        Args:
            labeler: its name.

        Returns:
            The pair, or None where there is nothing to take back: the labeler has gone on, or the pair has closed.
        """
        with self._log.writing() as writing:
            me = self._labeler(labeler)
            if me.paused or (me.revising is None and me.last is None):
                return None
            pair = self._book.pairs[me.last if me.revising is None else me.revising]  # type: ignore[index]
            if pair.round is not None:
                writing.append("revision_refused", labeler, pair.id, reason="closed")
                return None
            if me.revising is None:
                writing.append("undo", labeler, pair.id)
        return self._task(me, pair)

    def progress(self, labeler: str) -> Progress:
        """Return how far a labeler is."""
        with self._log.reading():
            me = self._labeler(labeler)
            last = None if me.last is None else self._book.pairs[me.last]
            can_undo = not me.paused and me.revising is None and last is not None and last.round is None
            return Progress(me.reports, self._book.share_of(me), me.seconds, can_undo)

    # ---- experts

    def next_audit(self, expert: str) -> Task | None:
        """Return a pair that an expert should judge: drawn when it came, and closed; None: none just now.

        A pair is shown to experts when it has closed, because reports that come after an outcome do not count.

        Args:
            expert: the name.
        """
        with self._log.reading():
            self._check_role(expert, "expert")
            waiting = list(self._book.unaudited)
            done = self._book.answers.get(expert, 0)
            if not waiting:
                return None
            experts = [name for name, role in self._book.people.items() if role == "expert"]
            pair = self._book.pairs[waiting[experts.index(expert) % len(waiting)]]
        return self._shown(expert, pair, done, done + len(waiting))

    def outcome(self, expert: str, pair_id: str, left_is_better: bool | None, key: str) -> Receipt:
        """Write which response an expert found better.

        Args:
            expert: the name.
            pair_id: of an audited pair; it may be open, but later reports on it then do not count.
            left_is_better: on the sides as shown; None: cannot tell.
            key: of the request.
        """
        with self._log.writing() as writing:
            if (again := writing.again(expert, key)) is not None:
                return again
            self._check_role(expert, "expert")
            pair = self._book.by_id.get(pair_id)
            if pair is None or not pair.audited:
                return Receipt(False, "not yours")
            if pair.answered:
                return Receipt(False, "answered")
            a_left = self.secrets.a_is_left(expert, pair_id)
            outcome = None if left_is_better is None else float(bool(left_is_better) == a_left)
            writing.append("outcome", expert, pair_id, stored_key(expert, key), outcome=outcome, a_left=a_left)
        return Receipt(True)

    # ---- the owner

    def add_pairs(self, pairs: Pairs, known_outcomes: Mapping[str, float] | None = None) -> int:
        """Add pairs behind those that are there; return how many there are now.

        Args:
            pairs: their ids are new.
            known_outcomes: pair id -> 1 or 0, of the new pairs.

        Raises:
            CampaignError: naming the row of a pair that is there already.
        """
        with self._log.writing() as writing:
            book = self._book
            rows = pair_rows(pairs, len(book.pairs), set(book.by_id), known_outcomes or {}, self.settings)
            append_pairs(writing, rows)
        return len(self._book.pairs)

    def state(self) -> State:
        """Return what the log says now; labels and weights are computed when they are first asked for."""
        with self._state_lock, self._log.reading() as book:
            if self._state is None or self._state.event != book.changed:
                self._state = state_of(book, self.secrets.label_secret())
            return self._state

    def set_down(self) -> State:
        """Write into the log what labels and weights are now, so that `verify` can compare; return the state."""
        state = self.state()
        found = digest(state.result)
        with self._log.writing() as writing:
            writing.append("stated", after=state.event, sha256=found)
        return state

    # ---- parts of the above

    def _labeler(self, name: str) -> LabelerEntry:
        self._check_role(name, "labeler")
        return self._book.by_name[name]

    def _check_role(self, name: str, role: str) -> None:
        if self._book.people.get(name) != role:
            raise CampaignError(f"there is no {role} called {name!r}")

    def _refusal(self, me: LabelerEntry, pair: PairEntry) -> str | None:
        if me.paused:
            return "paused"
        if pair.position not in me.seen:
            return "not yours"
        if me.number in pair.standing and me.revising != pair.position:
            return "answered"
        return None if pair.round is None else "closed"

    def _on_screen(self, me: LabelerEntry, now: float) -> PairEntry | None:
        """Return the pair that a labeler has before it, if its judgment would still count."""
        if me.revising is not None and self._book.pairs[me.revising].round is None:
            return self._book.pairs[me.revising]
        if me.current is None or not may_keep(self._book, me, self._book.pairs[me.current], now):
            return None
        return self._book.pairs[me.current]

    def _hand_next(self, writing: Writing, me: LabelerEntry, left: PairEntry) -> None:
        """Give a labeler its next pair in the transaction in which it leaves one, unless it has one before it."""
        if me.current in (None, left.position):
            pair = next_pair(self._book, me, time.time())
            if pair is not None:
                writing.append("handed", me.id, pair.id)

    def _task(self, me: LabelerEntry, pair: PairEntry) -> Task:
        return self._shown(me.id, pair, me.reports, self._book.share_of(me))

    def _shown(self, person: str, pair: PairEntry, done: int, total: int) -> Task:
        with self.store.reading() as connection:
            row = self.store.pair(connection, pair.position)
        sides = (row.response_a, row.response_b)
        left, right = sides if self.secrets.a_is_left(person, pair.id) else sides[::-1]
        return Task(pair.id, row.prompt, left, right, row.topic, done, total)
