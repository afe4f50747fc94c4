"""Tables that are columns already: Parquet files, data frames, data sets, and data sets on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.csv import refuse_repeated
from truthful_rlhf.labelers.recorded.files.records import MAX_RECORD_BYTES, Batch, Progress, Record

_PARQUET_ROWS = 65_536
_HUB_TIMEOUT_SECONDS = 5.0


def read_parquet(path: Path, tick: Progress) -> Iterator[Batch]:
    """Yield the rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        refuse_repeated(str(path), schema.names)
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


def table_records(table: Any) -> Iterator[Record]:
    """Yield the rows of a DataFrame, a ``datasets`` data set or an iterable of dicts."""
    if hasattr(table, "itertuples"):
        names = [str(name) for name in table.columns]
        refuse_repeated("<table>", names)
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


def hub_records(name: str, split: str) -> Iterator[Record]:
    """Yield the rows of a Hub data set, streamed; fail within seconds where the Hub cannot be reached."""
    with explained(f"hf://{name}", "hub"):
        from datasets import load_dataset
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
    yield from load_dataset(name, split=split, streaming=True)
