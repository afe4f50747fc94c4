"""Which pair a labeler gets next.

Among the oldest pairs that still want reports: those with the fewest first, and among these the one whose labelers have
shared the fewest pairs with this one, so that every two labelers come to share some. Only a window of pairs is looked
at, in the order in which pairs came, unless the labeler has seen them all: otherwise every pair would get its first
report before any could close, and no weight could learn until late.

A pair that somebody is looking at counts as if it had that report, for a while, so that a crowd does not get the same
pair. Nothing here depends on audits, outcomes, weights, or on what anybody reported.
"""

from __future__ import annotations

from truthful_rlhf.pipeline.live.book import Book, LabelerEntry, PairEntry

HELD_SECONDS = 600.0
"""For how long a pair that was handed out counts as being judged."""
_SMALLEST_WINDOW = 4
_WINDOW_PER_LABELER = 2


def next_pair(book: Book, labeler: LabelerEntry, now: float) -> PairEntry | None:
    """Return the pair that a labeler should judge next, or None if there is none just now.

    Args:
        book: of the campaign.
        labeler: who asks.
        now: seconds since 1970.
    """
    book.let_go(now - HELD_SECONDS)
    window = max(_SMALLEST_WINDOW, _WINDOW_PER_LABELER * sum(not other.paused for other in book.labelers))
    fewest: list[PairEntry] = []
    least = looked_at = 0
    for position in book.open:
        pair = book.pairs[position]
        n = len(pair.standing) + len(pair.held)
        if n >= book.wanted(pair):
            continue
        looked_at += 1
        if position not in labeler.seen:
            if n < least or not fewest:
                least, fewest = n, [pair]
            elif n == least:
                fewest.append(pair)
            if n == 0:  # no pair has fewer, and the oldest of these comes first
                break
        if looked_at >= window and fewest:
            break
    shared = book.shared[labeler.number].tolist()
    return min(fewest, key=lambda p: sum(shared[j] for j in (*p.standing, *p.held)), default=None)


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
    book.let_go(now - HELD_SECONDS)
    return len(pair.standing) + len(pair.held) - (labeler.number in pair.held) < book.wanted(pair)
