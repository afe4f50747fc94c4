"""CSV and TSV: commas, semicolons or tabs, whichever the header has most of."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.open import Opened, lines
from truthful_rlhf.labelers.recorded.files.records import MAX_RECORD_BYTES, Batch, Record, batched, silent


@contextmanager
def _field_limit() -> Iterator[None]:
    """Allow CSV fields as long as any other record; the csv module keeps this limit globally."""
    previous = csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def read_csv(opened: Opened, delimiter: str) -> Iterator[Batch]:
    """Yield the records of a table; row 1 is the first below the header."""
    path = opened.path
    with _field_limit():
        texts = (text for _, text in lines(opened))
        first = next(texts, None)
        if first is None:
            return
        header = next(csv.reader([first], delimiter=delimiter))
        refuse_repeated(str(path), header)
        yield from batched(_csv_records(path, csv.reader(texts, delimiter=delimiter), header), silent)


def delimiter_of(header: str) -> str:
    """Return what separates the columns of a header."""
    return max(",;\t", key=header.count)


def refuse_repeated(where: str, names: list[str]) -> None:
    """Refuse a header in which a name occurs twice."""
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise AnnotationError(f"{where}: two columns have the same name: {repeated[0]!r}")


def _csv_records(path: Path, reader: Any, header: list[str]) -> Iterator[tuple[int, Record]]:
    number = 0
    try:
        for fields in reader:
            if not fields:
                continue
            number += 1
            if len(fields) != len(header):
                raise AnnotationError(
                    f"{path}: row {number}: {len(fields)} fields, the header has {len(header)} "
                    "(a quote or a separator inside a text must be quoted)"
                )
            yield number, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{path}: row {number + 1}: not valid CSV ({error})") from None
