"""The fast road for plain long tables: whole columns instead of rows.

A CSV file without quotes, or a Parquet file, with pair ids and one report per row is read by column: every distinct
value of a column is looked at once, and the rest is array arithmetic. Whatever is unusual (a value that is not
understood, a pair with other texts, contradicting outcomes, a missing id) makes this road give up, and the table is
read row by row, which knows the row and the words of the complaint. So the two roads give the same table and the same
errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.labelers.recorded.audit_cells import as_design, read_cell
from truthful_rlhf.labelers.recorded.build import Parts
from truthful_rlhf.labelers.recorded.cells import parse_id, parse_name, parse_time
from truthful_rlhf.labelers.recorded.codes import Codebook
from truthful_rlhf.labelers.recorded.files.source import Source
from truthful_rlhf.labelers.recorded.identity import MOST_REPORTS, UnusedColumns
from truthful_rlhf.labelers.recorded.options import AUDIT_ROLES
from truthful_rlhf.labelers.recorded.texts import PairTexts

MAX_BYTES = 2**30
MAX_BYTES_OF_TEXTS = 2**27
"""What may be held in memory at once, as it lies in the file (Parquet: unpacked); larger tables are read row by row."""
_CHUNK_BYTES = 16 * 2**20
_TEXTS = ("prompt", "response_a", "response_b")
_FEW_ROWS = 1_000


class _GiveUpError(Exception):
    """The table is not as plain as it has to be here."""


class Column(NamedTuple):
    """A column as its distinct values, in order of first occurrence, and the number of each row's value."""

    values: list[Any]
    code: IntArray
    """Index into ``values``, -1 where the cell is null, shape ``(R,)``."""

    def map(self, function: Callable[[Any], float], empty: float = np.nan) -> FloatArray:
        """Return a function of every row's value, shape ``(R,)``; ``empty`` where the cell is null."""
        mapped = np.array([*(function(value) for value in self.values), empty], dtype=np.float64)
        return np.asarray(mapped[self.code])

    def first_rows(self) -> IntArray:
        """Return the row (from 1) in which each value occurs first, shape ``(len(values),)``."""
        first = np.zeros(len(self.values) + 1, dtype=np.int64)
        first[self.code[::-1]] = np.arange(len(self.code), 0, -1)
        return first[:-1]

    def counts(self) -> IntArray:
        """Return how often each value occurs, shape ``(len(values),)``."""
        return np.bincount(self.code + 1, minlength=len(self.values) + 1)[1:]

    def read_with(self, book: Codebook) -> FloatArray:
        """Return what a codebook reads, shape ``(R,)``; the counts go into the book."""
        rows, counts = self.first_rows().tolist(), self.counts().tolist()
        report = [book.count(v, row, n) for v, row, n in zip(self.values, rows, counts, strict=True)]
        null = np.flatnonzero(self.code < 0)
        if (
            len(null) and book.kind == "report"
        ):  # a report that is missing is an abstention; an outcome is just not there
            book.count(None, int(null[0]) + 1, len(null))
        return np.asarray(np.array([*report, np.nan], dtype=np.float64)[self.code])


def read_parts(
    source: Source, names: Mapping[str, str], used: set[str], keys: list[str], books: tuple[Codebook, Codebook]
) -> Parts | None:
    """Return what a plain table says, or None if it has to be read row by row.

    Args:
        source: the opened file.
        names: role -> column.
        used: columns that are read; the others are remembered for the first reports.
        keys: all columns.
        books: of the reports and of the outcomes.
    """
    opened = source.opened
    if opened is None or not opened.plain or opened.kind == "json" or names["pair_id"] not in keys:
        return None
    try:
        columns = _columns(opened.path, opened.kind, source.delimiter, {n: names[n] for n in names if names[n] in keys})
        size = len(columns["report"].code)
        if size < _FEW_ROWS:
            return None
        parts = _parts(source.name, columns, size, books)
    except (_GiveUpError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None
    if any(book.unknown or book.is_ambiguous for book in books):
        return None
    if set(keys) - used:
        parts.unused = _unused(source, used)
    source.tick(opened.path.stat().st_size)
    return parts


def _unused(source: Source, used: set[str]) -> UnusedColumns:
    unused = UnusedColumns()
    rows = (record for batch in Source(source.source).batches() for _, record in batch)
    for record in itertools.islice(rows, MOST_REPORTS):
        unused.add(record, used, 1)
    return unused


# ---- columns


def _columns(path: Path, kind: str, delimiter: str, names: Mapping[str, str]) -> dict[str, Column]:
    include = list(dict.fromkeys(names.values()))
    limit = MAX_BYTES_OF_TEXTS if any(role in names for role in _TEXTS) else MAX_BYTES
    if (_unpacked_bytes(path, include) if kind == "parquet" else path.stat().st_size) > limit:
        raise _GiveUpError
    if kind == "parquet":
        table = pyarrow.parquet.read_table(path, columns=include)
    else:
        _check_plain(path)
        words = pa.dictionary(pa.int32(), pa.string())
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_CHUNK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=include,
                column_types=dict.fromkeys(include, words),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    columns = {role: _column(table.column(name)) for role, name in names.items()}
    del table
    pa.default_memory_pool().release_unused()
    return columns


def _unpacked_bytes(path: Path, include: list[str]) -> int:
    """Return how many bytes some columns of a Parquet file hold, unpacked."""
    metadata = pyarrow.parquet.read_metadata(path)
    groups = (metadata.row_group(k) for k in range(metadata.num_row_groups))
    columns = (group.column(k) for group in groups for k in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in include)


def _check_plain(path: Path) -> None:
    """Give up on a file in which two readers of CSV might differ: quotes, bare carriage returns, zero bytes."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if b'"' in chunk or b"\0" in chunk or chunk.count(b"\r") != chunk.count(b"\r\n"):
                raise _GiveUpError


def _column(chunked: Any) -> Column:
    kind = chunked.type
    if not pa.types.is_dictionary(kind):
        plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
        if not any(check(kind) for check in (*plain, pa.types.is_floating)):
            raise _GiveUpError
        chunked = pc.dictionary_encode(chunked)
    chunked = chunked.unify_dictionaries()
    if not chunked.num_chunks:
        raise _GiveUpError
    codes = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunked.chunks]
    values = chunked.chunk(chunked.num_chunks - 1).dictionary.to_pylist()
    return Column(values, np.concatenate(codes).astype(np.int64))


# ---- from columns to parts


def _parts(name: str, columns: Mapping[str, Column], size: int, books: tuple[Codebook, Codebook]) -> Parts:
    pair_ids, pair = _ids(columns["pair_id"])
    labeler_ids, labeler = _ids(columns["labeler_id"])
    first = np.zeros(len(pair_ids), dtype=np.int64)
    first[pair[::-1]] = np.arange(size - 1, -1, -1)
    swapped, texts, has_texts, same = _texts(columns, pair, first)
    report = columns["report"].read_with(books[0])
    outcome = np.full(len(pair_ids), np.nan)
    if "outcome" in columns:
        outcome = _outcomes(columns["outcome"].read_with(books[1]), pair, swapped, len(pair_ids))
    time, pair_time = np.full(size, np.nan), np.full(len(pair_ids), np.nan)
    if "round" in columns:
        time = columns["round"].map(parse_time)
        known = ~np.isnan(time)
        pair_time[:] = -np.inf
        np.maximum.at(pair_time, pair[known], time[known])
        pair_time[np.isneginf(pair_time)] = np.nan
    return Parts(
        name=name,
        pair_ids=pair_ids,
        labeler_ids=labeler_ids,
        pair=pair,
        labeler=labeler,
        row=np.arange(1, size + 1),
        report=np.where(swapped, 1.0 - report, report) if swapped.any() else report,
        swapped=swapped,
        time=time,
        outcome=outcome,
        audit_design=_audits(columns, pair, len(pair_ids)),
        pair_time=pair_time,
        topics=_topics(columns.get("topic"), pair, len(pair_ids)),
        texts=texts,
        has_texts=has_texts,
        same_texts=len(same),
        same_texts_example=" and ".join(pair_ids[k] for k in same[0]) if same else "",
    )


def _ids(column: Column) -> tuple[list[str], IntArray]:
    """Return the identifiers in order of first occurrence, and each row's number."""
    if (column.code < 0).any():
        raise _GiveUpError
    index: dict[str, int] = {}
    order = np.argsort(column.first_rows(), kind="stable")
    number = np.empty(len(column.values), dtype=np.int64)
    for k in order.tolist():
        name = parse_id(column.values[k])
        if not name:
            raise _GiveUpError
        number[k] = index.setdefault(name, len(index))
    return list(index), number[column.code]


def _texts(
    columns: Mapping[str, Column], pair: IntArray, first: IntArray
) -> tuple[BoolArray, PairTexts, bool, list[tuple[int, int]]]:
    """Return which rows show the responses in the other order, the texts, whether they are complete, and repeats."""
    shown = []
    for role in _TEXTS:
        column = columns.get(role)
        if column is None:
            shown.append(np.zeros(len(pair), dtype=np.int64))
            continue
        if any(not isinstance(value, str) for value in column.values):
            raise _GiveUpError
        for value in column.values:
            parse_name(value)
        shown.append(np.array([*map(hash, column.values), 0], dtype=np.int64)[column.code])
    prompt, a, b = shown
    at = first[pair]
    same = (prompt == prompt[at]) & (a == a[at]) & (b == b[at])
    swapped = ~same
    if not ((prompt == prompt[at]) & (a == b[at]) & (b == a[at]))[swapped].all():
        raise _GiveUpError
    complete = all(role in columns and (columns[role].code[first] >= 0).all() for role in _TEXTS)
    texts = PairTexts()
    if not any(role in columns for role in _TEXTS):
        texts.blank(len(first))
        return swapped, texts, False, []
    cells = [[""] * len(first) if role not in columns else _taken(columns[role], first) for role in _TEXTS]
    for row in zip(*cells, strict=True):
        texts.append(*row)
    return swapped, texts, complete, _repeats(prompt[first], a[first], b[first]) if complete else []


def _taken(column: Column, rows: IntArray) -> list[str]:
    values = [*column.values, ""]
    return [values[code] for code in column.code[rows].tolist()]


def _repeats(prompt: IntArray, a: IntArray, b: IntArray) -> list[tuple[int, int]]:
    """Return ``(first, later)`` for every pair whose texts stand under an earlier id as well."""
    seen: dict[tuple[int, int, int], int] = {}
    keys = zip(prompt.tolist(), np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True)
    return [(seen[key], k) for k, key in enumerate(keys) if seen.setdefault(key, k) != k]


def _outcomes(outcome: FloatArray, pair: IntArray, swapped: BoolArray, n_pairs: int) -> FloatArray:
    known = ~np.isnan(outcome)
    turned = np.where(swapped, 1.0 - outcome, outcome)[known]
    count = np.bincount(pair[known], minlength=n_pairs)
    total = np.bincount(pair[known], turned, minlength=n_pairs)
    if ((total != 0) & (total != count)).any():
        raise _GiveUpError
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _audits(columns: Mapping[str, Column], pair: IntArray, n_pairs: int) -> AuditDesign | None:
    by_row = []
    for role in AUDIT_ROLES:
        read = partial(read_cell, role, column=role)
        by_row.append(columns[role].map(read) if role in columns else np.full(len(pair), np.nan))
    by_pair = []
    for values in by_row:
        known = ~np.isnan(values)
        if np.isnan(by_row[0][known]).any():
            raise _GiveUpError
        by_pair.append(np.full(n_pairs, np.nan))
        by_pair[-1][pair[known]] = values[known]
        if (by_pair[-1][pair[known]] != values[known]).any():
            raise _GiveUpError
    return as_design(by_pair)


def _topics(column: Column | None, pair: IntArray, n_pairs: int) -> list[str]:
    if column is None:
        return [""] * n_pairs
    names = [parse_name(value) for value in column.values]
    filled = np.array([*(bool(name) for name in names), False])[column.code]
    if len(set(names)) < len(names):
        raise _GiveUpError
    topic = np.full(n_pairs, -1, dtype=np.int64)
    topic[pair[filled][::-1]] = column.code[filled][::-1]
    if (topic[pair[filled]] != column.code[filled]).any():
        raise _GiveUpError
    return [names[code] if code >= 0 else "" for code in topic.tolist()]
