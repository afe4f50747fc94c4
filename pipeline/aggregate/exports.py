"""Write what training needs: the soft-label table, and preference data sets that TRL loads as they are.

All tables are Parquet, written in row groups so that texts never have to fit in memory together.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from truthful_rlhf.aggregation.base import BoolArray
from truthful_rlhf.labelers.recorded.texts import MESSAGES
from truthful_rlhf.pipeline.labels.apply import orient
from truthful_rlhf.pipeline.storage.artifacts import new_file_beside

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult

_CHUNK_PAIRS = 20_000
SOFT_LABELS = "soft_labels.parquet"
PLAIN = "trl_preference.parquet"
CONVERSATIONAL = "trl_preference_conversational.parquet"
RESAMPLED = "trl_preference_resampled.parquet"
WEIGHTED = "trl_preference_weighted.parquet"
_COLUMNS = ["prompt", "chosen", "rejected", "soft_label"]


def soft_label_frames(result: CampaignResult) -> Iterator[pd.DataFrame]:
    """Yield the soft-label table (one row per pair) in round order; pairs that nobody judged are left out.

    The column ``messages`` has the messages of prompts that are conversations, as JSON.
    """
    annotations = result.annotations
    n_labelers = np.diff(annotations.start)
    judged = np.flatnonzero(n_labelers > 0)
    for first in range(0, len(judged), _CHUNK_PAIRS):
        rounds = judged[first : first + _CHUNK_PAIRS]
        pairs = annotations.texts.take(annotations.text_row[rounds]).to_pandas()
        pairs["pair_id"] = [annotations.pair_ids[t] for t in rounds]
        table = orient(pairs, result.soft_labels[rounds], n_labelers[rounds], ~np.isnan(result.revealed[rounds]))
        yield table.assign(**{MESSAGES: pairs[MESSAGES].to_numpy()})


def conversational(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a soft-label table's training columns in TRL's conversational format; a plain prompt is the user's."""
    both = zip(frame["prompt"], frame[MESSAGES], strict=True)
    return pd.DataFrame(
        {
            "prompt": [json.loads(m) if m else [{"role": "user", "content": text}] for text, m in both],
            "chosen": [[{"role": "assistant", "content": text}] for text in frame["chosen"]],
            "rejected": [[{"role": "assistant", "content": text}] for text in frame["rejected"]],
            "soft_label": frame["soft_label"],
        }
    )


def resampled(frame: pd.DataFrame, copies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return a soft-label table for trainers that take winners only: each pair several times, winners drawn from q.

    Of k copies of a pair, floor(k q + u) have the likelier response as their winner, with u uniform in [0, 1): k q in
    expectation, and never off by one copy or more. So a trainer's loss on the copies has the expectation of k times
    the cross-entropy against q.

    Args:
        frame: columns ``prompt, chosen, rejected, soft_label``, with ``soft_label`` = q = P(chosen better).
        copies: k >= 1.
        rng: draws u per pair.

    Returns:
        Columns ``prompt, chosen, rejected, pair_id``, k rows per pair.
    """
    wins = np.floor(copies * frame["soft_label"].to_numpy() + rng.random(len(frame))).astype(int).clip(0, copies)
    table = frame.loc[frame.index.repeat(copies), ["prompt", "chosen", "rejected", "pair_id"]].reset_index(drop=True)
    lost = np.tile(np.arange(copies), len(frame)) >= np.repeat(wins, copies)
    return _turned(table, lost)


def weighted(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a soft-label table for trainers that weight examples: both directions, with weights q and 1 - q.

    The weighted hard loss is the cross-entropy against q exactly. Rows of weight 0 are left out.

    Args:
        frame: columns ``prompt, chosen, rejected, soft_label``, with ``soft_label`` = q = P(chosen better).

    Returns:
        Columns ``prompt, chosen, rejected, pair_id, weight``; the weights of a pair sum to 1.
    """
    table = frame.loc[frame.index.repeat(2), ["prompt", "chosen", "rejected", "pair_id"]].reset_index(drop=True)
    turned = np.tile([False, True], len(frame))
    q = np.repeat(frame["soft_label"].to_numpy(), 2)
    table = _turned(table, turned).assign(weight=np.where(turned, 1.0 - q, q))
    return table[table["weight"] > 0].reset_index(drop=True)


def _turned(table: pd.DataFrame, where: BoolArray) -> pd.DataFrame:
    """Return a table with the winner and the loser of some rows exchanged."""
    chosen, rejected = table["chosen"], table["rejected"]
    return table.assign(chosen=chosen.mask(where, rejected), rejected=rejected.mask(where, chosen))


def write_labels(result: CampaignResult, out: Path, copies: int = 0) -> list[Path]:
    """Write ``soft_labels.parquet`` and, if the pairs have texts, the TRL data sets; return the paths.

    Args:
        result: of the campaign.
        out: folder of the files.
        copies: per pair in the data sets for trainers without soft labels; 0 writes none of them.
    """
    paths = [out / SOFT_LABELS]
    if result.annotations.has_texts:
        paths += [out / PLAIN, out / CONVERSATIONAL]
        paths += [out / RESAMPLED, out / WEIGHTED] if copies else []
    rng = np.random.default_rng([result.settings.seed, 3])
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_parquet_writer(path)) for path in paths]
        for frame in soft_label_frames(result):
            writers[0](frame.drop(columns=MESSAGES))
            if result.annotations.has_texts:
                writers[1](frame[_COLUMNS])
                writers[2](conversational(frame))
                if copies:
                    writers[3](resampled(frame, copies, rng))
                    writers[4](weighted(frame))
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
