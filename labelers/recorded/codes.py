r"""What the values of a report or an outcome column mean, and how often each occurs.

A `Codebook` reads one column. It knows probabilities, votes in words (``A``, ``tie``, ``[[B]]``, ``Answer A``), words
with a strength (``A>>B``, ``B-is-slightly-better``), and what the user said about codes and scales. What it does not
know it collects instead of failing, so that a refusal can list every value.

**Graded scales.** Let x be the position on the scale, -1 where B is preferred most, 1 where A is preferred most and 0
in the middle. The report is read as

    P(A better) = 1 / (1 + 19^(-x)),

that is, equal steps of the scale are equal steps of log-odds (as in the models of Bradley and Terry 1952 and of ordered
logits), and the ends are 0.05 and 0.95. Words are put on the same scale: *slightly* and ``A>B`` (which the prompt of
Arena-Hard defines as "slightly better") at x = 1/3, *moderately* at 2/3, *much*, *clearly* and ``A>>B`` at 1. So
"slightly better" is 0.73, never 1.

**The side of a number is not guessed.** Numbers in [0, 1] are probabilities that A is better, as documented; but a
column that is not called ``report`` and holds nothing except 0, 1 (and 0.5) may as well hold the index of the winner.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from truthful_rlhf.labelers.recorded.cells import number_of, shown_value
from truthful_rlhf.labelers.recorded.errors import AnnotationError

NAN = math.nan

VOTES: dict[str, float] = {
    **dict.fromkeys(("a", "model_a", "response_a", "left", "true"), 1.0),
    **dict.fromkeys(("b", "model_b", "response_b", "right", "false"), 0.0),
    **dict.fromkeys(("tie", "both", "equal", "draw", "same", "tie (bothbad)", "tie (inconsistent)"), 0.5),
    **dict.fromkeys(("both_bad", "both bad", "bothbad", "tied"), 0.5),
    **dict.fromkeys(("", "nan", "null", "none", "na", "n/a", "skip", "abstain"), NAN),
}
"""Words that stand for a report, in lower case; the last group means "did not judge"."""

MEANINGS = {"A": 1.0, "B": 0.0, "tie": 0.5, "none": NAN}

_STRENGTHS = {
    **dict.fromkeys(("slightly", "somewhat", "marginally", "barely", "weakly", "a bit", "a little"), 1 / 3),
    **dict.fromkeys(("moderately",), 2 / 3),
    **dict.fromkeys(("much", "clearly", "significantly", "strongly", "far", "definitely", "considerably"), 1.0),
    **dict.fromkeys(("substantially", "a lot", "way", "very much"), 1.0),
}
_HOW = "|".join(_STRENGTHS)
_NOUN = r"(?:(?:the )?(?:answer|response|assistant|model|option|output|completion|candidate|choice|text) )?"
_SIDE = _NOUN + r"(?P<side>a|b)"
_GRAMMAR = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_SIDE}(?: (?:is|was))?(?: (?P<how>{_HOW}))?(?: (?:the )?(?:better|best|preferred|wins|won|winner))?",
        rf"(?P<how>{_HOW}) (?:prefer|prefers|preferred) {_SIDE}",
        rf"(?:prefer|prefers|preferred) {_SIDE}(?: (?P<how>{_HOW}))?",
    )
)
_SIGNS = re.compile(r"(?P<left>[ab]) ?(?P<sign>>>|>|=|<|<<) ?(?P<right>[ab])")
_MOST_NUMBERS = 10_000
_MOST_UNKNOWN = 2_000
_INDEX = (0.0, 0.5, 1.0)


class Understood(NamedTuple):
    """A report whose meaning the format defines: how the source writes it, and P(A better)."""

    code: str
    report: float


@dataclass(slots=True)
class Code:
    """One distinct value of a column: what it was taken to mean, and how often it occurs."""

    text: str
    report: float
    rows: int = 0
    first_row: int = 0
    problem: str = ""
    """Why the value is not understood; empty if it is."""
    number: float | None = None
    """The number that the value is, if its meaning was not given."""

    @property
    def meaning(self) -> str:
        """What the value was taken to mean, in words."""
        return self.problem or in_words(self.report)


def in_words(report: float) -> str:
    """Return what a report says."""
    if math.isnan(report):
        return "did not judge"
    if report in (0.0, 1.0):
        return f"response {'A' if report else 'B'} better"
    if report == 0.5:
        return "a tie"
    return f"response {'A' if report > 0.5 else 'B'} better, P(A better) = {report:.3g}"


def graded(position: float) -> float:
    """Return P(A better) of a position on a graded scale.

    Args:
        position: in [-1, 1]: 1 prefers A most, -1 prefers B most, 0 is the middle.

    Examples:
        >>> [round(graded(x), 2) for x in (-1, -1 / 3, 0, 1 / 3, 1)]
        [0.05, 0.27, 0.5, 0.73, 0.95]
    """
    return 1.0 / (1.0 + 19.0**-position)


def word_report(text: str) -> float | None:
    """Return the report that a word or a phrase states, or None.

    Examples:
        >>> [word_report(text) for text in ("A", "[[B]]", "Tie", "Answer A", "first")]
        [1.0, 0.0, 0.5, 1.0, None]
        >>> [round(word_report(text), 2) for text in ("A>>B", "B>A", "A=B", "B-is-slightly-better")]
        [0.95, 0.27, 0.5, 0.27]
    """
    word = text.strip().lower()
    if word in VOTES:
        return VOTES[word]
    if word == "[[c]]":  # a tie in the prompts of MT-Bench and Chatbot Arena
        return 0.5
    word = re.sub(r"[\s_-]+", " ", word.removeprefix("[[").removesuffix("]]")).strip()
    if word in VOTES and word:
        return VOTES[word]
    if found := _SIGNS.fullmatch(word):
        if found["left"] == found["right"]:
            return None
        steps = {">>": 1.0, ">": 1 / 3, "=": 0.0, "<": -1 / 3, "<<": -1.0}[found["sign"]]
        return graded(steps if found["left"] == "a" else -steps)
    for pattern in _GRAMMAR:
        if found := pattern.fullmatch(word):
            how = found.groupdict().get("how")
            sign = 1.0 if found["side"] == "a" else -1.0
            return graded(sign * _STRENGTHS[how]) if how else (sign + 1.0) / 2.0
    return None


class Codebook:
    """Reads the values of one column and counts them.

    Args:
        column: the column's name in the source; decides whether a bare 0 or 1 has a documented meaning.
        kind: ``report`` or ``outcome``.
        given: code -> ``A``, ``B``, ``tie`` or ``none``, as the user said.
        scale: ``(low, high, sign)``: ends of a graded scale; sign 1 if the low end prefers B, -1 if it prefers A.
        decimal_comma: whether ``0,7`` is a number here.
    """

    def __init__(
        self,
        column: str,
        kind: str = "report",
        given: Mapping[str, str] | None = None,
        scale: tuple[float, float, float] | None = None,
        decimal_comma: bool = False,
    ) -> None:
        self.column, self.kind, self.scale, self.decimal_comma = column, kind, scale, decimal_comma
        self.given = {_key(code): MEANINGS[vote] for code, vote in (given or {}).items()}
        self.given_text = {_key(code): code for code in given or {}}
        self._numbers_are_given = any(isinstance(key, float) for key in self.given)
        self._seen: dict[Any, Code] = {}
        self.codes: dict[Any, Code] = {}
        self.other_numbers: Code | None = None
        self.used: set[Any] = set()

    def read(self, value: Any, row: int) -> float:
        """Return the report behind a value, NaN for "did not judge" and for what is not understood; count it."""
        return self.count(value, row, 1)

    def count(self, value: Any, row: int, rows: int) -> float:
        """Do the same for a value that occurs ``rows`` times, first in row ``row``.

        Args:
            value: as it stands in the source.
            row: number of its first row, from 1.
            rows: how often it occurs, >= 1.
        """
        try:
            code = self._seen.get(value)
        except TypeError:  # a list or a dict
            code = None
        if code is None:
            code = self._new(value, row)
        code.rows += rows
        return code.report

    def _new(self, value: Any, row: int) -> Code:
        text, report, problem, number = self._decode(value)
        key = (text, report) if isinstance(value, Understood) else text  # "x chosen" may mean A here and B there
        code = self.codes.get(key)
        if code is None:
            if number is not None and len(self.codes) >= _MOST_NUMBERS and not problem:
                return self._other(report)
            if problem and sum(bool(c.problem) for c in self.codes.values()) >= _MOST_UNKNOWN:
                raise ValueError(problem)
            code = self.codes[key] = Code(text, report, 0, row, problem, number)
        if value == value:  # NaN is never found again
            with contextlib.suppress(TypeError):
                self._seen[value] = code
        return code

    def _other(self, report: float) -> Code:
        """Count a number beyond the first ten thousand different ones; it is not remembered."""
        if self.other_numbers is None:
            self.other_numbers = Code("other numbers", report, number=report)
        self.other_numbers.report = report
        return self.other_numbers

    def _decode(self, value: Any) -> tuple[str, float, str, float | None]:
        """Return a value's text, its report, why it is not understood, and the number it is."""
        text = value.code if isinstance(value, Understood) else _text(value)
        for key in _keys(text if isinstance(value, Understood) else value, self.decimal_comma):
            if key in self.given:
                self.used.add(key)
                return text, self.given[key], "", None
        if isinstance(value, Understood):
            return text, value.report, "", None
        if value is None or isinstance(value, str):
            report = VOTES[""] if value is None else word_report(value)
            if report is not None:
                if self.kind == "outcome" and report == 0.5:
                    report = NAN
                index = report if text.lower() in ("true", "false") else None
                return text, *self._outcome_only(report, text), index
        number = number_of(value, self.decimal_comma)
        if number is None:
            known = "a number in [0, 1]" if self.kind == "report" else "0, 1"
            return text, NAN, f"{shown_value(value)} is neither {known} nor one of {_words()}", None
        if math.isnan(number):
            return "", NAN, "", None
        return (text, *self._number(number))

    def _number(self, number: float) -> tuple[float, str, float | None]:
        if self.kind == "report" and self.scale is not None:
            low, high, sign = self.scale
            if not low <= number <= high:
                return NAN, f"{number:g} is outside the scale {low:g}:{high:g}", number
            return graded(sign * (2.0 * (number - low) / (high - low) - 1.0)), "", None
        if self._numbers_are_given:
            option = "--vote" if self.kind == "report" else "--outcome-vote"
            return NAN, f"{number:g} is none of the codes that were given with {option}", number
        if not 0.0 <= number <= 1.0:
            return NAN, f"{number!r} is not in [0, 1] (1: A is better, 0.5: a tie, empty: did not judge)", number
        if self.kind == "outcome" and number == 0.5:
            return NAN, "", number
        return *self._outcome_only(number, repr(number)), number

    def _outcome_only(self, report: float, text: str) -> tuple[float, str]:
        if self.kind == "report" or math.isnan(report) or report in (0.0, 1.0):
            return report, ""
        return NAN, f"{text} is not an outcome: 1 (A better), 0 (B better) or empty (not revealed)"

    @property
    def unknown(self) -> list[Code]:
        """The values that are not understood, by first occurrence."""
        return sorted((code for code in self.codes.values() if code.problem), key=lambda code: code.first_row)

    @property
    def is_ambiguous(self) -> bool:
        """Whether the column holds nothing but 0 and 1 (and 0.5), and its name does not say which side they are."""
        if (
            self.kind != "report"
            or self.column.rpartition(".")[2].lower() == "report"
            or self.other_numbers is not None
        ):
            return False
        numbers = {code.number for code in self.codes.values() if code.number is not None}
        return bool(numbers - {0.5}) and numbers <= set(_INDEX)

    @property
    def unused(self) -> list[str]:
        """The codes that the user gave and that do not occur."""
        return [self.given_text[key] for key in self.given if key not in self.used]


def parse_pairs(entries: Iterable[str] | None, option: str, example: str, at_last: bool = False) -> dict[str, str]:
    """Return ``{NAME: VALUE}`` of ``NAME=VALUE`` options.

    Args:
        entries: as typed.
        option: the option's name, for messages.
        example: how it is written.
        at_last: split at the last ``=`` (a code may contain one) instead of the first.
    """
    found: dict[str, str] = {}
    for entry in entries or ():
        name, equals, value = entry.rpartition("=") if at_last else entry.partition("=")
        if not equals or not value or not (name or at_last):
            raise AnnotationError(f"{option} {entry}: write {example}")
        if name in found:
            raise AnnotationError(f"{option} {name}=...: given twice")
        found[name] = value
    return found


def _key(code: str) -> Any:
    """Return a code's key: a number if it is one, otherwise its text in lower case."""
    number = number_of(code)
    return code.strip().lower() if number is None or math.isnan(number) else number


def _keys(value: Any, decimal_comma: bool) -> list[Any]:
    keys: list[Any] = [_text(value).lower()]
    number = number_of(value, decimal_comma)
    return keys if number is None or math.isnan(number) else [*keys, number]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return value.strip() if isinstance(value, str) else str(value)


def _words() -> str:
    return ", ".join(sorted(word for word in VOTES if word))
