"""The prompts and responses of a campaign, once per pair: in memory while they are few, on disk when they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

MESSAGES = "messages"
"""Column of the messages of prompts that are conversations, as JSON; empty for a text."""
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("prompt", "response_a", "response_b", MESSAGES)])
_FLUSH_CHARACTERS = 64 * 2**20


class PairTexts:
    """An append-only table of texts; read it after `close`. Its temporary file goes when the object does."""

    def __init__(self) -> None:
        self._columns: tuple[list[str], ...] = ([], [], [], [])
        self._characters = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: Any = None
        self._table: Any = None

    def append(self, prompt: str, response_a: str, response_b: str, messages: str = "") -> None:
        """Add the texts of one pair.

        Args:
            prompt: of the pair; empty if there is none.
            response_a: the same.
            response_b: the same.
            messages: of the prompt, as JSON, if it is a conversation.
        """
        for column, text in zip(self._columns, (prompt, response_a, response_b, messages), strict=True):
            column.append(text)
            self._characters += len(text)
        if self._characters >= _FLUSH_CHARACTERS:
            self._flush()

    def blank(self, n: int) -> None:
        """Add ``n`` pairs without texts."""
        for column in self._columns:
            column.extend([""] * n)

    def close(self) -> PairTexts:
        """Finish writing."""
        if self._writer is None:
            self._table = pa.table([pa.array(c, pa.large_string()) for c in self._columns], schema=_SCHEMA)
        else:
            self._flush()
            self._writer.close()
            self._table = pa.ipc.open_file(pa.memory_map(str(self._path()))).read_all()
        self._columns = ([], [], [], [])
        return self

    def take(self, rows: Sequence[int] | Any) -> Any:
        """Return the texts of some pairs, in that order, as an Arrow table."""
        return self._table.take(pa.array(rows))

    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "pairs.arrow"

    def _flush(self) -> None:
        if self._writer is None:
            self._folder = tempfile.TemporaryDirectory(prefix="truthful-rlhf-")
            self._writer = pa.ipc.new_file(str(self._path()), _SCHEMA)
        self._writer.write(pa.record_batch([pa.array(c, pa.large_string()) for c in self._columns], schema=_SCHEMA))
        for column in self._columns:
            column.clear()
        self._characters = 0
