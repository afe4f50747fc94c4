"""The annotation table, coded for aggregation: who reported what about which pair."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.labelers.recorded.texts import PairTexts


@dataclass(frozen=True)
class Annotations:
    """A campaign's reports in round order: T pairs, N labelers, R reports (R is far below T x N in real campaigns).

    Round t's reports are ``labeler[start[t]:start[t + 1]]`` and ``report[...]``, in the pair's own order (A, B as first
    shown). ``swapped`` marks reports that were given with the two responses shown the other way round.
    """

    source: str
    format: str
    pair_ids: list[str]
    labeler_ids: list[str]
    start: IntArray
    """First report of each round, shape ``(T + 1,)``."""
    labeler: IntArray
    """Labeler of each report, shape ``(R,)``."""
    report: FloatArray
    """Probability that A is better, in [0, 1], shape ``(R,)``."""
    swapped: BoolArray
    """Whether the labeler saw the responses in the other order, shape ``(R,)``."""
    outcome: FloatArray
    """1 A better, 0 B better, NaN not known, shape ``(T,)``."""
    audit_design: AuditDesign | None
    """With which chance each pair was audited, by round; None: all uniformly."""
    topic: list[str] | None
    """Topic of each pair, if the source has topics."""
    texts: PairTexts
    has_texts: bool
    """Whether every pair came with a prompt and two responses."""
    text_row: IntArray
    """Row of each round's texts in ``texts``, shape ``(T,)``."""
    reading: Reading = field(repr=False)
    """What was read: counts, what every value was taken to mean, notes, one pair in words."""

    @property
    def n_pairs(self) -> int:
        """Number of rounds T."""
        return len(self.pair_ids)

    @property
    def n_labelers(self) -> int:
        """Number of labelers N."""
        return len(self.labeler_ids)

    @property
    def round_of_report(self) -> IntArray:
        """Round of each report, shape ``(R,)``."""
        return np.repeat(np.arange(self.n_pairs), np.diff(self.start))

    @property
    def outcome_weights(self) -> FloatArray | None:
        """What each known outcome counts for in an estimate, shape ``(T,)``; None where audits were uniform."""
        if self.audit_design is None:
            return None
        return self.audit_design.estimate_weights(~np.isnan(self.outcome))

    def matrix(self, rounds: IntArray | None = None, labelers: IntArray | None = None) -> FloatArray:
        """Return reports as a matrix with NaN where a labeler is absent.

        Args:
            rounds: which rounds, all by default; shape ``(K,)``.
            labelers: which labelers, all by default; shape ``(M,)``.

        Returns:
            Shape ``(K, M)``.
        """
        row, entry, n_rows = self._entries(rounds)
        column = self.labeler[entry]
        if labelers is not None:
            number = np.full(self.n_labelers, -1)
            number[labelers] = np.arange(len(labelers))
            wanted = number[column] >= 0
            row, entry, column = row[wanted], entry[wanted], number[column][wanted]
        dense = np.full((n_rows, self.n_labelers if labelers is None else len(labelers)), np.nan)
        dense[row, column] = self.report[entry]
        return dense

    def packed(self, rounds: IntArray | None = None) -> FloatArray:
        """Return the reports of some rounds without saying whose they are, NaN behind a round's last one.

        A rule that treats all labelers alike gives the same labels on this matrix, which is as wide as the most
        reports of a pair instead of as the panel.

        Returns:
            Shape ``(rounds, most reports of a pair)``, at least one column.
        """
        row, entry, n_rows = self._entries(rounds)
        slot = entry - self.start[:-1][self.round_of_report[entry]]
        dense = np.full((n_rows, max(1, int(np.diff(self.start).max(initial=0)))), np.nan)
        dense[row, slot] = self.report[entry]
        return dense

    def _entries(self, rounds: IntArray | None) -> tuple[IntArray, IntArray, int]:
        """Return the position of each report's round among ``rounds``, its number, and the number of rounds."""
        rounds = np.arange(self.n_pairs) if rounds is None else np.asarray(rounds)
        lengths = np.diff(self.start)[rounds]
        row = np.repeat(np.arange(len(rounds)), lengths)
        entry = np.arange(lengths.sum()) + np.repeat(self.start[rounds] - np.cumsum(lengths) + lengths, lengths)
        return row, entry, len(rounds)
