"""Records, and the limits that keep a stranger's file from filling the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]
Batch = list[tuple[int, Record]]
"""Numbered records: ``(row, record)``."""
Progress = Callable[[int], None]
"""Called with the number of bytes (files) or records (tables) read since the last call."""

MAX_RECORD_BYTES = 16 * 2**20
BATCH_RECORDS = 8192


def batched(records: Iterator[tuple[int, Record]], tick: Progress) -> Iterator[Batch]:
    """Yield numbered records in batches."""
    batch: Batch = []
    for numbered in records:
        batch.append(numbered)
        if len(batch) == BATCH_RECORDS:
            tick(len(batch))
            yield batch
            batch = []
    if batch:
        tick(len(batch))
        yield batch


def silent(_: int) -> None:
    """Report no progress."""
