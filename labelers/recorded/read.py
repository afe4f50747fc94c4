"""Read raw records from annotation files, a bounded amount at a time.

Annotation files come from strangers. A record is one JSON object, one CSV row or one Parquet row; none may be larger
than ``MAX_RECORD_BYTES``, nothing compressed is opened, and every complaint names the file and the row (a line number
for JSONL, a record number otherwise, both counted from 1 and for CSV without the header).
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from truthful_rlhf.aggregation.names import nearest

Record = dict[str, Any]
Batch = list[tuple[int, Record]]
"""Numbered records: ``(row, record)``."""
Progress = Callable[[int], None]
"""Called with the number of bytes (files) or records (tables) read since the last call."""

MAX_RECORD_BYTES = 16 * 2**20
BATCH_RECORDS = 8192
_CHUNK_BYTES = 2**20
_PARQUET_ROWS = 65_536
_BOM = b"\xef\xbb\xbf"
_COMPRESSED = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
_HUB_ID = re.compile(r"^(hf://)?(?P<name>[\w.-]+/[\w.-]+?)(:(?P<split>[\w.-]+))?$")
_HUB_TIMEOUT_SECONDS = 5.0


class AnnotationError(ValueError):
    """An annotation source that cannot be used, with the file, the row and what would be right."""


def read_records(source: Any, progress: Progress | None = None) -> Iterator[Batch]:
    """Yield the numbered records of a file, a Hub data set, a table or an iterable of dicts, in batches.

    Args:
        source: a path to a ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet`` file; ``hf://owner/name[:split]``;
            a pandas DataFrame; a ``datasets.Dataset``; or any iterable of dicts.
        progress: called as reading goes on.

    Raises:
        AnnotationError: the source does not exist, is compressed, or a record cannot be read.
    """
    tick = progress or (lambda _: None)
    if not isinstance(source, str | Path):
        yield from _batched(enumerate(_table_records(source), start=1), tick)
    elif (hub := _hub_address(str(source))) is not None:
        yield from _batched(enumerate(_hub_records(*hub), start=1), tick)
    else:
        path = Path(source)
        yield from _file_reader(path)(path, tick)


def source_name(source: Any) -> str:
    """Return how messages and reports call a source: the file's name, the Hub id, or ``<table>``."""
    if not isinstance(source, str | Path):
        return "<table>"
    return str(source) if _hub_address(str(source)) else Path(source).name


def is_file(source: Any) -> bool:
    """Return whether the source is a local file (its size is known and it can be hashed)."""
    return isinstance(source, str | Path) and _hub_address(str(source)) is None


# ---- files


def _file_reader(path: Path) -> Callable[[Path, Progress], Iterator[Batch]]:
    try:
        if not path.exists():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise AnnotationError(f"{path}: no such file{nearest(path.name, siblings)}")
        if not path.is_file():
            raise AnnotationError(f"{path}: not a regular file")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise AnnotationError(f"{str(path)[:200]}: cannot be opened ({error.strerror})") from None
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise AnnotationError(
                f"{path}: this is {kind}; compressed files are not opened, because a small one can unpack to more than "
                "the disk holds. Unpack it yourself and give the JSONL, CSV or Parquet file inside"
            )
    if not head:
        raise AnnotationError(f"{path}: the file is empty")
    suffix = path.suffix.lower()
    if head.startswith(b"PAR1"):
        return _parquet
    if suffix in (".csv", ".tsv"):
        return _csv
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _json
    raise AnnotationError(f"{path}: unknown kind of file {suffix!r}; valid: .jsonl, .json, .csv, .tsv, .parquet")


def _lines(path: Path, file: BinaryIO, tick: Progress) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, decoded; a line beyond the limit is never read whole."""
    number = 0
    while raw := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        if len(raw) > MAX_RECORD_BYTES:
            raise AnnotationError(f"{path}: line {number} is longer than {MAX_RECORD_BYTES} bytes")
        tick(len(raw))
        if number == 1:
            raw = raw.removeprefix(_BOM)
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AnnotationError(
                f"{path}: line {number}: not UTF-8 at byte {error.start} of the line (0x{raw[error.start]:02x}); "
                "convert it first, e.g. iconv -f latin1 -t utf-8"
            ) from None


def _parse(path: Path, where: str, text: str) -> Record:
    try:
        value = json.loads(text)
    except RecursionError:
        raise AnnotationError(f"{path}: {where}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise AnnotationError(f"{path}: {where}: not valid JSON ({error})") from None
    return _as_object(path, where, value)


def _as_object(path: Path, where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise AnnotationError(f"{path}: {where}: expected a JSON object, found {type(value).__name__}")
    return value


def _json(path: Path, tick: Progress) -> Iterator[Batch]:
    """Read JSON lines, or one array of objects (what Argilla and Label Studio export)."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()
        file.seek(0)
        if start.startswith(b"["):
            yield from _batched(_json_array(path, file, tick), lambda _: None)
        else:
            lines = _lines(path, file, tick)
            records = ((n, _parse(path, f"line {n}", text)) for n, text in lines if text.strip())
            yield from _batched(records, lambda _: None)


def _json_array(path: Path, file: BinaryIO, tick: Progress) -> Iterator[tuple[int, Record]]:
    """Yield the elements of one top-level array, holding about one element at a time."""
    chunks = _text_chunks(path, file, tick)
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


def _text_chunks(path: Path, file: BinaryIO, tick: Progress) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    while raw := file.read(_CHUNK_BYTES):
        try:
            yield decoder.decode(raw)
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{path}: not UTF-8 near byte {offset + error.start}") from None
        offset += len(raw)
        tick(len(raw))


@contextmanager
def _field_limit() -> Iterator[None]:
    """Allow CSV fields as long as any other record; the csv module keeps this limit globally."""
    previous = csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _csv(path: Path, tick: Progress) -> Iterator[Batch]:
    with path.open("rb") as file, _field_limit():
        lines = (text for _, text in _lines(path, file, tick))
        first = next(lines)
        delimiter = max(",;\t", key=first.count)
        header = next(csv.reader([first], delimiter=delimiter))
        _refuse_repeated(str(path), header)
        yield from _batched(_csv_records(path, csv.reader(lines, delimiter=delimiter), header), lambda _: None)


def _refuse_repeated(where: str, names: list[str]) -> None:
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


def _parquet(path: Path, tick: Progress) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        _refuse_repeated(str(path), schema.names)
        # Dictionary columns keep a text that occurs a million times in memory once.
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            size, rows = path.stat().st_size, max(1, file.metadata.num_rows)
            number = 1
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                columns = [_column_values(path, name, batch.column(name)) for name in batch.schema.names]
                names = batch.schema.names
                yield [
                    (number + k, dict(zip(names, values, strict=True)))
                    for k, values in enumerate(zip(*columns, strict=True))
                ]
                number += batch.num_rows
                tick(size * batch.num_rows // rows)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise AnnotationError(f"{path}: not a readable Parquet file ({error})") from None


def _column_values(path: Path, name: str, column: Any) -> list[Any]:
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    values = column.dictionary.to_pylist()
    if any(isinstance(v, str) and len(v) > MAX_RECORD_BYTES for v in values):
        raise AnnotationError(f"{path}: column {name!r} has a text longer than {MAX_RECORD_BYTES} characters")
    return [None if k is None else values[k] for k in column.indices.to_pylist()]


# ---- tables and the Hub


def _table_records(table: Any) -> Iterator[Record]:
    """Yield the rows of a DataFrame, a ``datasets`` data set or an iterable of dicts."""
    if hasattr(table, "itertuples"):
        names = [str(name) for name in table.columns]
        _refuse_repeated("<table>", names)
        table = table.astype(object).where(table.notna(), None)  # pandas has four ways to say "missing"
        for values in table.itertuples(index=False, name=None):
            yield dict(zip(names, values, strict=True))
        return
    if not isinstance(table, Iterable):
        raise AnnotationError(
            f"<table>: expected a DataFrame, a data set or an iterable of dicts, found {type(table).__name__}"
        )
    for number, record in enumerate(table, start=1):
        if not isinstance(record, dict):
            raise AnnotationError(f"<table>: row {number}: expected a dict, found {type(record).__name__}")
        yield record


def _hub_address(source: str) -> tuple[str, str] | None:
    """Return ``(data set, split)`` if the source names a Hub data set and no local file."""
    match = _HUB_ID.match(source)
    if match is None:
        if source.startswith("hf://"):
            raise AnnotationError(f"{source}: a Hub data set is written hf://owner/name or hf://owner/name:split")
        return None
    if not source.startswith("hf://"):
        path = Path(source)
        if path.exists() or path.parent.exists() or path.suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet"):
            return None
    return match["name"], match["split"] or "train"


def _hub_records(name: str, split: str) -> Iterator[Record]:
    """Yield the rows of a Hub data set, streamed; fail within seconds where the Hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=_HUB_TIMEOUT_SECONDS)
    except RepositoryNotFoundError:
        raise AnnotationError(
            f"{name}: neither a file here nor a data set on the Hub (private ones need a login)"
        ) from None
    except Exception as error:  # the Hub's client raises whatever its HTTP library raises
        raise AnnotationError(
            f"{name}: there is no such file, and as a Hub data set it cannot be reached ({type(error).__name__}). "
            "Download it where there is a connection and give the JSONL, CSV or Parquet file"
        ) from None
    from datasets import load_dataset

    yield from load_dataset(name, split=split, streaming=True)


def _batched(records: Iterator[tuple[int, Record]], tick: Progress) -> Iterator[Batch]:
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
