"""What columns are called in the world, to propose a mapping where one is missing; proposals are never applied."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

LABELERS = (
    *("labelerid", "labeler", "labellerid", "labeller", "annotatorid", "annotator", "workerid", "worker", "userid"),
    *("user", "username", "judgeid", "judge", "judgename", "evaluatorid", "evaluator", "raterid", "rater", "coder"),
    *("expert", "voter", "participantid", "participant", "annotatoremail", "sessionid", "evaluationsessionid"),
    *("reviewer", "reviewerid", "labellingmodel"),
)
PAIRS = (
    *("pairid", "comparisonid", "battleid", "taskid", "task", "hitid", "instanceid", "segmentid", "itemid", "item"),
    *("exampleid", "sampleid", "questionid", "promptid", "uid", "uuid", "id", "idx", "index", "question"),
)
REPORTS = (
    *("report", "vote", "preference", "preferred", "pref", "overallpreference", "overallpref", "winner", "verdict"),
    *("judgment", "judgement", "label", "choice", "chosenindex", "better", "betterindex", "answer", "selected"),
    *("decision", "annotation", "rating", "score"),
)
PROMPTS = ("prompt", "instruction", "question", "query", "inputprompt", "context", "input", "text")
_SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("first", "second"), ("left", "right"), ("A", "B"))
_TEXTS = ("response", "answer", "completion", "output", "generation", "text", "candidate", "summary", "reply", "input")
_OPTIONS = {
    **dict.fromkeys(("model_a", "response_a", "a", "left", "first"), "A"),
    **dict.fromkeys(("model_b", "response_b", "b", "right", "second"), "B"),
    **dict.fromkeys(("tie", "equal", "same", "draw", "both"), "tie"),
}


def plain_name(key: str) -> str:
    """Return a column's name without case and punctuation.

    Examples:
        >>> plain_name("Worker_ID")
        'workerid'
    """
    return re.sub(r"[^a-z0-9]", "", key.lower())


def first_known(keys: Iterable[str], known: Sequence[str]) -> str | None:
    """Return the column whose name comes first in a list of known names."""
    found = {plain_name(key): key for key in reversed(list(keys))}
    return next((found[name] for name in known if name in found), None)


def response_columns(keys: Sequence[str], is_text: Callable[[str], bool]) -> tuple[str, str] | None:
    """Return the two columns that hold the responses: two texts whose names differ in a, b or 1, 2 and so on."""
    found = []
    for key in keys:
        for first, second in _SIDES:
            for match in re.finditer(rf"(?<![A-Za-z0-9]){first}(?![A-Za-z0-9])|(?<=[a-z_]){first}$", key):
                other = key[: match.start()] + second + key[match.end() :]
                if other in keys and other != key and is_text(key) and is_text(other):
                    found.append((key, other))
    likely = [pair for pair in found if any(word in pair[0].lower() for word in _TEXTS)]
    return next(iter([*likely, *(p for p in found if plain_name(p[0])[:-1] not in LABELERS)]), None)


def numbered_labelers(keys: Sequence[str]) -> str | None:
    """Return a pattern such as ``annotator*`` if several columns are called like labelers with numbers."""
    stems = [m[1] for key in keys if (m := re.fullmatch(r"(.*?)\d+", key)) and plain_name(m[1]) in LABELERS]
    return next((f"{stem}*" for stem in stems if stems.count(stem) > 1), None)


def option_columns(keys: Sequence[str], is_one_hot: Callable[[str], bool]) -> dict[str, str]:
    """Return ``A``, ``B`` and perhaps ``tie`` -> sister columns that each hold 1 where their option was chosen."""
    groups: dict[str, dict[str, str]] = {}
    for key in keys:
        for word, side in sorted(_OPTIONS.items(), key=lambda item: -len(item[0])):
            stem = key.lower().removesuffix(word)
            if stem != key.lower() and stem and not stem[-1].isalnum():
                if is_one_hot(key):
                    groups.setdefault(stem, {}).setdefault(side, key)
                break
    return next((group for group in groups.values() if {"A", "B"} <= set(group)), {})


def nested_columns(records: Iterable[dict[str, Any]]) -> tuple[str, str] | None:
    """Return dotted names of labeler and report in a nested list of judgments."""
    for record in itertools.islice(records, 100):
        for key, value in record.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                labeler, report = first_known(value[0], LABELERS), first_known(value[0], REPORTS)
                if labeler and report:
                    return f"{key}.{labeler}", f"{key}.{report}"
    return None
