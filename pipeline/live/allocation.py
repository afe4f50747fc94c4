"""Which pair a labeler gets next.

Among the oldest pairs that still want reports: those with the fewest first, and among these the one whose labelers have
shared the fewest pairs with this one, so that every two labelers come to share some. Only a window of pairs is looked
at, in the order in which pairs came: otherwise every pair would get its first report before any could close, and no
weight could learn until late.

A pair that somebody is looking at counts as if it had that report, for a while, so that a crowd does not get the same
pair. Nothing here depends on audits, outcomes, weights, or on what anybody reported.
"""

from __future__ import annotations

from itertools import islice

from truthful_rlhf.pipeline.live.book import Book, LabelerEntry, PairEntry

HELD_SECONDS = 600.0
"""For how long a pair that was handed out counts as being judged."""
_SMALLEST_WINDOW = 16
_WINDOW_PER_LABELER = 2


def next_pair(book: Book, labeler: LabelerEntry, now: float) -> PairEntry | None:
    """Return the pair that a labeler should judge next, or None if there is none just now.

    Args:
        book: of the campaign.
        labeler: who asks.
        now: seconds since 1970.
    """
    active = sum(not other.paused for other in book.labelers)
    window = max(_SMALLEST_WINDOW, _WINDOW_PER_LABELER * active)
    pairs = (book.pairs[position] for position in book.open if position not in labeler.seen)
    wanting = ((pair, judges) for pair in pairs if len(judges := _judges(pair, now)) < book.wanted(pair))
    shared = book.shared[labeler.number].tolist()
    ranked = ((len(judges), sum(shared[j] for j in judges), pair.position) for pair, judges in islice(wanting, window))
    best = min(ranked, default=None)
    return None if best is None else book.pairs[best[-1]]


def may_keep(book: Book, labeler: LabelerEntry, pair: PairEntry, now: float) -> bool:
    """Whether a labeler that was given a pair may still judge it: it is open, and others do not fill it.

    Args:
        book: of the campaign.
        labeler: who was given it.
        pair: what it was given.
        now: seconds since 1970.
    """
    if pair.round is not None:
        return False
    others = [number for number in _judges(pair, now) if number != labeler.number]
    return len(others) < book.wanted(pair)


def _judges(pair: PairEntry, now: float) -> list[int]:
    """Return who has judged a pair or is looking at it."""
    looking = [n for n, since in pair.held.items() if now - since < HELD_SECONDS and n not in pair.standing]
    return [*pair.standing, *looking]
