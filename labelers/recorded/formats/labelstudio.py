"""Label Studio: JSON (tasks with annotations), JSON_MIN and CSV (one annotation per record).

The preference is a *pairwise* control if there is one, otherwise a *ranker*, otherwise *choices*; where several
controls qualify, ``--column report=CONTROL`` says which one. An annotation that is marked as ground truth gives the
pair's outcome and is no report. Of two annotations by the same user the one updated last counts as the later.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.codes import Understood, word_report
from truthful_rlhf.labelers.recorded.formats.base import (
    Columns,
    Importer,
    Record,
    Row,
    Sample,
    field_names,
    named,
    pairs_of_ranking,
    part_id,
    single_name,
)
from truthful_rlhf.labelers.recorded.options import ReadOptions

_TYPES = ("pairwise", "ranker", "choices", "rating")
_MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}


def matches(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are tasks of the JSON export."""
    return sample.has("data", "annotations")


def matches_min(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are annotations of the JSON_MIN or the CSV export."""
    return sample.has("annotation_id", "annotator") and sample.has("id")


def make(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of the JSON export."""
    columns = Columns(options.columns)
    kind = _preferred_type(sample, options.columns.get("report"))
    if kind == "choices" and len(naming := _controls_that_name_a_response(sample, columns)) == 1:
        kind, columns.names["report"] = None, naming.pop()

    def rows(record: Record) -> Iterator[Row]:
        data, annotations = record["data"], record["annotations"]
        prompt, names = field_names(data, columns)
        if not isinstance(annotations, list):
            raise TypeError("annotations are no list")
        truth = _ground_truth(annotations, names, kind, columns)
        for annotation in annotations:
            if annotation.get("ground_truth"):
                continue
            scopes = (annotation, data, data.get("meta"), record)
            cancelled = annotation.get("was_cancelled")
            value = None if cancelled else _answer(annotation, kind, columns, names)
            outcome, time, topic, chance, floor, wave = columns.extras(annotation, data)
            for i, j, report in _reports(value, names):
                yield Row(
                    columns.get("pair_id", *scopes, default=part_id(record.get("id"), i, j, len(names))),
                    data.get(prompt),
                    data.get(names[i]),
                    data.get(names[j]),
                    columns.get("labeler_id", *scopes, default=named(annotation.get("completed_by"))),
                    report,
                    truth.get((i, j), outcome),
                    time if "round" in columns.names else None,
                    topic,
                    chance,
                    floor,
                    wave,
                    annotation.get("updated_at"),
                )

    return Importer("labelstudio", rows, options.columns.get("report", f"the {kind or 'preference'} control"), columns)


def _controls_that_name_a_response(sample: Sample, columns: Columns) -> set[str]:
    """Return the choices controls whose choices are the names of the response fields."""
    found = set()
    for record in sample.records:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # said when the row is read
            _, names = field_names(record["data"], columns)
            results = [result for annotation in record["annotations"] for result in annotation.get("result") or []]
            found |= {str(result.get("from_name")) for result in results if _names_a_response(result, names)}
    return found


def _preferred_type(sample: Sample, chosen: str | None) -> str | None:
    """Return which type of control holds the preference in these tasks."""
    if chosen is not None:
        return None
    found = set()
    for made in sample.values("annotations"):
        for annotation in made if isinstance(made, list) else []:
            results = annotation.get("result") if isinstance(annotation, dict) else None
            for result in results if isinstance(results, list) else []:
                if isinstance(result, dict):
                    found.add(result.get("type"))
    return next((kind for kind in _TYPES if kind in found), None)


def _answer(annotation: dict[str, Any], kind: str | None, columns: Columns, names: list[str]) -> Any:
    """Return the value of the preference's control in one annotation; a choice that names a response always counts."""
    controls: dict[str, Any] = {}
    results = annotation.get("result") or []
    if not isinstance(results, list):
        raise TypeError("result is no list")
    for result in results:
        if kind is None or result.get("type") == kind or _names_a_response(result, names):
            if not isinstance(result.get("value") or {}, dict):
                raise TypeError("a result without a value")
            controls.setdefault(str(result.get("from_name", result.get("type"))), result.get("value") or {})
    name = single_name(controls, columns, "control")
    return None if name is None else controls[name]


def _names_a_response(result: dict[str, Any], names: list[str]) -> bool:
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) and result.get("type") == "choices" else None
    return isinstance(choices, list) and bool(choices) and choices[0] in names


def _ground_truth(
    annotations: list[Any], names: list[str], kind: str | None, columns: Columns
) -> dict[tuple[int, int], Any]:
    """Return the outcome of each pair from all annotations that are marked as ground truth; they must agree."""
    truth: dict[tuple[int, int], Any] = {}
    for annotation in annotations:
        if not annotation.get("ground_truth") or annotation.get("was_cancelled"):
            continue
        for i, j, report in _reports(_answer(annotation, kind, columns, names), names):
            if report is None:
                continue
            known = truth.setdefault((i, j), report)
            if known != report:
                raise ValueError("two annotations are marked as ground truth and contradict each other")
    return truth


def _reports(value: Any, names: list[str]) -> Iterator[tuple[int, int, Any]]:
    """Yield ``(i, j, report)`` for every pair that a control's value says something about."""
    ranking = _ranking(value)
    if ranking is not None:
        order = {}
        for rank, name in enumerate(ranking):
            if name not in names:
                raise ValueError(f"the ranker names {name!r}{nearest(str(name), names)}, which is no response field")
            order[names.index(name)] = float(rank)
        yield from pairs_of_ranking(order, dict(enumerate(names)))
        return
    if isinstance(value, dict):
        value = next((value[key] for key in ("selected", "choices", "rating", "text") if key in value), None)
    if isinstance(value, list):
        value = value[0] if value else None
        if isinstance(value, dict):
            yield from _reports(value, names)
            return
    sides = dict(zip(names[:2], (1.0, 0.0), strict=True))
    yield 0, 1, Understood(value, sides[value]) if isinstance(value, str) and value in sides else value


def _ranking(value: Any) -> list[Any] | None:
    if isinstance(value, dict) and "ranker" in value:
        value = value["ranker"]
    if isinstance(value, dict):
        buckets = [v for key, v in value.items() if isinstance(v, list) and key != "_" and "choices" not in key]
        return buckets[0] if len(buckets) == 1 and len(value) - ("_" in value) == 1 and "choices" not in value else None
    return None


def make_min(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of JSON_MIN and CSV: the fields of a task beside the values of its controls."""
    columns = Columns(options.columns)
    chosen = options.columns.get("report") or _control(sample)

    def rows(record: Record) -> Iterator[Row]:
        prompt, names = field_names(record, columns)
        if "report" in columns.names and chosen in record:
            columns.found.add("report")
        for i, j, report in _reports(_parsed(record.get(chosen)), names):
            outcome, time, topic, chance, floor, wave = columns.extras(record)
            yield Row(
                columns.get("pair_id", record, default=part_id(record.get("id"), i, j, len(names))),
                record.get(prompt),
                record.get(names[i]),
                record.get(names[j]),
                columns.get("labeler_id", record, default=named(record.get("annotator"))),
                report,
                outcome,
                time,
                topic,
                chance,
                floor,
                wave,
                record.get("updated_at"),
            )

    note = "this export does not say which annotations are ground truth or were skipped; the JSON export does"
    return Importer("labelstudio_min", rows, chosen, columns, notes=[note])


def _control(sample: Sample) -> str:
    """Return the column of the control that holds the preference."""
    prompt, names = field_names(dict.fromkeys(sample.keys), Columns({}))
    found: dict[str, list[str]] = {"pairwise": [], "ranker": [], "choices": []}
    for key in sample.keys:
        if key in _MIN_KEYS or key == prompt or key in names:
            continue
        values = [_parsed(value) for value in sample.values(key)]
        kinds = {_kind_of(value, names) for value in values}
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            found[kind].append(key)
    for candidates in found.values():
        if candidates:
            return single_name(candidates, Columns({}), "control") or ""
    raise ValueError("no control that holds a preference. Say which one with --column report=CONTROL")


def _kind_of(value: Any, names: list[str]) -> str | None:
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict) and "selected" in first:
        return "pairwise"
    if isinstance(first, dict) and _ranking(first) is not None:
        return "ranker"
    if isinstance(first, str) and (first in names or word_report(first) in (0.0, 0.5, 1.0)):
        return "choices"
    return None


def _parsed(value: Any) -> Any:
    """Return a cell of the CSV export as what it was: lists and objects are written as JSON."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
