"""Write what training needs: the soft-label table, and preference data sets that TRL loads as they are.

All tables are Parquet, written in row groups so that texts never have to fit in memory together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from truthful_rlhf.pipeline.labels.apply import orient
from truthful_rlhf.pipeline.storage.artifacts import new_file_beside

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult

_CHUNK_PAIRS = 20_000
_PLAIN = ["prompt", "chosen", "rejected", "soft_label"]


def soft_label_frames(result: CampaignResult) -> Iterator[pd.DataFrame]:
    """Yield the soft-label table (one row per pair) in round order; pairs that nobody judged are left out."""
    annotations = result.annotations
    n_labelers = np.diff(annotations.start)
    judged = np.flatnonzero(n_labelers > 0)
    for first in range(0, len(judged), _CHUNK_PAIRS):
        rounds = judged[first : first + _CHUNK_PAIRS]
        pairs = annotations.texts.take(annotations.text_row[rounds]).to_pandas()
        pairs["pair_id"] = [annotations.pair_ids[t] for t in rounds]
        yield orient(pairs, result.soft_labels[rounds], n_labelers[rounds], ~np.isnan(result.revealed[rounds]))


def conversational(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a soft-label table's training columns in TRL's conversational format."""
    return pd.DataFrame(
        {
            "prompt": [[{"role": "user", "content": text}] for text in frame["prompt"]],
            "chosen": [[{"role": "assistant", "content": text}] for text in frame["chosen"]],
            "rejected": [[{"role": "assistant", "content": text}] for text in frame["rejected"]],
            "soft_label": frame["soft_label"],
        }
    )


def write_labels(result: CampaignResult, out: Path) -> list[Path]:
    """Write ``soft_labels.parquet`` and, if the pairs have texts, the two TRL data sets; return the paths."""
    paths = [out / "soft_labels.parquet"]
    if result.annotations.has_texts:
        paths += [out / "trl_preference.parquet", out / "trl_preference_conversational.parquet"]
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_parquet_writer(path)) for path in paths]
        for frame in soft_label_frames(result):
            writers[0](frame)
            if result.annotations.has_texts:
                writers[1](frame[_PLAIN])
                writers[2](conversational(frame))
    return paths


def write_weights(result: CampaignResult, out: Path) -> Path:
    """Write ``weights.parquet``: ``round, labeler_id, weight``, before each recorded round and after the last."""
    path = out / "weights.parquet"
    n_rounds, n = result.history.shape
    labelers = np.tile(np.arange(n, dtype=np.int32), n_rounds)
    table = {
        "round": np.repeat(result.history_rounds, n),
        "labeler_id": pa.DictionaryArray.from_arrays(labelers, pa.array(result.annotations.labeler_ids)),
        "weight": result.history.ravel(),
    }
    with _parquet_writer(path) as write:
        write(pa.table(table))
    return path


@contextlib.contextmanager
def _parquet_writer(path: Path) -> Iterator[Any]:
    """Give a function that appends tables; the file appears under its name when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = new_file_beside(path)
    writer: Any = None

    def write(table: Any) -> None:
        nonlocal writer
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
        if writer is None:
            writer = pq.ParquetWriter(scratch, table.schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))

    try:
        yield write
        if writer is not None:
            writer.close()
            os.replace(scratch, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
