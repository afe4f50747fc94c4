"""What one cell of an annotation table may hold: reports, outcomes, times and names."""

from __future__ import annotations

import math
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any

NAN = math.nan

VOTES: dict[str, float] = {
    **dict.fromkeys(("a", "model_a", "response_a", "left", "true"), 1.0),
    **dict.fromkeys(("b", "model_b", "response_b", "right", "false"), 0.0),
    **dict.fromkeys(("tie", "both", "equal", "draw", "same", "tie (bothbad)", "tie (inconsistent)"), 0.5),
    **dict.fromkeys(("", "nan", "null", "none", "na", "n/a", "skip", "abstain"), NAN),
}
"""Words that stand for a report, in lower case; the last group means "did not judge"."""


def parse_report(value: Any) -> float:
    """Return a report: a probability in [0, 1] that A is better, or NaN for an abstention.

    Args:
        value: a number, a boolean (A better?), one of the words in ``VOTES`` in any case, or None.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        if word in VOTES:
            return VOTES[word]
    number = _number(value)
    if number is None:
        raise ValueError(f"{_shown(value)} is neither a number in [0, 1] nor one of {_words()}")
    if not (0.0 <= number <= 1.0 or math.isnan(number)):
        raise ValueError(f"{number!r} is not in [0, 1] (1: A is better, 0.5: a tie, empty: did not judge)")
    return number


def parse_outcome(value: Any) -> float:
    """Return an outcome: 1 (A better), 0 (B better), or NaN for a tie or an outcome that is not known."""
    try:
        number = parse_report(value)
    except ValueError as error:
        raise ValueError(str(error).replace("a number in [0, 1]", "0, 1")) from None
    if number == 0.5:
        return NAN
    if number not in (0.0, 1.0) and not math.isnan(number):
        raise ValueError(f"{number!r} is not an outcome: 1 (A better), 0 (B better) or empty (not revealed)")
    return number


def parse_time(value: Any) -> float:
    """Return a point in time or a round number as a float; NaN if empty. Strings may be numbers or ISO 8601."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    number = _number(value)
    if number is not None and not math.isinf(number):
        return number
    if isinstance(value, str):
        if not value.strip():
            return NAN
        try:
            return parse_time(datetime.fromisoformat(value.strip()))
        except ValueError:
            pass
    raise ValueError(f"{_shown(value)} is neither a number nor an ISO 8601 time")


def parse_name(value: Any) -> str:
    """Return an identifier or a text as a string that can be written as UTF-8; empty if it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        if isinstance(value, bytes | tuple) or not isinstance(value, Hashable):  # a list, a dict, an array
            raise ValueError(f"expected a text, found {_shown(value)}")
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"character {error.start} is half of a surrogate pair, which is not text") from None
    return value


def _number(value: Any) -> float | None:
    if value is None:
        return NAN
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _words() -> str:
    return ", ".join(sorted(word for word in VOTES if word))
