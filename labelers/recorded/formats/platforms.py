"""Annotation platforms: Prodigy, Potato, Mechanical Turk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from truthful_rlhf.labelers.recorded.codes import Understood, word_report
from truthful_rlhf.labelers.recorded.formats import long
from truthful_rlhf.labelers.recorded.formats.base import (
    RESPONSES,
    Columns,
    Importer,
    Record,
    Row,
    Sample,
    part_id,
)
from truthful_rlhf.labelers.recorded.options import ReadOptions

_POTATO = {"pair_id": "instance_id", "labeler_id": "user"}
_MTURK = {"pair_id": "HITId", "labeler_id": "WorkerId"}


def is_prodigy(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are examples of Prodigy's ``choice`` interface."""
    return sample.has("options", "accept", "answer")


def is_potato(sample: Sample, options: ReadOptions) -> bool:
    """Return whether this is Potato's table, whose columns of labels are called ``SCHEMA:::LABEL``."""
    return sample.has("user", "instance_id") and _has_report(sample, options)


def is_mturk(sample: Sample, options: ReadOptions) -> bool:
    """Return whether this is a batch file of Mechanical Turk in which the report is known."""
    return sample.has("HITId", "WorkerId") and _has_report(sample, options)


def _has_report(sample: Sample, options: ReadOptions) -> bool:
    report = options.columns.get("report", "report")
    return bool(options.one_hot) or sample.has(report) or (report.startswith("Answer.") and sample.has(report))


def make_potato(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of Potato's table: a long table with known names."""
    return _long_with(sample, options, _POTATO, "potato")


def make_mturk(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of a batch file: a long table with known names."""
    return _long_with(sample, options, _MTURK, "mturk")


def _long_with(sample: Sample, options: ReadOptions, defaults: dict[str, str], name: str) -> Importer:
    columns = {**defaults, **options.columns}
    importer = long.make(sample, options.model_copy(update={"columns": columns}))
    importer.format = name
    return importer


def make_prodigy(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of Prodigy's choices: the options are the responses, or say which response is better.

    Only ``answer: accept`` is a vote. An accepted option is better than every option that was not accepted; two
    accepted options tie.
    """
    columns = Columns(options.columns)
    key = "_input_hash" if sample.has("_input_hash") else "_task_hash"

    def rows(record: Record) -> Iterator[Row]:
        who = next((record[k] for k in ("_annotator_id", "_session_id") if record.get(k)), None)
        who = columns.get("labeler_id", record, default=who)
        prompt = columns.get("prompt", record, default=record.get("prompt") or record.get("text"))
        pair_id = columns.get("pair_id", record, default=record.get(key))
        extras = columns.extras(record)
        accepted = list(record.get("accept") or []) if record.get("answer") == "accept" else []
        a = columns.names.get("response_a") or next((x for x, y in RESPONSES if x in record and y in record), None)
        b = columns.names.get("response_b") or next((y for x, y in RESPONSES if x in record and y in record), None)
        if a and b and a in record and b in record:
            columns.found |= {"response_a", "response_b"}
            report = accepted[0] if len(accepted) == 1 else None
            yield Row(pair_id, prompt, record[a], record[b], who, report, *extras, updated=record.get("_timestamp"))
            return
        responses = [o for o in record["options"] if word_report(str(o.get("id"))) != 0.5]
        for i, j, report in _choices(responses, accepted, record["options"]):
            first, second = _option_text(responses[i]), _option_text(responses[j])
            ids = part_id(pair_id, i, j, len(responses))
            yield Row(ids, prompt, first, second, who, report, *extras, updated=record.get("_timestamp"))

    return Importer("prodigy", rows, options.columns.get("report", "accept"), columns)


def _choices(responses: list[Any], accepted: list[Any], options: list[Any]) -> Iterator[tuple[int, int, Any]]:
    ids = [option.get("id") for option in responses]
    tie = any(option.get("id") in accepted for option in options if option not in responses)
    chosen = {k for k, name in enumerate(ids) if name in accepted}
    for i in range(len(ids)):
        for j in range(i + 1, len(ids)):
            if tie or {i, j} <= chosen:
                yield i, j, Understood(f"{ids[i]} = {ids[j]}", 0.5)
            elif i in chosen or j in chosen:
                yield i, j, Understood(f"{ids[i if i in chosen else j]} accepted", float(i in chosen))
            elif len(ids) == 2:
                yield i, j, None


def _option_text(option: dict[str, Any]) -> Any:
    return next((option[key] for key in ("text", "html", "image") if key in option), option.get("id"))
