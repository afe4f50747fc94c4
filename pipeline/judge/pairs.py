"""The pairs that are to be judged: of any file that ``aggregate`` reads, and of files that nobody has judged yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.source import source_name
from truthful_rlhf.labelers.unjudged import read_pairs

_TEXTS = ("response_a", "response_b")


@dataclass(frozen=True)
class PairFile:
    """The pairs of a file, with what is known of them."""

    source: str
    pairs: Pairs
    outcome: FloatArray
    """1 A better, 0 B better, NaN not known, shape ``(n,)``."""
    summary: str
    """What was read, in one sentence."""
    notes: tuple[str, ...] = ()


def read_pair_file(source: str, **options: Any) -> PairFile:
    """Return the pairs of a file; reports in it are read over, outcomes and topics are kept.

    Args:
        source: a file or Hub data set that ``aggregate`` reads, or a table of prompt, response_a and response_b, or of
            prompt, chosen and rejected, without any labeler.
        **options: those of `read_annotations`.

    Raises:
        AnnotationError: as `read_annotations`, and where a pair has no texts.
    """
    found, is_judged = read_pairs(source, **{"duplicates": "last", **options})
    if not found.has_texts:
        raise AnnotationError(
            f"{source_name(source)}: a judge reads texts: every pair needs prompt, response_a and response_b"
            " (name them with --column prompt=NAME and so on)"
        )
    texts = found.texts.take(found.text_row)
    prompt, response_a, response_b = (texts.column(name).to_pylist() for name in ("prompt", *_TEXTS))
    pairs = Pairs(found.pair_ids, prompt, response_a, response_b, topic=found.topic)
    known = int((~np.isnan(found.outcome)).sum())
    summary = f"{len(pairs):,} pairs, {known:,} known outcomes"
    if is_judged:
        summary += (
            f", {found.reading.reports:,} reports by {found.n_labelers:,} labelers, which the judges are not shown"
        )
    return PairFile(source_name(source), pairs, found.outcome, summary, found.reading.notes if known else ())
