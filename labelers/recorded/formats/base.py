"""What every format is made of: rows, the columns of a source, and ways to find prompts, responses and names in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.codes import Understood
from truthful_rlhf.labelers.recorded.options import EXTRA_ROLES, ReadOptions

Record = dict[str, Any]

PROMPTS = ("prompt", "instruction", "question", "input", "context", "text")
RESPONSES = (
    ("response_a", "response_b"),
    ("response1", "response2"),
    ("response-1", "response-2"),
    ("response_1", "response_2"),
    ("answer1", "answer2"),
    ("answer_1", "answer_2"),
    ("answer_a", "answer_b"),
    ("generation-1", "generation-2"),
    ("completion_a", "completion_b"),
    ("output_1", "output_2"),
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
    audit_probability: Any = None
    audit_floor: Any = None
    audit_wave: Any = None
    updated: Any = None
    """The tool's own time of the last change of this report."""
    games: Any = 1
    """How many verdicts the report is the mean of."""


class Sample(NamedTuple):
    """The first records of a source: enough to see its shape."""

    name: str
    records: Sequence[Record]
    keys: Sequence[str]
    """Every column of these records, in the order in which it first occurs."""

    @classmethod
    def of(cls, name: str, records: Sequence[Record]) -> Sample:
        """Return the sample of some records."""
        return cls(name, records, list(dict.fromkeys(str(key) for record in records for key in record)))

    def has(self, *keys: str) -> bool:
        """Return whether all these columns occur."""
        return set(keys) <= set(self.keys)

    def values(self, key: str) -> list[Any]:
        """Return the values of a column that are not empty."""
        return [record[key] for record in self.records if record.get(key) not in (None, "")]


class Columns:
    """The user's mapping of columns, and which of its entries were found in the source."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self.found: set[str] = set()

    def get(self, role: str, *scopes: Any, default: Any = None) -> Any:
        """Return the value of a column in the first of some records that has it, ``default`` if it is not mapped.

        Args:
            role: name of the column in the annotation table.
            *scopes: records, the nearest first; what is no dict is passed over.
            default: returned if the role is not mapped.
        """
        name = self.names.get(role)
        if name is None:
            return default
        for scope in scopes:
            if isinstance(scope, dict) and name in scope:
                self.found.add(role)
                return scope[name]
        return None

    def extras(self, *scopes: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        """Return the values of ``EXTRA_ROLES``; a column of that very name needs no mapping."""
        values = []
        for role in EXTRA_ROLES:
            given = next((scope[role] for scope in scopes if isinstance(scope, dict) and role in scope), None)
            values.append(self.get(role, *scopes, default=given))
        outcome, time, topic, chance, floor, wave = values
        return outcome, time, topic, chance, floor, wave


@dataclass
class Importer:
    """Turns the records of one source into rows."""

    format: str
    rows: Callable[[Record], Iterable[Row]]
    report_column: str
    """What the source calls the column, question or control that holds the reports."""
    columns: Columns
    outcome_column: str = "outcome"
    used: set[str] | None = None
    """The columns that a flat format reads; None where records are nested."""
    maps: bool = True
    """Whether `columns` keeps track of what was found."""
    notes: list[str] = field(default_factory=list)
    plain: bool = False
    """Whether every record is one report whose parts are the mapped columns, so that it can be read by column."""


class Format(NamedTuple):
    """How one kind of source is recognised and read."""

    matches: Callable[[Sample, ReadOptions], bool]
    make: Callable[[Sample, ReadOptions], Importer]


def pairs_of_ranking(order: Mapping[int, float], codes: Mapping[int, str]) -> Iterator[tuple[int, int, Understood]]:
    """Yield ``(i, j, report)`` for every two responses of a ranking, i before j.

    Args:
        order: index of a response -> its rank; lower is better, equal is a tie.
        codes: index of a response -> what the source calls it.
    """
    for i, j in itertools.combinations(sorted(order), 2):
        if order[i] == order[j]:
            yield i, j, Understood(f"{codes[i]} = {codes[j]}", 0.5)
        else:
            better, worse = (i, j) if order[i] < order[j] else (j, i)
            yield i, j, Understood(f"{codes[better]} > {codes[worse]}", float(better == i))


def part_id(pair_id: Any, i: int, j: int, n: int) -> Any:
    """Return the id of the pair of responses i and j (from 0) of a record with n responses.

    Args:
        pair_id: of the record, or None.
        i: index of the first response.
        j: index of the second response.
        n: responses of the record, >= 2.
    """
    return pair_id if n == 2 or pair_id is None else f"{pair_id}:{i + 1}-{j + 1}"


def field_names(fields: Mapping[str, Any], columns: Columns) -> tuple[str, list[str]]:
    """Return the names of the prompt's field and of the responses' fields (two, or more where they are numbered)."""
    prompt = columns.names.get("prompt") or next((name for name in PROMPTS if name in fields), "prompt")
    a, b = columns.names.get("response_a"), columns.names.get("response_b")
    if a is None and b is None:
        guess = next(((a, b) for a, b in RESPONSES if a in fields and b in fields), None)
        if guess is not None:
            return prompt, [*guess, *_more(guess, fields)]
    names = [a or "response_a", b or "response_b"]
    for role, name in zip(("response_a", "response_b"), names, strict=True):
        if name not in fields:
            raise ValueError(
                f"no field {name!r}{nearest(name, map(str, fields))}; fields: {', '.join(map(str, fields))}. "
                f"Say --column {role}=FIELD"
            )
    columns.found |= {"response_a", "response_b"} | ({"prompt"} if prompt in fields else set())
    return prompt, names


def _more(first_two: tuple[str, str], fields: Mapping[str, Any]) -> list[str]:
    """Return the third and later fields of a numbered series."""
    stem = re.fullmatch(r"(.*)2", first_two[1])
    if stem is None:
        return []
    return list(itertools.takewhile(lambda name: name in fields, (f"{stem[1]}{k}" for k in itertools.count(3))))


def named(value: Any) -> Any:
    """Return a user of a tool by e-mail, name or id, and a list of names as one name."""
    if isinstance(value, dict):
        return value.get("email") or value.get("username") or value.get("id")
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return value


def single_name(names: Iterable[str], columns: Columns, noun: str) -> str | None:
    """Return the question or control that holds the preference: the one that is named, or the only one.

    Args:
        names: of the questions or controls.
        columns: the user's mapping; its ``report`` names one.
        noun: what the tool calls them, for the error.
    """
    found = sorted(names)
    chosen = columns.names.get("report")
    if chosen is not None:
        if chosen not in found:
            return None
        columns.found.add("report")
        return chosen
    if len(found) > 1:
        options = "".join(f"\n    --column {quoted(f'report={name}')}" for name in found)
        raise ValueError(
            f"several {noun}s: {', '.join(found)}. Say which one with --column report={noun.upper()}:{options}"
        )
    return found[0] if found else None


def quoted(argument: str) -> str:
    """Return an argument quoted for the shell."""
    import shlex

    return shlex.quote(argument)
