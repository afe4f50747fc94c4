"""The log read forward: what is true of pairs and labelers after each event.

`Book.apply` is the only place where events mean something. It is a function of the events alone, so any process that
reads the same log has the same book, and a process that falls behind catches up.

Two sets of reports are kept per pair. ``standing`` are all that were accepted: they close the pair and steer the
allocation. ``counted`` are those that the rule sees: from an expert's outcome on they no longer change, so that nobody
who has heard of it can profit. From outside the two cannot be told apart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from truthful_rlhf.pipeline.live.secrets import Secrets
from truthful_rlhf.pipeline.live.settings import CampaignSettings
from truthful_rlhf.pipeline.live.store import Event, PairHead


@dataclass(slots=True)
class PairEntry:
    """What is known of a pair."""

    position: int
    id: str
    topic: str | None
    audited: bool
    """Whether an expert is asked about it."""
    known: float | None
    """Its outcome, where it was known from the start."""
    standing: dict[int, float] = field(default_factory=dict)
    """Number of a labeler -> its accepted report, the probability that A is better."""
    counted: dict[int, float] = field(default_factory=dict)
    """The reports that the rule sees."""
    swapped: set[int] = field(default_factory=set)
    """Numbers of the labelers who saw B on the left."""
    held: dict[int, float] = field(default_factory=dict)
    """Number of a labeler -> since when it has been looking at the pair."""
    round: int | None = None
    """Number of the round that its closing was; None while it is open."""
    answered: bool = False
    """Whether an expert has answered, if only that it cannot tell."""
    outcome: float | None = None
    """1 A better, 0 B better, as the expert said."""
    outcome_after: int = 0
    """How many rounds had closed when the expert answered."""


@dataclass(slots=True)
class LabelerEntry:
    """What is known of a labeler."""

    number: int
    """Its column, in the order in which labelers joined."""
    id: str
    paused: bool = False
    current: int | None = None
    """Position of the pair that it has been given."""
    last: int | None = None
    """Position of the pair that it may still take back."""
    revising: int | None = None
    """Position of the pair that it has taken back and not answered again."""
    seen: set[int] = field(default_factory=set)
    """Positions of all pairs that it was ever given."""
    reports: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def task(self) -> int | None:
        """Position of the pair on its screen."""
        return self.current if self.revising is None else self.revising


class Book:
    """The state of a campaign after the last event that was applied."""

    def __init__(
        self, settings: CampaignSettings, secrets: Secrets, load_pairs: Callable[[int, int], Sequence[PairHead]]
    ) -> None:
        """Begin before the first event.

        Args:
            settings: of the campaign.
            secrets: of the campaign.
            load_pairs: from a position and a count to the stored pairs.
        """
        self.settings, self.secrets, self._load_pairs = settings, secrets, load_pairs
        self._usual, self._stop_at = settings.reports_per_pair, settings.stop_at
        self.last: tuple[int, str] = (0, "")
        """Number and hash of the last event."""
        self.changed = 0
        """Number of the last event that a state takes into account."""
        self.fixed: dict[str, object] = {}
        """The settings that the log remembers."""
        self.pairs: list[PairEntry] = []
        self.by_id: dict[str, PairEntry] = {}
        self.open: dict[int, None] = {}
        """Positions of the open pairs, in the order in which they came."""
        self.closed: list[int] = []
        """Positions of the closed pairs, in the order in which they closed."""
        self.unaudited: dict[int, None] = {}
        """Positions of the closed pairs that wait for an expert, in the order in which they closed."""
        self.labelers: list[LabelerEntry] = []
        self.by_name: dict[str, LabelerEntry] = {}
        self.people: dict[str, str] = {}
        """Name -> role."""
        self._handed_out: deque[tuple[float, int, int]] = deque()
        self.answers: dict[str, int] = {}
        """Expert -> pairs that it has answered."""
        self.shared = np.zeros((settings.max_labelers, settings.max_labelers), dtype=np.int64)
        """How many pairs two labelers have both judged."""
        self.reports = 0
        """Standing reports of all pairs."""
        self.counts: dict[str, int] = {}
        """Kind of event -> how many."""

    def apply(self, event: Event) -> None:
        """Take an event into account; unknown kinds count, and change nothing."""
        self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
        change = _CHANGES.get(event.kind)
        if change is not None:
            change(self, event)
        if event.kind not in _NO_CHANGE:
            self.changed = event.id
        self.last = (event.id, event.hash)

    def entry(self, event: Event) -> tuple[LabelerEntry, PairEntry]:
        """Return whom and what an event is about."""
        return self.by_name[str(event.person)], self.by_id[str(event.pair_id)]

    def let_go(self, before: float) -> None:
        """Count nobody any more who was given a pair before a time and has not answered."""
        while self._handed_out and self._handed_out[0][0] <= before:
            at, number, position = self._handed_out.popleft()
            if self.pairs[position].held.get(number) == at:
                del self.pairs[position].held[number]

    def share_of(self, labeler: LabelerEntry) -> int:
        """Return how many pairs a labeler will have judged if all work alike, at least what it has judged."""
        active = sum(not other.paused for other in self.labelers)
        share = math.ceil(len(self.pairs) * self.settings.reports_per_pair / max(1, active))
        return max(labeler.reports, min(share, len(self.pairs)))

    # ---- kinds of events

    def _created(self, event: Event) -> None:
        self.fixed = event.data["settings"]

    def _pairs_added(self, event: Event) -> None:
        rate = self.settings.audit_rate
        for row in self._load_pairs(event.data["first"], event.data["count"]):
            audited = row.known is None and self.secrets.is_audited(row.pair_id, rate)
            entry = PairEntry(row.position, row.pair_id, row.topic, audited, row.known)
            self.pairs.append(entry)
            self.by_id[entry.id] = entry
            self.open[entry.position] = None

    def _person_added(self, event: Event) -> None:
        name, role = str(event.person), event.data["role"]
        self.people[name] = role
        if role == "labeler":
            self.by_name[name] = entry = LabelerEntry(len(self.labelers), name)
            self.labelers.append(entry)

    def _paused(self, event: Event) -> None:
        labeler = self.by_name[str(event.person)]
        labeler.paused = event.kind == "paused"
        if labeler.paused and labeler.current is not None:
            self.pairs[labeler.current].held.pop(labeler.number, None)
            labeler.current = labeler.revising = None

    def _handed(self, event: Event) -> None:
        labeler, pair = self.entry(event)
        if labeler.current is not None:
            self.pairs[labeler.current].held.pop(labeler.number, None)
        labeler.current = pair.position
        labeler.seen.add(pair.position)
        pair.held[labeler.number] = event.at
        self._handed_out.append((event.at, labeler.number, pair.position))

    def _report(self, event: Event) -> None:
        labeler, pair = self.entry(event)
        report: float = event.data["report"]
        if labeler.number not in pair.standing:
            self._share(labeler, pair, 1)
            self.reports += 1
            labeler.reports += 1
        pair.standing[labeler.number] = report
        if not event.data["a_left"]:
            pair.swapped.add(labeler.number)
        if pair.outcome is None:
            pair.counted[labeler.number] = report
        labeler.seconds += event.data["seconds"]
        self._leave(labeler, pair)
        labeler.last = pair.position
        self._close_if_complete(pair)

    def _skip(self, event: Event) -> None:
        labeler, pair = self.entry(event)
        if labeler.number in pair.standing:  # taken back, and not answered again
            del pair.standing[labeler.number]
            self._share(labeler, pair, -1)
            self.reports -= 1
            labeler.reports -= 1
            if pair.outcome is None:
                pair.counted.pop(labeler.number)
        labeler.skipped += 1
        self._leave(labeler, pair)
        labeler.last = None
        self._close_if_complete(pair)

    def _undo(self, event: Event) -> None:
        labeler, pair = self.entry(event)
        labeler.revising = pair.position

    def _revision_refused(self, event: Event) -> None:
        labeler, _ = self.entry(event)
        labeler.revising = labeler.last = None

    def _outcome(self, event: Event) -> None:
        pair = self.by_id[str(event.pair_id)]
        pair.answered, pair.outcome, pair.outcome_after = True, event.data["outcome"], len(self.closed)
        self.unaudited.pop(pair.position, None)
        self.answers[str(event.person)] = self.answers.get(str(event.person), 0) + 1

    # ---- parts of them

    def _share(self, labeler: LabelerEntry, pair: PairEntry, by: int) -> None:
        others = [number for number in pair.standing if number != labeler.number]
        self.shared[labeler.number, others] += by
        self.shared[others, labeler.number] += by

    def _leave(self, labeler: LabelerEntry, pair: PairEntry) -> None:
        pair.held.pop(labeler.number, None)
        if labeler.current == pair.position:
            labeler.current = None
        labeler.revising = None

    def _close_if_complete(self, pair: PairEntry) -> None:
        """Close a pair that has its reports; neither audits nor outcomes can change that."""
        if pair.round is not None or len(pair.standing) < self.wanted(pair):
            return
        pair.round = len(self.closed)
        self.closed.append(pair.position)
        del self.open[pair.position]
        if pair.audited and not pair.answered:
            self.unaudited[pair.position] = None

    def wanted(self, pair: PairEntry) -> int:
        """Return how many reports close an open pair."""
        usual, stop_at = self._usual, self._stop_at
        if stop_at is None:
            return usual
        n = len(pair.standing)
        mean = sum(pair.standing.values()) / max(1, n)
        if n >= min(2, usual) and max(mean, 1.0 - mean) >= stop_at:
            return n
        return max(usual, min(n + 1, 2 * usual))


_NO_CHANGE = ("handed", "stated", "link_renewed")
_CHANGES: dict[str, Callable[[Book, Event], None]] = {
    "created": Book._created,
    "pairs_added": Book._pairs_added,
    "person_added": Book._person_added,
    "paused": Book._paused,
    "resumed": Book._paused,
    "handed": Book._handed,
    "report": Book._report,
    "skip": Book._skip,
    "undo": Book._undo,
    "revision_refused": Book._revision_refused,
    "outcome": Book._outcome,
}
