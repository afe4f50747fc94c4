"""The book as rounds, and the labels that they give: `label_campaign` on what was reported so far.

A round is a pair's closing. Rows are the closed pairs in the order in which they closed, and behind them the open pairs
that somebody has judged, whose outcomes are not used yet. Columns are the labelers in the order in which they joined,
and then ``max_labelers - N`` that nobody has taken: absent, so that whoever joins later changes no label that was
stated.

An expert's outcome arrives after as many rounds as had closed by then, at least its own, and moves the weights from
there on. An outcome that was known from the start arrives with its round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.labelers.recorded.texts import PairTexts
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, CampaignResult, LiveRounds, run_campaign
from truthful_rlhf.pipeline.live.book import Book, PairEntry
from truthful_rlhf.pipeline.live.settings import CampaignSettings

_STOP_AT_NOTE = (
    "stop_at {}: pairs closed when their reports looked certain, so that a report could decide whether others were"
    " asked for: what is said of the expected next weight does not hold for this campaign"
)


@dataclass(frozen=True)
class LabelerRow:
    """A labeler in figures; its weight stands in the result."""

    id: str
    paused: bool
    reports: int
    skipped: int
    seconds: float
    """What its reports took, together."""


@dataclass(frozen=True)
class Counts:
    """A campaign in figures."""

    pairs: int
    closed: int
    reports: int
    """Standing reports; a report that was replaced or taken back is not among them."""
    reports_wanted: int
    """Reports with which every pair would be closed, where ``stop_at`` is not used."""
    skipped: int
    audited: int
    """Pairs about which an expert is asked."""
    answered: int
    """Of these, answered, if only that the expert cannot tell."""
    waiting: int
    """Of these, closed and not answered."""
    known: int
    """Pairs whose outcome was known from the start."""


@dataclass(frozen=True)
class State:
    """A campaign after one event: a function of the log."""

    event: int
    """Number of the last event that it takes into account."""
    settings: CampaignSettings
    counts: Counts
    labelers: tuple[LabelerRow, ...]
    """In the order in which they joined, as the columns of ``result.weights``."""
    positions: IntArray
    """Position of each round's pair, shape ``(T,)``: the closed ones first, ``counts.closed`` of them."""
    rounds: Annotations
    """Reports, outcomes and topics of the T rounds."""
    live: LiveRounds

    @cached_property
    def result(self) -> CampaignResult | None:
        """Labels, weights and their history by round, as ``aggregate`` knows them; None before the first report."""
        return run_campaign(self.rounds, self.aggregation, self.live) if len(self.rounds.report) else None

    @property
    def aggregation(self) -> AggregationSettings:
        """How the rounds are aggregated."""
        s = self.settings
        return AggregationSettings(s.rule, s.labels, 1.0, s.options, s.per_topic)

    @property
    def weights(self) -> dict[str, float]:
        """Labeler -> its weight now, the share among those who have joined."""
        names = self.rounds.labeler_ids
        if self.result is None:
            return dict.fromkeys(names, 1.0 / max(1, len(names)))
        return dict(zip(names, self.result.weights.tolist(), strict=True))


def state_of(book: Book, secret: bytes) -> State:
    """Return a book as rounds, without texts; nothing is aggregated before it is asked for.

    Args:
        book: of the campaign.
        secret: of rules that draw their labels.
    """
    entries = _rows(book)
    start = np.cumsum([0, *(len(pair.counted) for pair in entries)])
    positions = np.array([pair.position for pair in entries], dtype=np.int64)
    texts = PairTexts()
    texts.blank(len(entries))
    topics = [pair.topic for pair in entries]
    flat = [(number, report, number in pair.swapped) for pair in entries for number, report in pair.counted.items()]
    outcome = np.array([_outcome(pair) for pair in entries], dtype=np.float64)
    rounds = Annotations(
        source="campaign",
        format="live",
        pair_ids=[pair.id for pair in entries],
        labeler_ids=[labeler.id for labeler in book.labelers],
        start=start,
        labeler=np.array([number for number, _, _ in flat], dtype=np.int64),
        report=np.array([report for _, report, _ in flat], dtype=np.float64),
        swapped=np.array([swapped for _, _, swapped in flat], dtype=bool),
        outcome=outcome,
        audit_design=None,  # every pair was drawn with the same chance
        topic=None if any(topic is None for topic in topics) else [str(topic) for topic in topics],
        texts=texts.close(),
        has_texts=False,
        text_row=np.arange(len(entries)),
        reading=_reading(book, len(entries), len(flat), int((~np.isnan(outcome)).sum())),
    )
    live = LiveRounds(_arrivals(entries), book.settings.max_labelers, secret)
    return State(book.changed, book.settings, _counts(book), _labelers(book), positions, rounds, live)


def _rows(book: Book) -> list[PairEntry]:
    closed = [book.pairs[position] for position in book.closed]
    return closed + [pair for pair in map(book.pairs.__getitem__, book.open) if pair.counted]


def _outcome(pair: PairEntry) -> float:
    """Return the outcome that may be used: none before the pair has closed."""
    found = pair.known if pair.known is not None else pair.outcome
    return np.nan if pair.round is None or found is None else found


def _arrivals(entries: Sequence[PairEntry]) -> IntArray:
    """Return after how many rounds each outcome arrived, at least its own, shape ``(T,)``."""
    return np.array([max(t + 1, pair.outcome_after) for t, pair in enumerate(entries)], dtype=np.int64)


def _labelers(book: Book) -> tuple[LabelerRow, ...]:
    return tuple(LabelerRow(e.id, e.paused, e.reports, e.skipped, e.seconds) for e in book.labelers)


def _counts(book: Book) -> Counts:
    audited = [pair for pair in book.pairs if pair.audited]
    return Counts(
        pairs=len(book.pairs),
        closed=len(book.closed),
        reports=book.reports,
        reports_wanted=len(book.pairs) * book.settings.reports_per_pair,
        skipped=sum(labeler.skipped for labeler in book.labelers),
        audited=len(audited),
        answered=sum(pair.answered for pair in audited),
        waiting=len(book.unaudited),
        known=sum(pair.known is not None for pair in book.pairs),
    )


def _reading(book: Book, pairs: int, reports: int, outcomes: int) -> Reading:
    return Reading(
        source="campaign",
        format="live",
        pairs=pairs,
        labelers=len(book.labelers),
        rows=book.counts.get("report", 0),
        reports=reports,
        abstained=sum(labeler.skipped for labeler in book.labelers),
        swapped=0,
        replaced=max(0, book.counts.get("report", 0) - book.reports),
        averaged=0,
        left_out=0,
        outcomes=outcomes,
        values=(),
        notes=() if book.settings.stop_at is None else (_STOP_AT_NOTE.format(book.settings.stop_at),),
        example="",
        ignored_columns=(),
    )


def digest(result: CampaignResult | None) -> str:
    """Return the SHA-256 of labels and weights, to the bit."""
    whole = hashlib.sha256()
    parts: list[FloatArray] = [] if result is None else [result.soft_labels, result.stated, result.weights]
    for part in parts:
        whole.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
    return whole.hexdigest()
