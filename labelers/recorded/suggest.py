"""Refusals that say how to go on: a mapping of columns, or the meaning of codes, filled in and ready to paste."""

from __future__ import annotations

import math
from collections.abc import Iterable

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded import names
from truthful_rlhf.labelers.recorded.codes import Code, Codebook
from truthful_rlhf.labelers.recorded.errors import WayOn, ways_on
from truthful_rlhf.labelers.recorded.formats import Sample
from truthful_rlhf.labelers.recorded.formats.long import looks_one_hot
from truthful_rlhf.labelers.recorded.options import EXTRA_ROLES, ReadOptions

_MOST_LISTED = 40
_MOST_CHARACTERS = 1200


def no_format(sample: Sample, options: ReadOptions, formats: Iterable[str]) -> str:
    """Return why a source is not recognised, and a mapping of its columns if the names suggest one.

    Args:
        sample: the first records.
        options: what the user said of the source.
        formats: names of the known formats.
    """
    mapped = options.columns
    hints = [
        f"{wanted!r} is missing{nearest(wanted, sample.keys)}"
        for wanted in ("labeler_id", "report")
        if mapped.get(wanted, wanted) not in sample.keys and not (wanted == "report" and options.one_hot)
    ]
    found = ", ".join(sorted(sample.keys))[:300]
    text = f"this is none of the formats {', '.join(formats)}. As a long table, {' and '.join(hints)}. "
    text += f"Columns found: {found}. Map them with --column labeler_id=NAME and so on"
    proposal = propose_columns(sample, options)
    return text + ways_on([WayOn("the names suggest", proposal)] if proposal else [])


def propose_columns(sample: Sample, options: ReadOptions) -> list[str]:
    """Return ``--column`` options for the roles that are not mapped; empty unless they name labeler and report."""
    free = [key for key in sample.keys if key not in options.columns.values()]
    mapped = dict(options.columns)
    found: dict[str, str] = {}
    one_hot = dict(options.one_hot)
    if not _is_there("report", sample, mapped) and not one_hot:
        one_hot = names.option_columns(free, lambda key: _is_one_hot(key, sample))
        wide = names.numbered_labelers(free)
        nested = names.nested_columns(sample.records)
        if nested is not None:
            found |= {"labeler_id": nested[0], "report": nested[1]}
        elif wide is not None and not one_hot:
            found["report"] = wide
        elif not one_hot and (report := names.first_known(free, names.REPORTS)):
            found["report"] = report
    if not _is_there("labeler_id", sample, mapped) and "labeler_id" not in found:
        labeler = names.first_known([k for k in free if k not in found.values()], names.LABELERS)
        found |= {"labeler_id": labeler} if labeler else {}
    report_known = one_hot or "report" in found or _is_there("report", sample, mapped)
    labeler_known = "labeler_id" in found or _is_there("labeler_id", sample, mapped) or "*" in found.get("report", "")
    if not (report_known and labeler_known):
        return []
    found |= _pair_columns(sample, mapped, [key for key in free if key not in (*found.values(), *one_hot.values())])
    new = one_hot if not options.one_hot else {}
    arguments = [part for role, column in found.items() for part in ("--column", f"{role}={column}")]
    return arguments + [part for side, column in new.items() for part in ("--one-hot", f"{side}={column}")]


def _is_there(role: str, sample: Sample, mapped: dict[str, str]) -> bool:
    name = mapped.get(role, role)
    return name in sample.keys or "*" in name or "." in name


def _is_one_hot(key: str, sample: Sample) -> bool:
    return looks_one_hot(record.get(key) for record in sample.records)


def _pair_columns(sample: Sample, mapped: dict[str, str], free: list[str]) -> dict[str, str]:
    """Return columns for the pair's id and texts."""
    found: dict[str, str] = {}

    def is_text(key: str) -> bool:
        values = sample.values(key)
        return bool(values) and all(isinstance(value, str | list) for value in values)

    if not _is_there("response_a", sample, mapped):
        texts = [key for key in free if names.plain_name(key) not in (*names.LABELERS, *names.REPORTS)]
        if responses := names.response_columns(texts, is_text):
            found |= {"response_a": responses[0], "response_b": responses[1]}
    free = [key for key in free if key not in found.values()]
    has_texts = "response_a" in found or _is_there("response_a", sample, mapped)
    if not _is_there("pair_id", sample, mapped):
        known = names.PAIRS[:-1] if has_texts else names.PAIRS  # a "question" beside two answers is the prompt
        if pair := names.first_known(free, known):
            found["pair_id"] = pair
    free = [key for key in free if key not in found.values() and is_text(key)]
    if not _is_there("prompt", sample, mapped) and (prompt := names.first_known(free, names.PROMPTS)):
        found["prompt"] = prompt
    return found


def pair_ways(sample: Sample, options: ReadOptions) -> str:
    """Return columns that may say which pair it is, as a way on."""
    taken = {options.columns.get(role, role) for role in ("labeler_id", "report", *EXTRA_ROLES)}
    found = _pair_columns(sample, dict(options.columns), [key for key in sample.keys if key not in taken])
    arguments = [part for role, column in found.items() for part in ("--column", f"{role}={column}")]
    return ways_on([WayOn("the names suggest", arguments)] if arguments else [])


def listed(book: Codebook) -> str:
    """Return all distinct values of a column with their counts."""
    codes = sorted(book.codes.values(), key=lambda code: (-code.rows, code.text))
    parts, length = [], 0
    for code in codes[:_MOST_LISTED]:
        text = code.text if len(code.text) <= 60 else code.text[:57] + "..."
        part = f"{text or '(empty)'} ({code.rows:,} rows)"
        length += len(part)
        if length > _MOST_CHARACTERS:
            break
        parts.append(part)
    rest = len(codes) - len(parts)
    return f"Values of {book.column!r}: {', '.join(parts)}" + (f" and {rest:,} others" if rest else "")


def values_not_understood(book: Codebook, sample: Sample) -> str:
    """Return what follows the first value that is not understood: all values, and what they could mean."""
    return f".\n  {listed(book)}." + ways_on(_value_ways(book, sample))


def side_not_known(book: Codebook, sample: Sample) -> str:
    """Return why a column of zeros and ones is refused."""
    numbers = sorted({code.number for code in book.codes.values() if code.number is not None})
    shown = " and ".join(f"{number:g}" for number in numbers)
    text = (
        f"the numbers in {book.column!r} are only {shown}: P(A better), the index of the winner, or one option of "
        "several? Which side they mean is not guessed (in a column called report, 1 means that A is better)"
    )
    return f"{text}.\n  {listed(book)}." + ways_on(_value_ways(book, sample))


def _value_ways(book: Codebook, sample: Sample) -> list[WayOn]:
    option = "--vote" if book.kind == "report" else "--outcome-vote"
    numbers = sorted({c.number for c in book.codes.values() if c.number is not None})
    words = [c for c in book.codes.values() if c.problem and c.number is None]
    if len(words) > 8 or any(len(c.text) > 60 for c in words):
        return []
    sisters = names.option_columns(sample.keys, lambda key: _is_one_hot(key, sample))
    if book.column in sisters.values():
        arguments = [part for side, column in sisters.items() for part in ("--one-hot", f"{side}={column}")]
        return [WayOn("it has sister columns, one per option", arguments)]
    if not numbers:
        return _word_ways(option, words)
    rest = [part for word in words for part in (option, f"{word.text}=?")]
    if book.scale is not None:
        outside = [c for c in book.codes.values() if c.problem and c.number is not None]
        given = [part for code in outside for part in (option, f"{code.text}=none")]
        return [WayOn("if these stand for no judgment", given + rest)] if len(outside) <= 8 else []
    ways = _code_ways(option, numbers) if book.kind == "outcome" or len(numbers) <= 3 else []
    if not ways and book.kind == "report":
        ways = _scale_ways(numbers)
    return [WayOn(way.meaning, [*way.arguments, *rest]) for way in ways]


def _word_ways(option: str, words: list[Code]) -> list[WayOn]:
    if len(words) == 2:
        a, b = (code.text for code in words)
        return [
            WayOn(f"if {first} means that response A is better", [option, f"{first}=A", option, f"{second}=B"])
            for first, second in ((a, b), (b, a))
        ]
    arguments = [part for word in words for part in (option, f"{word.text}=?")]
    valid = "A, B, tie or none" if option == "--vote" else "A, B or none"
    return [WayOn(f"write {valid} in place of each ?", arguments)] if words else []


def _code_ways(option: str, numbers: list[float]) -> list[WayOn]:
    """Return both readings of a small set of codes."""
    layouts = (
        ({0.0, 1.0}, 1.0, 0.0, 0.5),
        ({1.0, 2.0}, 1.0, 2.0, 0.0),
        ({1.0, 2.0}, 1.0, 2.0, 1.5),
        ({-1.0, 1.0}, -1.0, 1.0, 0.0),
        ({1.0, 2.0}, 1.0, 2.0, 3.0),
    )
    for sides, first, second, tie in layouts:
        if set(numbers) <= {*sides, tie} and set(numbers) & sides:
            ties = [option, f"{tie:g}={'tie' if option == '--vote' else 'none'}"] if tie in numbers else []
            ways = [
                WayOn(f"if {a:g} means that response A is better", [option, f"{a:g}=A", option, f"{b:g}=B", *ties])
                for a, b in ((first, second), (second, first))
            ]
            return ways + (_scale_ways(numbers) if tie == 3.0 else [])
    return []


def _scale_ways(numbers: list[float]) -> list[WayOn]:
    """Return both directions of a graded scale whose ends are guessed from the values."""
    if any(not math.isfinite(number) for number in numbers):
        return []
    low, high = math.floor(numbers[0]), math.ceil(numbers[-1])
    if low < 0:
        high = max(-low, high)
        low = -high
    low = min(low, 1) if 0 <= low <= 3 else low
    return [
        WayOn(
            f"if it is a graded scale on which {low} prefers response {side} most (give the scale's own ends)",
            ["--scale", f"{low}:{high}", "--low", side],
        )
        for side in ("A", "B")
        if low < high
    ]
