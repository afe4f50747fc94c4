"""Tables with one report per row, per cell of several columns, or per element of a nested list.

| layout | how it is mapped |
|---|---|
| one report per row | ``--column labeler_id=NAME --column report=NAME`` |
| one column per labeler | ``--column 'report=annotator*'``: the labeler is the column's name |
| one column per option, 1 where chosen | ``--one-hot A=NAME --one-hot B=NAME --one-hot tie=NAME`` |
| a list of judgments per record | ``--column labeler_id=annotations.who --column report=annotations.vote`` |
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.cells import number_of
from truthful_rlhf.labelers.recorded.codes import Understood, word_report
from truthful_rlhf.labelers.recorded.formats.base import Columns, Importer, Record, Row, Sample
from truthful_rlhf.labelers.recorded.formats.conversations import plain_text, prompt_text
from truthful_rlhf.labelers.recorded.options import ROLES, ReadOptions

_CHOSEN = {"1", "1.0", "true", "yes", "x", "checked", "on"}
_NOT_CHOSEN = {"", "0", "0.0", "false", "no", "nan", "none", "null", "off"}


def matches(sample: Sample, options: ReadOptions) -> bool:
    """Return whether the labeler and the report of a long table are there, or where the user says they are."""
    labeler, report = (options.columns.get(role, role) for role in ("labeler_id", "report"))
    if "*" in report and not sample.has(report):
        return True
    has_report = bool(options.one_hot) or _is_there(report, sample)
    return has_report and _is_there(labeler, sample)


def make(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of a table in which every row, cell or list element is a report."""
    names = [options.columns.get(role, role) for role in ROLES]
    report = options.columns.get("report", "report")
    rows: Callable[[Record], Iterable[Row]]
    used = {*names, *options.one_hot.values()}
    nested = {name.partition(".")[0] for name in names if name not in sample.keys and _is_there(name, sample)}
    if "*" in report and not sample.has(report):
        wide = [key for key in sample.keys if fnmatch.fnmatchcase(key, report) and key not in names]
        used |= set(wide)
        rows = _wide_rows(names, wide, report)
    elif nested:
        used |= nested
        rows = _nested_rows(names, nested)
    else:
        rows = _flat_rows(names)
    if options.one_hot:
        rows = _with_one_hot(rows, options.one_hot)
        report = "/".join(options.one_hot.values())
    outcome = options.columns.get("outcome", "outcome")
    plain = not options.one_hot and not nested and "*" not in report
    return Importer("long", rows, report, Columns(options.columns), outcome, used, maps=False, plain=plain)


def _flat_rows(names: list[str]) -> Callable[[Record], Iterable[Row]]:
    def rows(record: Record) -> Iterable[Row]:
        get = record.get
        row = Row(*[get(name) for name in names])
        return (_by_text(row) if type(row.report) is str else row,)

    return rows


def _wide_rows(names: list[str], wide: list[str], pattern: str) -> Callable[[Record], Iterable[Row]]:
    def rows(record: Record) -> Iterator[Row]:
        if not wide:
            raise ValueError(f"no column matches {pattern!r}{nearest(pattern, map(str, record))}")
        row = Row(*[record.get(name) for name in names])
        for column in wide:
            if column in record:
                yield _by_text(row._replace(labeler_id=column, report=record[column]))

    return rows


def _nested_rows(names: list[str], prefixes: set[str]) -> Callable[[Record], Iterable[Row]]:
    def rows(record: Record) -> Iterator[Row]:
        lists = [record[prefix] for prefix in prefixes if isinstance(record.get(prefix), list)]
        if len(lists) > 1:
            raise ValueError(f"several lists in one record: {', '.join(sorted(prefixes))}; name columns of one of them")
        name_of_list = next((prefix for prefix in prefixes if isinstance(record.get(prefix), list)), None)
        for element in lists[0] if lists else [None]:
            scope = record if name_of_list is None else {**record, name_of_list: element}
            yield _by_text(Row(*[lookup(scope, name) for name in names]))

    return rows


def lookup(record: Any, name: str) -> Any:
    """Return a value by its name, or by a dotted path into nested records."""
    if isinstance(record, dict) and name in record:
        return record[name]
    head, dot, rest = name.partition(".")
    return lookup(record.get(head), rest) if dot and isinstance(record, dict) else None


def _is_there(name: str, sample: Sample) -> bool:
    """Return whether a column, or a dotted path, occurs in the sample."""
    if name in sample.keys:
        return True
    head, dot, _ = name.partition(".")
    if not dot:
        return False
    elements = [e for value in sample.values(head) for e in (value if isinstance(value, list) else [value])]
    return any(isinstance(element, dict) and lookup({head: element}, name) is not None for element in elements)


def _by_text(row: Row) -> Row:
    """Recognise a report that is the text (or the name) of one of the two responses."""
    report, a, b = row.report, plain_text(row.response_a), plain_text(row.response_b)
    if a is not row.response_a or b is not row.response_b or isinstance(row.prompt, list):
        row = row._replace(prompt=prompt_text(row.prompt), response_a=a, response_b=b)
    if type(report) is not str or a == b or report not in (a, b):
        return row
    if word_report(report) is not None or number_of(report) is not None:
        return row
    which = "a" if report == a else "b"
    return row._replace(report=Understood(f"the text of response_{which}", float(which == "a")))


def _with_one_hot(
    rows: Callable[[Record], Iterable[Row]], columns: dict[str, str]
) -> Callable[[Record], Iterable[Row]]:
    def one_hot(record: Record) -> Iterator[Row]:
        report = one_hot_report(record, columns)
        for row in rows(record):
            yield row._replace(report=report)

    return one_hot


def one_hot_report(record: Record, columns: dict[str, str]) -> Any:
    """Return the report of a record with one column per option; None where no option is chosen."""
    chosen = []
    for side, column in columns.items():
        if column not in record:
            raise KeyError(column)
        if _is_chosen(column, record[column]):
            chosen.append(side)
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(columns[side] for side in chosen)} are both chosen")
    if not chosen:
        return None
    return Understood(columns[chosen[0]], {"A": 1.0, "B": 0.0, "tie": 0.5}[chosen[0]])


def _is_chosen(column: str, value: Any) -> bool:
    word = "" if value is None else str(value).strip().lower()
    if word in _CHOSEN or word in _NOT_CHOSEN:
        return word in _CHOSEN
    raise ValueError(f"column {column!r} of --one-hot holds {value!r}, neither 0 or 1 nor true or false")


def looks_one_hot(values: Iterable[Any]) -> bool:
    """Return whether values are those of a column of one option."""
    words = {"" if value is None else str(value).strip().lower() for value in values}
    return bool(words & _CHOSEN) and words <= _CHOSEN | _NOT_CHOSEN
