"""Annotation tables for hostile tests: good ones, and ways to spoil them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]

KINDS = ("jsonl", "json", "csv", "parquet")


def good_rows(n_pairs: int = 3, labelers: Sequence[str] = ("ann", "bob", "cleo")) -> Rows:
    """Return a small valid table in which every labeler judges every pair and every outcome is known."""
    return [
        {
            "pair_id": f"p{t}",
            "prompt": f"prompt {t}",
            "response_a": f"first {t}",
            "response_b": f"second {t}",
            "labeler_id": labeler,
            "report": round(0.1 + 0.8 * ((t + k) % 3) / 2, 3),
            "outcome": (t + 1) % 2,
        }
        for t in range(n_pairs)
        for k, labeler in enumerate(labelers)
    ]


def spoilt(row: int, **cells: Any) -> Rows:
    """Return the good rows with some cells of one row (counted from 1) replaced."""
    rows = good_rows()
    rows[row - 1] |= cells
    return rows


def encoded(rows: Rows, kind: str) -> bytes:
    """Return a table as a file of the given kind."""
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("utf-8", "surrogatepass")
    sink = pa.BufferOutputStream()
    texts = [[None if row.get(name) is None else str(row[name]) for row in rows] for name in columns]
    pq.write_table(pa.table(texts, names=columns), sink)
    return sink.getvalue().to_pybytes()


def parquet(**columns: Any) -> bytes:
    """Return a Parquet file with just these columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()
