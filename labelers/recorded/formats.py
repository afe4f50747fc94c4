"""Turn the records of five annotation formats into the rows of the annotation table.

| format | recognised by | report |
|---|---|---|
| ``long`` | ``labeler_id`` and ``report`` (or a column mapping) | a number in [0, 1] or a word such as ``A``, ``tie`` |
| ``crowdkit`` | ``task, worker, label`` or ``worker, left, right, label`` | a word, or the winning item's name |
| ``argilla`` | ``fields`` and ``responses``, or flattened ``<question>.responses`` | a label or ranking question |
| ``labelstudio`` | ``data`` and ``annotations`` (JSON export) | a pairwise or a choices control |
| ``mtbench`` | ``model_a, model_b, winner`` (MT-Bench, Chatbot Arena) | ``winner`` |

Importers only rearrange: values are checked where the table is built (`labelers.recorded.table`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.cells import parse_outcome
from truthful_rlhf.labelers.recorded.read import AnnotationError, Record

Columns = Mapping[str, str]
"""Names of the annotation table -> names in the source; what is not mapped keeps its name."""

CANONICAL = ("pair_id", "prompt", "response_a", "response_b", "labeler_id", "report", "outcome", "round", "topic")

_PROMPTS = ("prompt", "instruction", "question", "input", "context")
_RESPONSES = (
    ("response_a", "response_b"),
    ("response1", "response2"),
    ("response-1", "response-2"),
    ("answer1", "answer2"),
    ("generation-1", "generation-2"),
    ("text1", "text2"),
)


class Row(NamedTuple):
    """One report as the source states it; None where the source is silent."""

    pair_id: Any
    prompt: Any
    response_a: Any
    response_b: Any
    labeler_id: Any
    report: Any
    outcome: Any = None
    round: Any = None
    topic: Any = None


def long_rows(record: Record, columns: Columns) -> Iterable[Row]:
    """Read one row of the long table: one report per row, its columns named by the first argument."""
    get = record.get
    return (Row(*[get(columns.get(name, name)) for name in CANONICAL]),)


def crowdkit_rows(record: Record, columns: Columns) -> Iterable[Row]:
    """Read one row of crowd-kit's table: a task's label, or the winner of two items."""
    left, right, label = record.get("left"), record.get("right"), record["label"]
    task = record.get("task")
    if left is not None and label in (left, right):
        label = "left" if label == left else "right"
    if task is None and left is not None:
        task = " | ".join(sorted((str(left), str(right))))
    yield Row(task, None, left, right, record["worker"], label, *_extras(record, columns))


def mtbench_rows(record: Record, columns: Columns) -> Iterable[Row]:
    """Read one vote of MT-Bench or Chatbot Arena; the pair is the question, the turn and the two models."""
    a, b = record["model_a"], record["model_b"]
    turn = record.get("turn") or 1
    question = record.get("question_id")
    pair_id = None if question is None else f"{question}-t{turn}-" + "-vs-".join(sorted((str(a), str(b))))
    prompt, (answer_a, answer_b) = None, (a, b)
    if record.get("conversation_a"):
        prompt, answer_a = _conversation(record["conversation_a"])
        _, answer_b = _conversation(record["conversation_b"])
    yield Row(pair_id, prompt, answer_a, answer_b, record.get("judge"), record["winner"], *_extras(record, columns))


def argilla_rows(record: Record, columns: Columns) -> Iterator[Row]:
    """Read one Argilla 2 record (``to_json``, or a data set made with ``flatten=True``): one row per response."""
    nested = isinstance(record.get("fields"), dict)
    fields = record["fields"] if nested else record
    prompt, name_a, name_b = _field_names(fields, columns)
    extras = _extras({**(record.get("metadata") or {}), **record} if nested else record, columns)
    for answer in _argilla_answers(record, columns) if nested else _argilla_flat_answers(record, columns):
        report = None if answer.get("status") == "discarded" else _choice(answer.get("value"), name_a, name_b)
        yield Row(
            record.get("id"),
            _text(fields.get(prompt)),
            _text(fields.get(name_a)),
            _text(fields.get(name_b)),
            answer.get("user_id"),
            report,
            *extras,
        )


def labelstudio_rows(record: Record, columns: Columns) -> Iterator[Row]:
    """Read one Label Studio task: one row per annotation; ``ground_truth`` annotations are the pair's outcome.

    Raises:
        ValueError: two ground truths contradict each other.
    """
    data = record["data"]
    prompt, name_a, name_b = _field_names(data, columns)
    texts = (data.get(prompt), data.get(name_a), data.get(name_b))
    annotations = record["annotations"]
    truths = [_labelstudio_report(a, name_a, name_b) for a in annotations if a.get("ground_truth")]
    for annotation in annotations:
        if annotation.get("ground_truth"):
            continue
        outcome, _, topic = _extras(data, columns)
        if truths:
            outcome = _agreed(truths)
        report = None if annotation.get("was_cancelled") else _labelstudio_report(annotation, name_a, name_b)
        who = annotation.get("completed_by")
        labeler = who.get("email") or who.get("id") if isinstance(who, dict) else who
        time = annotation.get(columns["round"]) if "round" in columns else None
        yield Row(record.get("id"), *texts, labeler, report, outcome, time, topic)


FORMATS: dict[str, Callable[[Record, Columns], Iterable[Row]]] = {
    "long": long_rows,
    "crowdkit": crowdkit_rows,
    "argilla": argilla_rows,
    "labelstudio": labelstudio_rows,
    "mtbench": mtbench_rows,
}


def detect_format(record: Record, columns: Columns, name: str) -> str:
    """Return the format of a source from its first record, or raise naming the nearest columns."""
    keys = set(record)
    if {columns.get("labeler_id", "labeler_id"), columns.get("report", "report")} <= keys:
        return "long"
    if {"worker", "label"} <= keys and ("task" in keys or {"left", "right"} <= keys):
        return "crowdkit"
    if {"model_a", "model_b", "winner"} <= keys:
        return "mtbench"
    if {"data", "annotations"} <= keys:
        return "labelstudio"
    if {"fields", "responses"} <= keys or any(k.endswith(".responses.users") for k in keys):
        return "argilla"
    hints = [
        f"{wanted!r} is missing{nearest(wanted, keys)}"
        for wanted in ("labeler_id", "report")
        if columns.get(wanted, wanted) not in keys
    ]
    raise AnnotationError(
        f"{name}: this is none of the formats {', '.join(FORMATS)}. As a long table, {' and '.join(hints)}. "
        f"Columns found: {', '.join(sorted(map(str, keys)))[:300]}. Map them with --column labeler_id=NAME and so on"
    )


def used_columns(format_name: str, columns: Columns) -> set[str]:
    """Return the source columns that a flat format reads (the others are kept out of the table)."""
    if format_name == "long":
        return {columns.get(name, name) for name in CANONICAL}
    known = {
        "crowdkit": {"task", "worker", "label", "left", "right"},
        "mtbench": {"question_id", "turn", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b"},
    }
    extras = {columns.get(name, name) for name in ("outcome", "round", "topic")}
    return known[format_name] | extras if format_name in known else set()


def _extras(record: Record, columns: Columns) -> tuple[Any, Any, Any]:
    outcome, time, topic = (record.get(columns.get(name, name)) for name in ("outcome", "round", "topic"))
    return outcome, time, topic


def _field_names(fields: Mapping[str, Any], columns: Columns) -> tuple[str, str, str]:
    """Return the names of the prompt's and the two responses' fields."""
    prompt = columns.get("prompt") or next((name for name in _PROMPTS if name in fields), "prompt")
    guess = next(((a, b) for a, b in _RESPONSES if a in fields and b in fields), None)
    name_a = columns.get("response_a") or (guess[0] if guess else "response_a")
    name_b = columns.get("response_b") or (guess[1] if guess else "response_b")
    for role, name in (("response_a", name_a), ("response_b", name_b)):
        if name not in fields:
            raise ValueError(
                f"no field {name!r}{nearest(name, fields)}; fields: {', '.join(fields)}. Say --column {role}=FIELD"
            )
    return prompt, name_a, name_b


def _choice(value: Any, name_a: str, name_b: str) -> Any:
    """Return the report behind an answer that names a field, ranks the fields, or is a word."""
    if isinstance(value, list):  # a ranking: [{"value": field, "rank": 1}, ...]
        ranks = {str(entry.get("value")): entry.get("rank") for entry in value if isinstance(entry, dict)}
        a, b = ranks.get(name_a), ranks.get(name_b)
        if a is None or b is None:
            return None
        return 0.5 if a == b else float(a < b)
    return {name_a: 1.0, name_b: 0.0}.get(value, value) if isinstance(value, str) else value


def _question(names: Iterable[str], columns: Columns) -> str:
    """Return the question that holds the preference."""
    found = sorted(names)
    if "report" in columns:
        if columns["report"] not in found:
            raise ValueError(f"no question {columns['report']!r}{nearest(columns['report'], found)}; found: {found}")
        return columns["report"]
    if len(found) > 1:
        raise ValueError(f"several questions: {', '.join(found)}. Say which one with --column report=QUESTION")
    return found[0]


def _argilla_answers(record: Record, columns: Columns) -> list[dict[str, Any]]:
    responses = record.get("responses") or {}
    return list(responses.get(_question(responses, columns)) or []) if responses else []


def _argilla_flat_answers(record: Record, columns: Columns) -> list[dict[str, Any]]:
    names = [key.removesuffix(".responses.users") for key in record if key.endswith(".responses.users")]
    key = f"{_question(names, columns)}.responses"
    values, users = record.get(key) or [], record.get(f"{key}.users") or []
    statuses = record.get(f"{key}.status") or [None] * len(values)
    return [
        {"value": value, "user_id": user, "status": status}
        for value, user, status in zip(values, users, statuses, strict=True)
    ]


def _labelstudio_report(annotation: dict[str, Any], name_a: str, name_b: str) -> Any:
    for result in annotation.get("result") or []:
        value = result.get("value") or {}
        if result.get("type") == "pairwise":
            return value.get("selected")
        if choices := value.get("choices"):
            return _choice(choices[0], name_a, name_b)
    return None


def _agreed(truths: list[Any]) -> Any:
    """Return the outcome that the ground truths of one task state; those that say nothing are left out."""
    if len(truths) == 1:
        return truths[0]
    known = [truth for truth in truths if not math.isnan(parse_outcome(truth))]
    if len(set(map(parse_outcome, known))) > 1:
        raise ValueError(
            f"the {len(truths)} ground truths of one task contradict each other: {known}; keep one of them"
        )
    return known[0] if known else None


def _conversation(turns: Any) -> tuple[str, str]:
    """Return the user's turns as one prompt, and the last answer."""
    asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if len(asked) == 1:
        return asked[0], answers[-1]
    return "\n\n".join(f"[turn {k}] {text}" for k, text in enumerate(asked, start=1)), answers[-1]


def _text(value: Any) -> Any:
    """Return a chat field as text: Argilla may hold a list of messages."""
    if isinstance(value, list) and value and isinstance(value[-1], dict) and "content" in value[-1]:
        return value[-1]["content"]
    return value
