"""JSON: one object per line, an array of objects, and one object that holds a table by column or under a key."""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.open import Opened, lines
from truthful_rlhf.labelers.recorded.files.records import MAX_RECORD_BYTES, Batch, Record, batched, silent

_CHUNK_BYTES = 2**20
_MAX_DOCUMENT = 256 * 2**20


def read_json(opened: Opened) -> Iterator[Batch]:
    """Yield the records of a JSON file."""
    start = opened.stream.peek(4096).lstrip()
    if start.startswith(b"["):
        yield from batched(_array(opened), silent)
    else:
        yield from batched(_lines_or_document(opened), silent)


def _parse(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise AnnotationError(f"{path}: {where}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise AnnotationError(f"{path}: {where}: not valid JSON ({error})") from None


def _as_object(path: Path, where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise AnnotationError(f"{path}: {where}: expected a JSON object, found {type(value).__name__}")
    return value


def _lines_or_document(opened: Opened) -> Iterator[tuple[int, Record]]:
    """Yield one object per line; or, where the file is one object, the rows of the table that it holds."""
    path, numbered = opened.path, ((n, text) for n, text in lines(opened) if text.strip())
    first, second = next(numbered, None), next(numbered, None)
    if first is None:
        return
    if second is not None and path_is_document(first[1]):
        yield from _document(path, itertools.chain([first, second], numbered))
        return
    value = _as_object(path, f"line {first[0]}", _parse(path, f"line {first[0]}", first[1]))
    if second is None:
        rows = table_rows(value)
        yield from [(first[0], value)] if rows is None else enumerate(_objects(path, rows), start=1)
        return
    yield first[0], value
    for number, text in itertools.chain([second], numbered):
        yield number, _as_object(path, f"line {number}", _parse(path, f"line {number}", text))


def path_is_document(line: str) -> bool:
    """Return whether a first line is the beginning of an object that goes on below."""
    return line.strip() == "{" or line.rstrip().endswith((",", ":", "[", "{"))


def _document(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Record]]:
    parts, size = [], 0
    for _, text in numbered:
        parts.append(text)
        size += len(text)
        if size > _MAX_DOCUMENT:
            raise AnnotationError(f"{path}: one JSON object of more than {_MAX_DOCUMENT >> 20} MB; give JSON lines")
    value = _as_object(path, "line 1", _parse(path, "line 1", "".join(parts)))
    rows = table_rows(value)
    yield from [(1, value)] if rows is None else enumerate(_objects(path, rows), start=1)


def _objects(path: Path, rows: list[Any]) -> Iterator[Record]:
    for number, row in enumerate(rows, start=1):
        yield _as_object(path, f"record {number}", row)


def table_rows(value: Record) -> list[Any] | None:
    """Return the rows of an object that holds a table, or None if it is a record itself.

    Examples:
        >>> table_rows({"data": [{"x": 1}]})
        [{'x': 1}]
        >>> table_rows({"x": {"0": 1, "1": 2}, "y": {"0": 3, "1": 4}})  # what pandas writes
        [{'x': 1, 'y': 3}, {'x': 2, 'y': 4}]
        >>> table_rows({"columns": ["x"], "index": [0], "data": [[1]]})
        [{'x': 1}]
        >>> table_rows({"x": 1}) is None
        True
    """
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    for key, table in value.items():
        is_table = isinstance(table, list) and table and all(isinstance(row, dict) for row in table)
        if is_table and (len(value) == 1 or key in ("data", "rows", "records", "items", "results")):
            return list(table)
    if len(value) > 1 and all(isinstance(column, dict) and column for column in value.values()):
        keys = [list(column) for column in value.values()]
        if all(k == keys[0] for k in keys) and all(k.isdigit() for k in keys[0]):
            return [{name: column[k] for name, column in value.items()} for k in keys[0]]
    if value and all(key.isdigit() and isinstance(row, dict) for key, row in value.items()):
        return list(value.values())
    if len(value) > 2 and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if len(lengths) == 1 and lengths != {0}:
            return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    return None


def _array(opened: Opened) -> Iterator[tuple[int, Record]]:
    """Yield the elements of one top-level array, holding about one element at a time."""
    path, chunks = opened.path, _text_chunks(opened)
    buffer, number = next(chunks).lstrip(), 0
    position = 1  # behind the opening bracket
    decode = json.JSONDecoder().raw_decode
    while True:
        while buffer[position : position + 1].isspace() or buffer[position : position + 1] == ",":
            position += 1
        if buffer[position : position + 1] == "]":
            return
        where = f"record {number + 1}"
        try:
            value, position = decode(buffer, position)
        except RecursionError:
            raise AnnotationError(f"{path}: {where}: the JSON is nested too deeply") from None
        except ValueError as error:
            # Perhaps only cut off: read on, at least doubling the text so that rescanning stays linear.
            buffer, position = buffer[position:], 0
            if len(buffer) > MAX_RECORD_BYTES:
                raise AnnotationError(
                    f"{path}: {where} is not valid JSON ({error}) or longer than {MAX_RECORD_BYTES} characters"
                ) from None
            more = _at_least(chunks, max(len(buffer), 1))
            if not more:
                raise AnnotationError(f"{path}: {where}: not valid JSON, or the file is cut off ({error})") from None
            buffer += more
            continue
        number += 1
        yield number, _as_object(path, where, value)


def _at_least(chunks: Iterator[str], length: int) -> str:
    parts: list[str] = []
    total = 0
    while total < length and (chunk := next(chunks, None)) is not None:
        parts.append(chunk)
        total += len(chunk)
    return "".join(parts)


def _text_chunks(opened: Opened) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    while raw := opened.stream.read(_CHUNK_BYTES):
        try:
            yield decoder.decode(raw)
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{opened.path}: not UTF-8 near byte {offset + error.start}") from None
        offset += len(raw)
