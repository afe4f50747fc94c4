"""The pairs that are to be judged: of any file that ``aggregate`` reads, and of files that nobody has judged yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.source import read_records, source_name
from truthful_rlhf.labelers.recorded.table import read_annotations

_PLACEHOLDER = "nobody"
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
    columns = dict(options.pop("columns", None) or {})
    given: Any = source
    placeholder = _placeholder(source, columns) if options.get("format", "auto") in ("auto", "long") else None
    if placeholder is not None:
        given = list(_with(placeholder, source))
        columns |= {name: name for name in placeholder}
        options["format"] = "long" if "report" in placeholder else "chosen_rejected"
    try:
        found = read_annotations(given, columns=columns, **{"duplicates": "last", **options})
    except AnnotationError as error:
        raise AnnotationError(str(error).replace("<table>", source_name(source))) from None
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
    if placeholder is None:
        summary += (
            f", {found.reading.reports:,} reports by {found.n_labelers:,} labelers, which the judges are not shown"
        )
    return PairFile(source_name(source), pairs, found.outcome, summary, found.reading.notes if known else ())


def _placeholder(source: str, columns: dict[str, str]) -> dict[str, Any] | None:
    """Return the columns that a file of pairs without labelers lacks of an annotation table; None if it has them."""
    first = next(read_records(source), [])
    keys = {str(key) for _, record in first for key in record}
    is_pairs = all(columns.get(name, name) in keys for name in _TEXTS)
    is_chosen = {"chosen", "rejected"} <= keys and "report" not in columns
    if "labeler_id" in columns or "labeler_id" in keys or not (is_pairs or is_chosen):
        return None
    if is_pairs and "report" not in columns and "report" not in keys:
        return {"labeler_id": _PLACEHOLDER, "report": "tie"}
    return {"labeler_id": _PLACEHOLDER} if is_chosen and not is_pairs else None


def _with(placeholder: dict[str, Any], source: str) -> Iterator[dict[str, Any]]:
    for batch in read_records(source):
        for _, record in batch:
            yield {**record, **placeholder}
