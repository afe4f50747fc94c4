"""What was read: the counts, what every value was taken to mean, one pair in words, and what to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from truthful_rlhf.labelers.recorded.codes import Code, Codebook, in_words

_SHOWN_VALUES = 20
_SHOWN_TEXT = 60


class Value(NamedTuple):
    """One distinct value of the report or the outcome column, or a range of numbers."""

    column: str
    value: str
    rows: int
    meaning: str


@dataclass(frozen=True)
class Reading:
    """What a source was taken to say, before anything is aggregated."""

    source: str
    format: str
    pairs: int
    labelers: int
    rows: int
    """Reports in the source, before any was left out, replaced or averaged."""
    reports: int
    abstained: int
    """Judgments without a report."""
    swapped: int
    """Reports given with the two responses in the other order; they are turned."""
    replaced: int
    """Reports that a later one by the same labeler on the same pair replaced."""
    averaged: int
    """Reports (or games) that went into a mean."""
    left_out: int
    """Records that ``only`` left out."""
    outcomes: int
    """Pairs whose outcome is known."""
    values: tuple[Value, ...]
    notes: tuple[str, ...]
    example: str
    ignored_columns: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the reading as JSON-able data."""
        return asdict(self) | {"values": [value._asdict() for value in self.values]}

    @property
    def summary(self) -> str:
        """The counts as one sentence."""
        counts = {
            "abstained": self.abstained,
            "shown in the other order": self.swapped,
            "replaced by a later one": self.replaced,
            "averaged": self.averaged,
            "left out": self.left_out,
        }
        text = f"{self.pairs:,} pairs, {self.labelers:,} labelers, {self.reports:,} reports"
        text += f", {self.outcomes:,} known outcomes" if self.outcomes else ""
        return f"{text}; " + ", ".join(f"{count:,} {what}" for what, count in counts.items())

    def __str__(self) -> str:
        """Return the whole reading as text."""
        lines = [f"{self.source} ({self.format} format): {self.summary}."]
        lines += [f"  {v.column} {v.value}: {v.rows:,} rows, {v.meaning}" for v in self.values]
        return "\n".join([*lines, f"Example: {self.example}", *(f"Note: {note}" for note in self.notes)])


def value_table(*books: Codebook) -> tuple[Value, ...]:
    """Return what the values of some columns were taken to mean, the most frequent first; many numbers as a range."""
    return tuple(value for book in books for value in _values(book))


def _values(book: Codebook) -> Iterable[Value]:
    numbers = [code for code in book.codes.values() if code.number is not None]
    words = [code for code in book.codes.values() if code.number is None]
    if book.other_numbers is not None or len(numbers) > _SHOWN_VALUES:
        yield _range(book, [*numbers, *([book.other_numbers] if book.other_numbers else [])])
        numbers = []
    shown = sorted([*numbers, *words], key=lambda code: (-code.rows, code.text))
    for code in shown[:_SHOWN_VALUES]:
        yield Value(book.column, code.text or "(empty)", code.rows, meaning(code, book))
    if rest := shown[_SHOWN_VALUES:]:
        yield Value(book.column, f"{len(rest)} other values", sum(code.rows for code in rest), "not listed")


def _range(book: Codebook, codes: list[Code]) -> Value:
    low, high = (f(code.number for code in codes if code.number is not None) for f in (min, max))
    how = "P(A better) as written" if book.scale is None else "a graded scale, by the documented formula"
    return Value(book.column, f"{low:g} .. {high:g}", sum(code.rows for code in codes), how)


def meaning(code: Code, book: Codebook) -> str:
    """Return what a value was taken to mean."""
    if book.kind == "outcome":
        return {"did not judge": "not revealed"}.get(in_words(code.report), in_words(code.report))
    return in_words(code.report)


def in_short(text: str) -> str:
    """Return a text short enough for a line, quoted."""
    line = " ".join(text.split())
    return f'"{line if len(line) <= _SHOWN_TEXT else line[: _SHOWN_TEXT - 3] + "..."}"'


def example_pair(labeler: str, pair: str, report: float, texts: tuple[str, str, str]) -> str:
    """Return one report in words.

    Args:
        labeler: its id.
        pair: its id.
        report: P(A is better) in [0, 1].
        texts: prompt, response A and response B.
    """
    prompt, a, b = texts
    first = f"A ({in_short(a)})" if a else "A"
    second = f"B ({in_short(b)})" if b else "B"
    about = f"pair {pair}" + (f", {in_short(prompt)}" if prompt else "")
    if report == 0.5:
        says = f"{first} and {second} are equally good"
    elif report > 0.5:
        says = f"{first} is better than {second}"
    else:
        says = f"{second} is better than {first}"
    sure = "" if report in (0.0, 0.5, 1.0) else f" (P(A better) = {report:.3g})"
    return f"{labeler} on {about}: {says}{sure}."
