"""Rows to the annotation table: pairs and labelers get numbers, reports are turned and checked.

Per report two integers, a float, its row number and its time are kept (about 45 bytes); texts are kept once per pair,
on disk when they are many. So millions of reports fit where the table itself would not.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.labelers.recorded.cells import parse_id, parse_name, parse_time
from truthful_rlhf.labelers.recorded.codes import Codebook
from truthful_rlhf.labelers.recorded.errors import AnnotationError, WayOn, ways_on
from truthful_rlhf.labelers.recorded.formats import Row
from truthful_rlhf.labelers.recorded.identity import MOST_REPORTS, UnusedColumns
from truthful_rlhf.labelers.recorded.texts import PairTexts


@dataclass
class Parts:
    """What was collected from a source: R reports in the order of the source, T pairs in order of first occurrence."""

    name: str
    pair_ids: list[str]
    labeler_ids: list[str]
    pair: IntArray
    """Shape ``(R,)``."""
    labeler: IntArray
    row: IntArray
    report: FloatArray
    """In the pair's own order, NaN where the labeler did not judge, shape ``(R,)``."""
    swapped: BoolArray
    time: FloatArray
    """When the report was given, NaN where that is not known, shape ``(R,)``."""
    outcome: FloatArray
    """Shape ``(T,)``."""
    pair_time: FloatArray
    """Round or time of each pair's last report if the user named a column, else NaN, shape ``(T,)``."""
    topics: list[str]
    texts: PairTexts
    has_texts: bool
    same_texts: int
    """Pairs whose texts stand under an earlier id as well."""
    same_texts_example: str = ""
    games: int = 0
    """Verdicts that went into reports which are themselves means."""
    unused: UnusedColumns = field(default_factory=UnusedColumns)


class Builder:
    """Collects rows; knows each pair by its id or by its texts.

    Args:
        name: of the source, for messages.
        pairs_by_text: whether pairs are known by their texts even where there are ids.
        reports: reads the report column.
        outcomes: reads the outcome column.
        labeler_column: what the source calls the labelers' column.
    """

    def __init__(
        self, name: str, pairs_by_text: bool, reports: Codebook, outcomes: Codebook, labeler_column: str
    ) -> None:
        self.name, self.pairs_by_text, self.labeler_column = name, pairs_by_text, labeler_column
        self.reports, self.outcomes = reports, outcomes
        self.texts = PairTexts()
        self.pair_index: dict[Any, int] = {}
        self.pair_ids: list[str] = []
        self.shown: list[int] = []  # fingerprint of each pair's texts as first shown
        self.by_texts: dict[int, int] = {}  # fingerprint of texts in either order -> first pair
        self.same_texts, self.same_texts_example = 0, ""
        self.labeler_index: dict[Any, int] = {}
        self.labeler_ids: list[str] = []
        self.pair, self.labeler, self.row = array("q"), array("q"), array("q")
        self.report, self.swapped, self.time = array("d"), array("b"), array("d")
        self.outcome, self.outcome_row, self.pair_time = array("d"), array("q"), array("d")
        self.topics: list[str] = []
        self.has_texts, self.games = True, 0
        self.unused = UnusedColumns()

    def add(self, number: int, row: Row) -> None:
        """Add one report; raises ValueError without the row number."""
        pair, swapped = self._pair(row)
        labeler = self._labeler(row.labeler_id)
        report = self.reports.read(row.report, number)
        self.pair.append(pair)
        self.labeler.append(labeler)
        self.row.append(number)
        self.report.append(1.0 - report if swapped else report)
        self.swapped.append(swapped)
        self.games += row.games if row.games > 1 else 0
        if row.outcome is not None:
            self._set_outcome(number, pair, row.outcome, swapped)
        time = math.nan
        if row.round is not None:
            time = parse_time(row.round)
            if not self.pair_time[pair] >= time:  # the latest; also replaces NaN
                self.pair_time[pair] = time
        elif row.updated is not None:
            time = parse_time(row.updated)
        self.time.append(time)
        if row.topic is not None:
            self._set_topic(pair, name_cell("topic", row.topic))

    def remember_unused(self, record: dict[str, Any], used: set[str], reports: int) -> None:
        """Remember the columns that were not read, for the first reports."""
        if self.unused.size < MOST_REPORTS:
            self.unused.add(record, used, reports)

    def _pair(self, row: Row) -> tuple[int, bool]:
        """Return the pair's index, and whether its responses are shown the other way round than at first."""
        shown = fingerprint(row.prompt, row.response_a, row.response_b)
        pair_id = "" if self.pairs_by_text else id_cell("pair_id", row.pair_id)
        key: Any = pair_id or (shown,)
        index = self.pair_index.get(key)
        if index is not None and self.shown[index] == shown:
            return index, False
        turned = fingerprint(row.prompt, row.response_b, row.response_a)
        if index is None and not pair_id:
            index = self.pair_index.get((turned,))
        if index is None:
            return self._new_pair(key, pair_id, row, shown, turned), False
        if self.shown[index] != turned:
            raise ValueError(
                f"pair {self.pair_ids[index]!r} has another prompt or other responses here than where it first occurs"
                + self._by_text(row)
            )
        return index, True

    def _by_text(self, row: Row) -> str:
        if row.response_a is None or row.response_b is None:
            return ""
        return ways_on([WayOn("if the texts say which pair it is, and the id does not", ["--pairs-by-text"])])

    def _new_pair(self, key: Any, pair_id: str, row: Row, shown: int, turned: int) -> int:
        texts = tuple(name_cell(key, getattr(row, key)) for key in ("prompt", "response_a", "response_b"))
        if not pair_id:
            if row.response_a is None or row.response_b is None:
                raise ValueError("a pair needs pair_id, or response_a and response_b (and a prompt)")
            pair_id = made_up_id(texts)
        index = len(self.pair_ids)
        self.pair_index[key] = index
        self.pair_ids.append(pair_id)
        self.shown.append(shown)
        self.texts.append(*texts)
        complete = not any(v is None for v in (row.prompt, row.response_a, row.response_b))
        self.has_texts = self.has_texts and complete
        if complete:
            first = self.by_texts.setdefault(min(shown, turned), index)
            if first != index:
                self.same_texts += 1
                self.same_texts_example = self.same_texts_example or f"{self.pair_ids[first]} and {pair_id}"
        self.outcome.append(math.nan)
        self.outcome_row.append(0)
        self.pair_time.append(math.nan)
        self.topics.append("")
        return index

    def _labeler(self, value: Any) -> int:
        index = self.labeler_index.get(value) if isinstance(value, Hashable) else None
        if index is not None:
            return index
        name = id_cell("labeler_id", value)
        if not name:
            raise ValueError(no_labeler(value, self.labeler_column))
        index = self.labeler_index.setdefault(name, len(self.labeler_ids))
        self.labeler_index[value] = index
        if index == len(self.labeler_ids):
            self.labeler_ids.append(name)
        return index

    def _set_outcome(self, number: int, pair: int, value: Any, swapped: bool) -> None:
        outcome = self.outcomes.read(value, number)
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

    def parts(self) -> Parts:
        """Return what was collected."""
        pair, labeler, row = (np.frombuffer(a, dtype=np.int64) for a in (self.pair, self.labeler, self.row))
        return Parts(
            name=self.name,
            pair_ids=self.pair_ids,
            labeler_ids=self.labeler_ids,
            pair=pair,
            labeler=labeler,
            row=row,
            report=np.frombuffer(self.report, dtype=np.float64),
            swapped=np.frombuffer(self.swapped, dtype=np.int8).astype(bool),
            time=np.frombuffer(self.time, dtype=np.float64),
            outcome=np.frombuffer(self.outcome, dtype=np.float64),
            pair_time=np.frombuffer(self.pair_time, dtype=np.float64),
            topics=self.topics,
            texts=self.texts,
            has_texts=self.has_texts,
            same_texts=self.same_texts,
            same_texts_example=self.same_texts_example,
            games=self.games,
            unused=self.unused,
        )


def no_labeler(value: Any, column: str) -> str:
    """Return why a report without a labeler is refused, and how to leave such rows out."""
    shown = f" ({value})" if isinstance(value, str) and value else ""
    keep = WayOn("to leave such rows out", ["--only", f"{column}=*"])
    return f"labeler_id is empty{shown}" + ways_on([keep])


def made_up_id(texts: tuple[str, ...]) -> str:
    """Return the id of a pair that is known by its prompt and its two responses, the same in either order."""
    whole = "\x1f".join([texts[0], *sorted(texts[1:])])
    return "pair-" + hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()


def name_cell(column: str, value: Any) -> str:
    """Return a text, or raise ValueError naming the column."""
    try:
        return parse_name(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def id_cell(column: str, value: Any) -> str:
    """Return an identifier, or raise ValueError naming the column."""
    try:
        return parse_id(value)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def fingerprint(prompt: Any, first: Any, second: Any) -> int:
    """Return 64 bits that tell one shown pair from another (a keyed hash: Python draws the key per process)."""
    try:
        return hash((prompt, first, second))
    except TypeError:
        raise ValueError("prompt and responses must be texts") from None


def refuse_row(name: str, number: int, reason: str) -> AnnotationError:
    """Return the error of one row."""
    return AnnotationError(f"{name}: row {number}: {reason}")
