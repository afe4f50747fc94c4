"""Where annotations come from: files, data sets on the Hub, data frames, iterables of dicts.

Annotation files come from strangers. A record is one JSON object, one CSV row or one Parquet row; none may be larger
than ``MAX_RECORD_BYTES``, and every complaint names the file and the row (a line number for JSONL, a record number
otherwise, both counted from 1 and for CSV without the header).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.csv import delimiter_of, read_csv
from truthful_rlhf.labelers.recorded.files.json import read_json
from truthful_rlhf.labelers.recorded.files.open import Opened, open_file
from truthful_rlhf.labelers.recorded.files.records import MAX_RECORD_BYTES, Batch, Progress, Record, batched, silent
from truthful_rlhf.labelers.recorded.files.tables import hub_records, read_parquet, table_records

__all__ = ["MAX_RECORD_BYTES", "Batch", "Progress", "Record", "Source", "read_records"]

_HUB_ID = re.compile(r"^(hf://)?(?P<name>[\w.-]+/[\w.-]+?)(:(?P<split>[\w.-]+))?$")
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz", ".zst")


class Source:
    """An opened source of records; close it, or use it in a ``with`` statement.

    Args:
        source: a path to a ``.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.txt`` or ``.parquet`` file (the texts also as
            ``.gz`` or ``.zst``); ``hf://owner/name[:split]``; a pandas DataFrame; a ``datasets.Dataset``; or any
            iterable of dicts.
        progress: told the bytes (files) or records (tables) read since the last call.

    Raises:
        AnnotationError: the source does not exist or is of a kind that is not read.
    """

    def __init__(self, source: Any, progress: Progress | None = None) -> None:
        self.source, self.name, self.tick = source, source_name(source), progress or silent
        self.notes: list[str] = []
        self.decimal_comma = False
        self.opened: Opened | None = None
        self.delimiter = ","
        if is_file(source):
            self.opened = open_file(Path(source), self.tick)
            if self.opened.kind == "csv":
                header = self.opened.stream.peek(65_536).split(b"\n", 1)[0].decode("utf-8", "replace")
                self.delimiter = delimiter_of(header)
                self.decimal_comma = self.delimiter != ","

    def batches(self) -> Iterator[Batch]:
        """Yield the numbered records, in batches."""
        if self.opened is None:
            hub = _hub_address(str(self.source)) if isinstance(self.source, str | Path) else None
            records = hub_records(*hub) if hub is not None else table_records(self.source)
            return batched(enumerate(records, start=1), self.tick)
        if self.opened.kind == "parquet":
            return read_parquet(self.opened.path, self.tick)
        return read_csv(self.opened, self.delimiter) if self.opened.kind == "csv" else read_json(self.opened)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.opened is not None:
            self.opened.stream.close()


def read_records(source: Any, progress: Progress | None = None) -> Iterator[Batch]:
    """Yield the numbered records of a source, in batches (see `Source`)."""
    with Source(source, progress) as opened:
        yield from opened.batches()


def source_name(source: Any) -> str:
    """Return how messages and reports call a source: the file's name, the Hub id, or ``<table>``."""
    if not isinstance(source, str | Path):
        return "<table>"
    return str(source) if _hub_address(str(source)) else Path(source).name


def is_file(source: Any) -> bool:
    """Return whether the source is a local file (its size is known and it can be hashed)."""
    return isinstance(source, str | Path) and _hub_address(str(source)) is None


def _hub_address(source: str) -> tuple[str, str] | None:
    """Return ``(data set, split)`` if the source names a Hub data set and no local file."""
    match = _HUB_ID.match(source)
    if match is None:
        if source.startswith("hf://"):
            raise AnnotationError(f"{source}: a Hub data set is written hf://owner/name or hf://owner/name:split")
        return None
    if not source.startswith("hf://"):
        path = Path(source)
        if path.exists() or path.parent.exists() or path.suffix in _SUFFIXES:
            return None
    return match["name"], match["split"] or "train"
