"""Argilla 2 (records, and data sets made with ``flatten=True``) and Argilla 1 (records, and its layout on the Hub).

A question holds a label, a rating or a ranking. Only submitted responses are reports: drafts and discarded ones count
as "did not judge". Rankings, in every form in which Argilla writes them, become one pair for every two responses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.codes import Understood
from truthful_rlhf.labelers.recorded.formats.base import (
    Columns,
    Importer,
    Record,
    Row,
    Sample,
    field_names,
    pairs_of_ranking,
    part_id,
    single_name,
)
from truthful_rlhf.labelers.recorded.formats.conversations import plain_text, prompt_text
from truthful_rlhf.labelers.recorded.options import ReadOptions

_NO_STATUS = (
    "these records do not say which responses are drafts or discarded, so all of them count; records exported with "
    "flatten=True do say it"
)

Answers = list[dict[str, Any]]
"""``user_id``, ``value`` and ``status`` of each response to one question."""


def matches(sample: Sample, options: ReadOptions) -> bool:
    """Return whether these are records of Argilla, of version 1 or 2, flat or nested."""
    return sample.has("fields", "responses") or any(key.endswith(".responses.users") for key in sample.keys)


def is_hub_1(sample: Sample, options: ReadOptions) -> bool:
    """Return whether this is Argilla 1's layout on the Hub: a list of responses in a column beside its suggestion."""
    return any(_is_hub_question(key, sample) for key in sample.keys)


def _is_hub_question(key: str, sample: Sample) -> bool:
    answers = [a for value in sample.values(key) if isinstance(value, list) for a in value if isinstance(a, dict)]
    return f"{key}-suggestion" in sample.keys and any({"user_id", "value"} <= set(a) for a in answers)


def make(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of Argilla's records; nested and flat ones may not be mixed."""
    columns = Columns(options.columns)
    nested = sample.has("fields", "responses")
    if not matches(sample, options):
        raise TypeError("neither fields and responses nor QUESTION.responses.users")
    answers_of = _nested_answers if nested else _flat_answers

    def rows(record: Record) -> Iterator[Row]:
        fields = record["fields"] if nested else record
        metadata = _metadata(record)
        yield from _rows(record, fields, answers_of(record, columns), columns, (metadata, record))

    notes = [_NO_STATUS] if nested and not _has_status(sample) else []
    return Importer("argilla", rows, options.columns.get("report", "the question"), columns, notes=notes)


def _has_status(sample: Sample) -> bool:
    """Return whether the responses say if they are submitted, drafts or discarded."""
    for responses in sample.values("responses"):
        groups = responses.values() if isinstance(responses, dict) else [responses]
        for answers in groups:
            if isinstance(answers, list) and any(isinstance(a, dict) and "status" in a for a in answers):
                return True
    return False


def make_hub_1(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of Argilla 1's layout on the Hub."""
    columns = Columns(options.columns)
    questions = [key for key in sample.keys if _is_hub_question(key, sample)]

    def rows(record: Record) -> Iterator[Row]:
        name = _chosen(questions, columns)
        answers = record.get(name) or [] if name else []
        yield from _rows(record, record, answers, columns, (_metadata(record), record))

    return Importer("argilla1_hub", rows, options.columns.get("report", questions[0]), columns)


def _rows(
    record: Record, fields: Mapping[str, Any], answers: Answers, columns: Columns, scopes: Iterable[Any]
) -> Iterator[Row]:
    prompt, names = field_names(fields, columns)
    texts = [plain_text(fields.get(name)) for name in names]
    scopes = tuple(scopes)
    extras = columns.extras(*scopes)
    identity = next((record[key] for key in ("id", "external_id") if record.get(key) is not None), None)
    pair_id = columns.get("pair_id", *scopes, default=identity)
    for answer in answers:
        who = columns.get("labeler_id", answer, *scopes, default=answer.get("user_id"))
        submitted = answer.get("status") in (None, "submitted")
        for i, j, report in _reports(answer.get("value") if submitted else None, names):
            yield Row(
                part_id(pair_id, i, j, len(names)),
                prompt_text(fields.get(prompt)),
                texts[i],
                texts[j],
                who,
                report,
                *extras,
                updated=record.get("updated_at"),
            )


def _reports(value: Any, names: list[str]) -> Iterator[tuple[int, int, Any]]:
    """Yield ``(i, j, report)`` for every pair that an answer says something about."""
    order = _order(value, names)
    if order is not None:
        yield from pairs_of_ranking(order, dict(enumerate(names)))
    elif len(names) == 2:
        named = {names[0]: 1.0, names[1]: 0.0}
        known = isinstance(value, str) and value in named
        yield 0, 1, Understood(value, named[value]) if known else value
    elif isinstance(value, str) and value in names:  # the best of three or more: better than every other
        best = names.index(value)
        for k in range(len(names)):
            if k != best:
                yield min(best, k), max(best, k), Understood(f"{value} chosen", float(best < k))
    elif value is not None:
        raise ValueError(f"the answer {value!r} names none of {', '.join(names)}{nearest(str(value), names)}")


def _order(value: Any, names: list[str]) -> dict[int, float] | None:
    """Return the rank of each response, or None if the answer is no ranking."""
    if isinstance(value, dict) and isinstance(value.get("rank"), list):  # {"rank": [2, 1], "value": [field, field]}
        value = [{"value": v, "rank": r} for v, r in zip(value["value"], value["rank"], strict=True)]
    if not isinstance(value, list) or not value:
        return None
    ranks = {}
    for position, entry in enumerate(value, start=1):
        name, rank = (entry.get("value"), entry.get("rank")) if isinstance(entry, dict) else (entry, position)
        if name not in names:
            raise ValueError(f"the ranking names {name!r}, which is none of {', '.join(names)}")
        if rank is not None:
            ranks[names.index(name)] = float(rank)
    return ranks


def _metadata(record: Record) -> dict[str, Any]:
    metadata = record.get("metadata") or {}
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            metadata = {}
    return metadata if isinstance(metadata, dict) else {}


def _chosen(names: Iterable[str], columns: Columns) -> str | None:
    name = single_name(names, columns, "question")
    if name is None and "report" in columns.names:
        wanted = columns.names["report"]
        raise ValueError(f"no question {wanted!r}{nearest(wanted, names)}; found: {sorted(names)}")
    return name


def _nested_answers(record: Record, columns: Columns) -> Answers:
    responses = record.get("responses") or {}
    if isinstance(responses, list):  # version 1: one entry per user, with all questions
        questions = {name for entry in responses for name in entry.get("values") or {}}
        name = _chosen(questions, columns) if questions else None
        return [{**entry, "value": ((entry.get("values") or {}).get(name) or {}).get("value")} for entry in responses]
    name = _chosen(responses, columns) if responses else None
    answers = responses.get(name) if name else []
    if any(not isinstance(answer, dict) for answer in answers or []):
        raise TypeError("a response without a user")
    return list(answers or [])


def _flat_answers(record: Record, columns: Columns) -> Answers:
    names = [key.removesuffix(".responses.users") for key in record if key.endswith(".responses.users")]
    key = f"{_chosen(names, columns)}.responses"
    values, users = record.get(key) or [], record.get(f"{key}.users") or []
    statuses = record.get(f"{key}.status") or [None] * len(values)
    return [
        {"value": value, "user_id": user, "status": status}
        for value, user, status in zip(values, users, statuses, strict=True)
    ]
