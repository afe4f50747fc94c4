"""Campaigns that do not fit into memory: chunks in, chunks out.

An online rule carries its state from call to call of ``run_online``, so the parts give exactly what one call gives.
Memory holds one chunk. Batch rules (Dawid-Skene, GLAD, MACE) need all reports at once and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import Aggregator, OnlineRun
from truthful_rlhf.aggregation.campaign import run_online
from truthful_rlhf.aggregation.rules.batch import BatchRule


def run_chunks(aggregator: Aggregator, chunks: Iterable[tuple[ArrayLike, ArrayLike]]) -> Iterator[OnlineRun]:
    """Run a rule over a campaign that comes in pieces.

    Args:
        aggregator: an online rule for N labelers; it learns as the chunks are consumed.
        chunks: (reports ``(n, N)``, outcomes ``(n,)``) in round order.

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
    return (run_online(aggregator, reports, outcomes) for reports, outcomes in chunks)


def _refuse_batch(aggregator: Aggregator) -> None:
    if isinstance(aggregator, BatchRule):
        name = type(aggregator).__name__
        raise ValueError(f"{name} fits all reports at once and cannot work in chunks: use run_online or an online rule")
