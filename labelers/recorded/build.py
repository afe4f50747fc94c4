"""Rows to the annotation table: pairs and labelers get numbers, reports are turned and checked.

Per report two integers, a float, its row number and its time are kept (about 45 bytes); texts are kept once per pair,
on disk when they are many. So millions of reports fit where the table itself would not.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.labelers.recorded.audit_cells import AuditCells
from truthful_rlhf.labelers.recorded.cells import parse_id, parse_name, parse_time
from truthful_rlhf.labelers.recorded.codes import Codebook
from truthful_rlhf.labelers.recorded.errors import AnnotationError, WayOn, ways_on
from truthful_rlhf.labelers.recorded.formats import Row
from truthful_rlhf.labelers.recorded.formats.conversations import messages_of, plain_text, prompt_text
from truthful_rlhf.labelers.recorded.identity import MOST_REPORTS, UnusedColumns
from truthful_rlhf.labelers.recorded.texts import PairTexts

_NO_AUDIT = (None, None, None)


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
    pairs_with_topics: int = 0
    """Pair ids that stand with several topics: each is one pair per topic."""
    topics_example: str = ""
    audit_design: AuditDesign | None = None
    """With which chances pairs were audited; None: uniformly."""
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
        columns: role -> column of the source, where they differ.
        pair_per_topic: whether a pair with several topics is one pair per topic; otherwise it is refused.
    """

    def __init__(
        self,
        name: str,
        pairs_by_text: bool,
        reports: Codebook,
        outcomes: Codebook,
        columns: Mapping[str, str],
        pair_per_topic: bool,
    ) -> None:
        self.name, self.pairs_by_text = name, pairs_by_text
        self.labeler_column = columns.get("labeler_id", "labeler_id")
        self.audits = AuditCells(columns)
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
        self.pair_per_topic = pair_per_topic
        self.topic_index: dict[int, dict[str, int]] = {}  # first pair of an id with several topics -> topic -> pair
        self.no_topic_row = array("q")  # each pair's first row without a topic, 0: none
        self.has_texts, self.games = True, 0
        self.unused = UnusedColumns()

    def add(self, number: int, row: Row) -> None:
        """Add one report; raises ValueError without the row number."""
        if isinstance(row.prompt, list) or isinstance(row.response_a, list) or isinstance(row.response_b, list):
            a, b = plain_text(row.response_a), plain_text(row.response_b)
            row = row._replace(prompt=prompt_text(row.prompt), response_a=a, response_b=b)
        pair, swapped = self._pair(row)
        pair = self._with_topic(number, pair, row)
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
        audit = row.audit_probability, row.audit_floor, row.audit_wave
        if audit != _NO_AUDIT:
            self.audits.add(number, pair, self.pair_ids[pair], audit)
        time = math.nan
        if row.round is not None:
            time = parse_time(row.round)
            if not self.pair_time[pair] >= time:  # the latest; also replaces NaN
                self.pair_time[pair] = time
        elif row.updated is not None:
            time = parse_time(row.updated)
        self.time.append(time)

    def remember_unused(self, record: dict[str, Any], used: set[str], reports: int) -> None:
        """Remember the columns that were not read, for the first reports.

        Args:
            record: one record of the source.
            used: names of the columns that were read.
            reports: how many reports came of the record, >= 0.
        """
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
            pair_id = made_up_id((messages_of(row.prompt) or texts[0], *texts[1:]))
        index = self._append(pair_id, shown, (*texts, messages_of(row.prompt)))
        self.pair_index[key] = index
        complete = not any(v is None for v in (row.prompt, row.response_a, row.response_b))
        self.has_texts = self.has_texts and complete
        if complete:
            first = self.by_texts.setdefault(min(shown, turned), index)
            if first != index:
                self.same_texts += 1
                self.same_texts_example = self.same_texts_example or f"{self.pair_ids[first]} and {pair_id}"
        return index

    def _append(self, pair_id: str, shown: int, texts: Sequence[str]) -> int:
        """Add a pair of which nothing else is known yet, and return its index."""
        self.pair_ids.append(pair_id)
        self.shown.append(shown)
        self.texts.append(*texts)
        self.outcome.append(math.nan)
        self.outcome_row.append(0)
        self.pair_time.append(math.nan)
        self.topics.append("")
        self.no_topic_row.append(0)
        self.audits.append()
        return len(self.pair_ids) - 1

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

    def _with_topic(self, number: int, pair: int, row: Row) -> int:
        """Return the pair of a row's topic, which is the pair itself unless it stands with several topics."""
        topic = "" if row.topic is None else name_cell("topic", row.topic)
        if not topic:
            self.no_topic_row[pair] = self.no_topic_row[pair] or number
            return pair
        known = self.topics[pair]
        self.topics[pair] = known or topic
        if known in ("", topic):
            return pair
        if not self.pair_per_topic:
            raise ValueError(
                f"topic of pair {self.pair_ids[pair]!r} is {topic!r} here and {known!r} before"
                + ways_on([WayOn("if it is a pair of its own for each topic", ["--topic-column", "topic"])])
            )
        others = self.topic_index.setdefault(pair, {})
        if topic not in others:
            texts = [name_cell(key, getattr(row, key)) for key in ("prompt", "response_a", "response_b")]
            if self.shown[pair] != fingerprint(row.prompt, row.response_a, row.response_b):
                texts = [texts[0], texts[2], texts[1]]  # as the pair was first shown
            others[topic] = self._append(self.pair_ids[pair], self.shown[pair], (*texts, messages_of(row.prompt)))
            self.topics[others[topic]] = topic
        return others[topic]

    def _name_by_topic(self) -> None:
        """Give the pairs of an id with several topics an id each: the id and the topic."""
        taken = set(self.pair_ids)
        for pair, others in self.topic_index.items():
            pair_id = self.pair_ids[pair]
            if row := self.no_topic_row[pair]:
                reason = f"pair {pair_id!r} stands with several topics, and this row names none"
                raise refuse_row(self.name, row, reason)
            for k in (pair, *others.values()):
                name = f"{pair_id}:{self.topics[k]}"
                if name in taken:
                    raise AnnotationError(
                        f"{self.name}: pair {pair_id!r} with topic {self.topics[k]!r} would be called {name!r}, which "
                        "another pair is called already: rename one of them"
                    )
                taken.add(name)
                self.pair_ids[k] = name

    def parts(self) -> Parts:
        """Return what was collected.

        Raises:
            AnnotationError: a row without a topic belongs to a pair with several.
        """
        self._name_by_topic()
        first = next(((pair, *others.values()) for pair, others in self.topic_index.items()), ())
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
            audit_design=self.audits.design(),
            pair_time=np.frombuffer(self.pair_time, dtype=np.float64),
            topics=self.topics,
            texts=self.texts,
            has_texts=self.has_texts,
            same_texts=self.same_texts,
            same_texts_example=self.same_texts_example,
            pairs_with_topics=len(self.topic_index),
            topics_example=" and ".join(self.pair_ids[k] for k in first),
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
    """Return 64 bits that tell one shown pair from another (a keyed hash: Python draws the key per process).

    Args:
        prompt: as shown.
        first: the response shown first.
        second: the response shown second.
    """
    try:
        return hash((messages_of(prompt) or prompt, first, second))
    except TypeError:
        raise ValueError("prompt and responses must be texts") from None


def refuse_row(name: str, number: int, reason: str) -> AnnotationError:
    """Return the error of one row.

    Args:
        name: of the source.
        number: of the row, from 1.
        reason: what is wrong with it.
    """
    return AnnotationError(f"{name}: row {number}: {reason}")
