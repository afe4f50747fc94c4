"""The annotation table, coded for aggregation: who reported what about which pair.

Reports are an append-only log. `read_annotations` streams it once and keeps, per report, two integers, a float and its
row number (about 30 bytes); texts are kept once per pair, on disk when they are many. So millions of reports fit where
the table itself would not.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.cells import parse_name, parse_outcome, parse_report, parse_time
from truthful_rlhf.labelers.recorded.formats import CANONICAL, FORMATS, Row, detect_format, used_columns
from truthful_rlhf.labelers.recorded.read import AnnotationError, Batch, Progress, read_records, source_name
from truthful_rlhf.labelers.recorded.texts import PairTexts

Duplicates = Literal["error", "last"]


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
    topic: list[str] | None
    """Topic of each pair, if the source has topics."""
    texts: PairTexts
    has_texts: bool
    """Whether every pair came with a prompt and two responses."""
    text_row: IntArray
    """Row of each round's texts in ``texts``, shape ``(T,)``."""
    notes: dict[str, int | list[str]] = field(default_factory=dict)
    """What was merged, dropped or ignored on the way."""

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

    def matrix(self, rounds: IntArray | None = None) -> FloatArray:
        """Return the reports of some rounds (all by default), shape ``(rounds, N)``, NaN where a labeler is absent."""
        rounds = np.arange(self.n_pairs) if rounds is None else np.asarray(rounds)
        lengths = np.diff(self.start)[rounds]
        row = np.repeat(np.arange(len(rounds)), lengths)
        entry = np.arange(lengths.sum()) + np.repeat(self.start[rounds] - np.cumsum(lengths) + lengths, lengths)
        dense = np.full((len(rounds), self.n_labelers), np.nan)
        dense[row, self.labeler[entry]] = self.report[entry]
        return dense


def read_annotations(
    source: Any,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    duplicates: Duplicates = "error",
    pairs_by_text: bool = False,
    progress: Progress | None = None,
) -> Annotations:
    """Read, check and code annotations.

    Args:
        source: see `labelers.recorded.read.read_records`.
        format: a key of `labelers.recorded.formats.FORMATS`, or ``auto``.
        columns: canonical name (``pair_id``, ..., ``round``, ``topic``) -> name in the source. With ``round`` (a number
            or a time) pairs go in the order in which their last report arrived; otherwise they keep the file's order.
        duplicates: what to do when a labeler judged a pair twice: refuse, or keep the last report.
        pairs_by_text: recognise a pair by its prompt and its two responses, in either order, instead of by ``pair_id``
            (always so where the source has no pair ids).
        progress: see `labelers.recorded.read.read_records`.

    Raises:
        AnnotationError: with the file, the row, the key and the nearest valid choice.
    """
    columns = dict(columns or {})
    name = source_name(source)
    for key in columns:
        if key not in CANONICAL:
            raise AnnotationError(
                f"--column {key}=...: no such column{nearest(key, CANONICAL)}; valid: {', '.join(CANONICAL)}"
            )
    if format != "auto" and format not in FORMATS:
        raise AnnotationError(
            f"format {format!r}: not known{nearest(format, FORMATS)}; valid: auto, {', '.join(FORMATS)}"
        )
    if duplicates not in ("error", "last"):
        raise AnnotationError(f"duplicates {duplicates!r}: valid are error and last")
    builder = _Builder(name, pairs_by_text)
    seen: set[str] = set()
    for batch in read_records(source, progress):
        if format == "auto":
            format = detect_format(batch[0][1], columns, name)
        seen.update(*(record for _, record in batch))
        _add_batch(builder, batch, format, columns)
    if not builder.labeler:
        raise AnnotationError(f"{name}: there are no reports in it")
    used = used_columns(format, columns)
    for key, column in columns.items():
        if used and column not in seen:
            raise AnnotationError(
                f"{name}: no column {column!r} (for {key}){nearest(column, seen)}; found: {_listed(seen)}"
            )
    ignored = sorted(str(c) for c in seen - used) if used else []
    return builder.build(format, duplicates, ignored)


def _add_batch(builder: _Builder, batch: Batch, format: str, columns: Mapping[str, str]) -> None:
    importer = FORMATS[format]
    for number, record in batch:
        try:
            for row in importer(record, columns):
                builder.add(number, row)
        except KeyError as error:
            key = str(error.args[0])
            raise AnnotationError(f"{builder.name}: row {number}: no {key!r}{nearest(key, map(str, record))}") from None
        except ValueError as error:
            raise AnnotationError(f"{builder.name}: row {number}: {error}") from None
        except (TypeError, AttributeError, IndexError) as error:  # a list where a dict should be, and so on
            raise AnnotationError(f"{builder.name}: row {number}: not a {format} record ({error})") from None


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(map(str, names)))[:300]


def _name(column: str, value: Any) -> str:
    try:
        return parse_name(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _fingerprint(prompt: Any, first: Any, second: Any) -> int:
    """Return 64 bits that tell one shown pair from another (a keyed hash: Python draws the key per process)."""
    try:
        return hash((prompt, first, second))
    except TypeError:
        raise ValueError("prompt and responses must be texts") from None


class _Builder:
    """Collects rows; knows each pair by its id or by its texts."""

    def __init__(self, name: str, pairs_by_text: bool) -> None:
        self.name = name
        self.pairs_by_text = pairs_by_text
        self.texts = PairTexts()
        self.pair_index: dict[Any, int] = {}
        self.pair_ids: list[str] = []
        self.shown: list[int] = []  # fingerprint of each pair's texts as first shown
        self.labeler_index: dict[Any, int] = {}
        self.labeler_ids: list[str] = []
        self.pair, self.labeler, self.row = array("q"), array("q"), array("q")
        self.report, self.swapped = array("d"), array("b")
        self.outcome, self.outcome_row = array("d"), array("q")
        self.time = array("d")
        self.topics: list[str] = []
        self.has_texts = True

    def add(self, number: int, row: Row) -> None:
        """Add one report; raises ValueError without the row number."""
        pair, swapped = self._pair(row)
        labeler = self._labeler(row.labeler_id)
        try:
            report = parse_report(row.report)
        except ValueError as error:
            raise ValueError(f"report (labeler {row.labeler_id!r}, pair {self.pair_ids[pair]!r}): {error}") from None
        self.pair.append(pair)
        self.labeler.append(labeler)
        self.row.append(number)
        self.report.append(1.0 - report if swapped else report)
        self.swapped.append(swapped)
        if row.outcome is not None:
            self._set_outcome(number, pair, row.outcome, swapped)
        if row.round is not None:
            time = parse_time(row.round)
            if not self.time[pair] >= time:  # the latest; also replaces NaN
                self.time[pair] = time
        if row.topic is not None:
            self._set_topic(pair, _name("topic", row.topic))

    def _pair(self, row: Row) -> tuple[int, bool]:
        """Return the pair's index, and whether its responses are shown the other way round than at first."""
        shown = _fingerprint(row.prompt, row.response_a, row.response_b)
        pair_id = "" if self.pairs_by_text else _name("pair_id", row.pair_id)
        key: Any = pair_id or (shown,)
        index = self.pair_index.get(key)
        if index is not None and self.shown[index] == shown:
            return index, False
        turned = _fingerprint(row.prompt, row.response_b, row.response_a)
        if index is None and not pair_id:
            index = self.pair_index.get((turned,))
        if index is None:
            return self._new_pair(key, pair_id, row, shown), False
        if self.shown[index] != turned:
            raise ValueError(
                f"pair {self.pair_ids[index]!r} has another prompt or other responses here than where it first occurs"
            )
        return index, True

    def _new_pair(self, key: Any, pair_id: str, row: Row, shown: int) -> int:
        texts = tuple(_name(key, getattr(row, key)) for key in ("prompt", "response_a", "response_b"))
        if not pair_id:
            if row.response_a is None or row.response_b is None:
                raise ValueError("a pair needs pair_id, or response_a and response_b (and a prompt)")
            whole = "\x1f".join([texts[0], *sorted(texts[1:])])
            pair_id = "pair-" + hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
        index = len(self.pair_ids)
        self.pair_index[key] = index
        self.pair_ids.append(pair_id)
        self.shown.append(shown)
        self.texts.append(*texts)
        self.has_texts = self.has_texts and not any(v is None for v in (row.prompt, row.response_a, row.response_b))
        self.outcome.append(math.nan)
        self.outcome_row.append(0)
        self.time.append(math.nan)
        self.topics.append("")
        return index

    def _labeler(self, value: Any) -> int:
        index = self.labeler_index.get(value) if isinstance(value, Hashable) else None
        if index is not None:
            return index
        name = _name("labeler_id", value)
        if not name:
            raise ValueError("labeler_id is empty")
        index = self.labeler_index.setdefault(name, len(self.labeler_ids))
        self.labeler_index[value] = index
        if index == len(self.labeler_ids):
            self.labeler_ids.append(name)
        return index

    def _set_outcome(self, number: int, pair: int, value: Any, swapped: bool) -> None:
        try:
            outcome = parse_outcome(value)
        except ValueError as error:
            raise ValueError(f"outcome (pair {self.pair_ids[pair]!r}): {error}") from None
        if math.isnan(outcome):
            return
        outcome = 1.0 - outcome if swapped else outcome
        known = self.outcome[pair]
        if not math.isnan(known) and known != outcome:
            raise ValueError(
                f"outcome of pair {self.pair_ids[pair]!r} contradicts row {self.outcome_row[pair]}"
                + (" (its responses are shown the other way round here)" if swapped else "")
            )
        self.outcome[pair], self.outcome_row[pair] = outcome, number

    def _set_topic(self, pair: int, topic: str) -> None:
        if self.topics[pair] and topic and self.topics[pair] != topic:
            raise ValueError(
                f"topic of pair {self.pair_ids[pair]!r} is {topic!r} here and {self.topics[pair]!r} before"
            )
        self.topics[pair] = topic or self.topics[pair]

    def build(self, format: str, duplicates: Duplicates, ignored: list[str]) -> Annotations:
        """Return the finished table, in round order."""
        pair, labeler, row = (np.frombuffer(a, dtype=np.int64) for a in (self.pair, self.labeler, self.row))
        report = np.frombuffer(self.report, dtype=np.float64)
        swapped = np.frombuffer(self.swapped, dtype=np.int8).astype(bool)
        times = np.frombuffer(self.time, dtype=np.float64)
        rounds = np.argsort(times, kind="stable")  # NaN last; all NaN keeps the file's order
        position = np.empty_like(rounds)
        position[rounds] = np.arange(len(rounds))
        order = np.lexsort((row, labeler, position[pair]))
        key_pair, key_labeler = pair[order], labeler[order]
        is_last = np.ones(len(order), dtype=bool)
        is_last[:-1] = (key_pair[1:] != key_pair[:-1]) | (key_labeler[1:] != key_labeler[:-1])
        if duplicates == "error" and not is_last.all():
            self._refuse_duplicate(order, is_last, pair, labeler, row)
        kept = order[is_last]
        kept = kept[~np.isnan(report[kept])]
        if not len(kept):
            raise AnnotationError(f"{self.name}: every report is an abstention")
        counts = np.bincount(position[pair[kept]], minlength=len(rounds))
        return Annotations(
            source=self.name,
            format=format,
            pair_ids=[self.pair_ids[k] for k in rounds],
            labeler_ids=self.labeler_ids,
            start=np.concatenate([[0], np.cumsum(counts)]),
            labeler=labeler[kept].copy(),
            report=report[kept].copy(),
            swapped=swapped[kept],
            outcome=np.frombuffer(self.outcome, dtype=np.float64)[rounds],
            topic=[self.topics[k] for k in rounds] if any(self.topics) else None,
            texts=self.texts.close(),
            has_texts=self.has_texts,
            text_row=rounds,
            notes={
                "rows": len(pair),
                "reports": len(kept),
                "abstentions": int(np.isnan(report[order[is_last]]).sum()),
                "duplicates_replaced": int((~is_last).sum()),
                "reports_in_swapped_order": int(swapped[kept].sum()),
                "ignored_columns": ignored,
            },
        )

    def _refuse_duplicate(
        self, order: IntArray, is_last: Any, pair: IntArray, labeler: IntArray, row: IntArray
    ) -> None:
        earlier = int(np.argmin(is_last))
        first, second = order[earlier], order[earlier + 1]
        raise AnnotationError(
            f"{self.name}: row {row[second]}: labeler {self.labeler_ids[labeler[first]]!r} already judged pair "
            f"{self.pair_ids[pair[first]]!r} in row {row[first]} ({int((~is_last).sum())} such reports in all); "
            "--duplicates last keeps the later one"
        )
