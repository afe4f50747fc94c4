"""Which pair is which: signs that ids, texts or unused columns tell pairs apart in another way than they were read.

Looks at the first hundred thousand reports.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from truthful_rlhf.aggregation.base import IntArray
from truthful_rlhf.labelers.recorded.cells import parse_time
from truthful_rlhf.labelers.recorded.errors import WayOn, ways_on

MOST_REPORTS = 100_000
_MOST_COLUMNS = 30
_MOST_VALUES = 2_000
_FEW = 20


class UnusedColumns:
    """The columns that were not read, as codes per report for the first reports.

    Codes count the values of all columns together from 1, in order of first occurrence; 0: empty.
    """

    def __init__(self) -> None:
        self.codes: dict[str, array[int]] = {}
        self.words: dict[str, dict[int, str]] = {}
        self.size = 0
        self._numbers: dict[int, int] = {}

    def add(self, record: Mapping[str, Any], used: set[str], reports: int) -> None:
        """Add the reports of one record.

        Args:
            record: one record of the source.
            used: names of the columns that were read.
            reports: how many reports came of the record, >= 0.
        """
        for key, value in record.items():
            if key in used or (key not in self.codes and len(self.codes) >= _MOST_COLUMNS):
                continue
            codes = self.codes.setdefault(key, array("q"))
            codes.extend([0] * (self.size - len(codes)))
            code = 0
            if isinstance(value, str | int | float) and value != "":
                code = self._numbers.setdefault(hash(value), len(self._numbers) + 1)
                words = self.words.setdefault(key, {})
                if len(words) < _MOST_VALUES:
                    words.setdefault(code, str(value))
            codes.extend([code] * reports)
        self.size += reports

    def column(self, key: str) -> IntArray:
        """Return a column's codes, shape ``(size,)``."""
        codes = self.codes[key]
        return np.array([*codes, *[0] * (self.size - len(codes))], dtype=np.int64)

    def word(self, key: str, code: int) -> str:
        """Return a value as text."""
        return self.words.get(key, {}).get(int(code), "...")


class ResponseColumns(NamedTuple):
    """Two unused columns that hold the names of the two responses."""

    first: str
    second: str
    several: bool
    """Whether one pair id covers several comparisons."""
    example: str


def response_columns(unused: UnusedColumns, pair: IntArray, labelers: Sequence[str]) -> ResponseColumns | None:
    """Return two unused columns whose values change places, or combine, among the reports of one pair.

    Args:
        unused: the columns.
        pair: pair of each report, shape ``(R,)`` or longer.
        labelers: a column of labelers' names is none of responses.
    """
    pair = pair[: unused.size]
    known = set(labelers)
    texts = [key for key, words in unused.words.items() if words and not known & set(words.values())]
    for x, y in itertools.combinations(texts, 2):
        a, b = unused.column(x), unused.column(y)
        filled = (a != 0) & (b != 0)
        if not filled.all() or (a == b).any() or set(unused.words[x].values()) & set(unused.words[y].values()) == set():
            continue
        shared = set(zip(pair.tolist(), a.tolist(), strict=True)) & set(zip(pair.tolist(), b.tolist(), strict=True))
        if not shared:
            continue
        sets = np.unique(np.column_stack([pair, np.minimum(a, b), np.maximum(a, b)]), axis=0)
        several = len(sets) > len(np.unique(pair))
        where = min(p for p, _ in shared)
        rows = np.flatnonzero(pair == where)[:2]
        example = ", ".join(f"{unused.word(x, a[k])} and {unused.word(y, b[k])}" for k in rows)
        return ResponseColumns(x, y, several, example)
    return None


def refuse_response_columns(found: ResponseColumns, pair_column: str, has_prompt: bool) -> str:
    """Return why the responses' columns have to be mapped, and how.

    Args:
        found: the two columns.
        pair_column: the source's name of the pair's id.
        has_prompt: whether a column of prompts was read.
    """
    arguments = ["--column", f"response_a={found.first}", "--column", f"response_b={found.second}"]
    if found.several:
        arguments += [] if has_prompt else ["--column", f"prompt={pair_column}"]
        arguments += ["--pairs-by-text"]
    what = "name several comparisons" if found.several else "change places"
    text = (
        f"the unused columns {found.first!r} and {found.second!r} {what} among the reports of one pair "
        f"({found.example}): a vote for the first means another response from row to row. Map them"
    )
    return text + ways_on([WayOn(f"if a vote for A is one for {found.first!r}", arguments)])


def aspect_columns(unused: UnusedColumns, groups: Sequence[IntArray]) -> list[tuple[str, dict[str, int]]]:
    """Return the unused columns that differ among the reports of the same labeler on the same pair, with their values.

    Args:
        unused: the columns.
        groups: reports (row numbers of the columns) that are duplicates of each other.
    """
    found = []
    for key in unused.codes:
        codes = unused.column(key)
        inside = [group[group < unused.size] for group in groups]
        inside = [group for group in inside if len(group) > 1]
        if not inside or any(len(set(codes[g].tolist())) < len(g) for g in inside):
            continue
        values, counts = np.unique(codes[codes != 0], return_counts=True)
        words = {unused.word(key, v): int(n) for v, n in zip(values, counts, strict=True)}
        if 1 < len(values) <= _FEW and not all(map(_is_time, words)):
            found.append((key, words))
    return found


def _is_time(word: str) -> bool:
    try:
        parse_time(word)
    except ValueError:
        return False
    return True


def varying_columns(unused: UnusedColumns, pair: IntArray, labeler: IntArray) -> list[str]:
    """Return notes on unused columns with few values that differ among the reports of one pair.

    Args:
        unused: the columns.
        pair: pair of each report, shape ``(R,)`` or longer.
        labeler: labeler of each report, as long.
    """
    notes = []
    pair, labeler = pair[: unused.size], labeler[: unused.size]
    n_pairs = len(np.unique(pair))
    for key in unused.codes:
        codes = unused.column(key)
        values = np.unique(codes[codes != 0])
        if not 1 < len(values) <= _FEW or len(values) * 3 > unused.size:
            continue
        both = np.unique(np.column_stack([pair, codes]), axis=0)
        first, counts = np.unique(both[:, 0], return_counts=True)
        if not (counts > 1).any() or len(np.unique(np.column_stack([labeler, codes]), axis=0)) == len(
            np.unique(labeler)
        ):  # a property of the labeler
            continue
        where = first[np.argmax(counts > 1)]
        words = ", ".join(unused.word(key, c) for c in both[both[:, 0] == where, 1][:3])
        notes.append(
            f"the unused column {key!r} differs among the reports of one pair on {int((counts > 1).sum()):,} of "
            f"{n_pairs:,} pairs (for example {words}); --only {key}=VALUE keeps the rows of one value"
        )
    return notes[:3]
