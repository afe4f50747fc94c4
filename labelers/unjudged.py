"""Files of pairs that nobody has judged yet, beside those that ``aggregate`` reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.files.source import read_records, source_name
from truthful_rlhf.labelers.recorded.table import read_annotations

_PLACEHOLDER = "nobody"
_TEXTS = ("response_a", "response_b")


def read_pairs(source: str, **options: Any) -> tuple[Annotations, bool]:
    """Return the annotations of a file, and whether anybody judged its pairs; if not, ``nobody`` called all ties.

    Args:
        source: a file or Hub data set that ``aggregate`` reads, or a table of prompt, response_a and response_b, or of
            prompt, chosen and rejected (TRL's preference formats), without any labeler.
        **options: those of `read_annotations`.

    Raises:
        AnnotationError: as `read_annotations`.
    """
    columns = dict(options.pop("columns", None) or {})
    given: Any = source
    placeholder = _placeholder(source, columns) if options.get("format", "auto") in ("auto", "long") else None
    if placeholder is not None:
        given = list(_with(placeholder, source))
        columns |= {name: name for name in placeholder}
        options["format"] = "long" if "report" in placeholder else "chosen_rejected"
    try:
        found = read_annotations(given, columns=columns, **options)
    except AnnotationError as error:
        raise AnnotationError(str(error).replace("<table>", source_name(source))) from None
    return found, placeholder is None


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
