"""Campaigns that do not fit into memory: chunks in, chunks out, and from Parquet to Parquet.

An online rule carries its state from call to call of ``run_online``, so the parts give exactly what one call gives.
Memory holds one chunk. Batch rules (Dawid-Skene, GLAD, MACE) need all reports at once and are refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import Aggregator, FloatArray, Key, OnlineRun
from truthful_rlhf.aggregation.campaign import run_online
from truthful_rlhf.aggregation.rules.batch import BatchRule

OUTCOME = "outcome"
SOFT_LABEL = "soft_label"
WEIGHT_PREFIX = "weight_"


def run_chunks(
    aggregator: Aggregator, chunks: Iterable[tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, Iterable[Key]]]
) -> Iterator[OnlineRun]:
    """Run a rule over a campaign that comes in pieces.

    Args:
        aggregator: an online rule for N labelers; it learns as the chunks are consumed.
        chunks: (reports ``(n, N)``, outcomes ``(n,)``) in round order, with the pairs' ids as a third entry for rules
            whose label is drawn from a secret.

    Yields:
        The ``OnlineRun`` of each chunk; concatenated they equal one call of ``run_online``.

    Raises:
        ValueError: a batch rule, or a bad chunk (rounds are counted from the chunk's first).

    Examples:
        >>> from truthful_rlhf.aggregation import OnlineWeighted
        >>> pieces = [([[0.9, 0.2]], [1]), ([[0.8, 0.4]], [0])]
        >>> [run.soft_labels.round(3).tolist() for run in run_chunks(OnlineWeighted(2, eta=0.5), pieces)]
        [[0.55], [0.632]]
    """
    _refuse_batch(aggregator)
    return (run_online(aggregator, *chunk) for chunk in chunks)


def run_parquet(
    aggregator: Aggregator,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    keep_weights: bool = False,
    chunk_rounds: int = 65_536,
) -> int:
    """Run a rule from one Parquet file to another, in bounded memory.

    Args:
        aggregator: an online rule; it learns.
        source: one row per round: a column ``outcome`` (0, 1 or null), every other column the reports of one labeler
            (in [0, 1], null where it did not judge).
        target: written atomically: a column ``soft_label``, one row per round; with ``keep_weights`` also the weights
            before each round in ``weight_<labeler>``.
        keep_weights: whether the weights are computed and written; they take N times the space of the labels.
        chunk_rounds: rounds in memory at a time, >= 1.

    Returns:
        The number of rounds.

    Raises:
        ValueError: a batch rule, no ``outcome`` column, as many labelers as the rule was not made for, bad reports.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _refuse_batch(aggregator)
    target = Path(target)
    n_rounds = 0
    with _opened(source) as table:
        names = table.schema_arrow.names
        if OUTCOME not in names:
            raise ValueError(f"{source}: no column {OUTCOME!r}; columns: {', '.join(names)}")
        labelers = [name for name in names if name != OUTCOME]
        columns = [SOFT_LABEL, *(WEIGHT_PREFIX + name for name in labelers if keep_weights)]
        schema = pa.schema([(name, pa.float64()) for name in columns])
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            scratch = Path(folder) / target.name  # made by the writer, so that the umask decides its mode
            with pq.ParquetWriter(scratch, schema) as writer:
                for batch in table.iter_batches(batch_size=chunk_rounds):
                    run = _run_batch(aggregator, batch, labelers, keep_weights, f"{source}, rounds from {n_rounds}")
                    values = [run.soft_labels, *(run.weights.T if keep_weights else ())]
                    writer.write_batch(pa.record_batch([pa.array(value) for value in values], schema=schema))
                    n_rounds += len(run.soft_labels)
            os.replace(scratch, target)
    return n_rounds


def _run_batch(aggregator: Aggregator, batch: Any, labelers: list[str], keep_weights: bool, where: str) -> OnlineRun:
    reports = np.empty((batch.num_rows, len(labelers)))
    for column, name in enumerate(labelers):
        reports[:, column] = _floats(batch, name, where)
    try:
        return run_online(aggregator, reports, _floats(batch, OUTCOME, where), keep_weights)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _opened(source: str | os.PathLike[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(source)
    except pa.ArrowException as error:
        raise ValueError(f"{source}: not a readable Parquet file ({error})") from None


def _floats(batch: Any, name: str, where: str) -> FloatArray:
    """Return a column of an Arrow batch as floats, null as NaN."""
    import pyarrow as pa

    try:
        values: FloatArray = batch.column(name).cast("float64").to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise ValueError(f"{where}: column {name!r} does not hold numbers ({error})") from None
    return values


def _refuse_batch(aggregator: Aggregator) -> None:
    if isinstance(aggregator, BatchRule):
        name = type(aggregator).__name__
        raise ValueError(f"{name} fits all reports at once and cannot work in chunks: use run_online or an online rule")
