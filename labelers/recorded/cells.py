"""What one cell of an annotation table may hold beside reports: numbers, times and names."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

NAN = math.nan

_MISSING = frozenset({"nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT"})
_WHOLE = re.compile(r"-?\d+\.0+")
_UNIX_DATE = re.compile(r"(\w{3}) (\w{3}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\w{3,4}) (\d{4})")
_ZONES = {"UTC": 0, "GMT": 0, "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "CST": -6, "CDT": -5, "EST": -5, "EDT": -4}


def parse_time(value: Any) -> float:
    """Return a point in time or a round number as a float; NaN if empty.

    Strings may be numbers, ISO 8601, or Unix dates as Mechanical Turk writes them (``Tue May 10 01:40:35 PDT 2022``).
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    number = number_of(value)
    if number is not None and not math.isinf(number):
        return number
    if isinstance(value, str):
        if not value.strip():
            return NAN
        try:
            return parse_time(datetime.fromisoformat(value.strip()))
        except ValueError:
            pass
        unix = _unix_date(value.strip())
        if unix is not None:
            return unix.timestamp()
    raise ValueError(f"{shown_value(value)} is neither a number nor an ISO 8601 time")


def _unix_date(text: str) -> datetime | None:
    found = _UNIX_DATE.fullmatch(text)
    if found is None or found[5] not in _ZONES:
        return None
    try:
        bare = datetime.strptime(" ".join(found.group(1, 2, 3, 4, 6)), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None
    return bare.replace(tzinfo=timezone(timedelta(hours=_ZONES[found[5]])))


def parse_name(value: Any) -> str:
    """Return a text as a string that can be written as UTF-8; empty if it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        if isinstance(value, bytes | tuple) or not isinstance(value, Hashable):  # a list, a dict, an array
            raise ValueError(f"expected a text, found {shown_value(value)}")
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"character {error.start} is half of a surrogate pair, which is not text") from None
    return value


def parse_id(value: Any) -> str:
    """Return an identifier: a name in which 1 and 1.0 are the same, and in which ``nan`` is none.

    Tables that once went through floating-point columns write whole numbers with a decimal point and missing ones as
    ``nan``.

    Examples:
        >>> [parse_id(value) for value in (1, 1.0, "1.0", "1.5", "nan", "ann")]
        ['1', '1', '1', '1.5', '', 'ann']
    """
    name = parse_name(value)
    if name in _MISSING:
        return ""
    return name.split(".")[0] if name[-1:] == "0" and _WHOLE.fullmatch(name) else name


def number_of(value: Any, decimal_comma: bool = False) -> float | None:
    """Return the number that a cell holds (NaN if it is empty), or None. ``70%`` is 0.7."""
    if value is None:
        return NAN
    if isinstance(value, str):
        text = value.strip()
        percent = text.endswith("%")
        text = text[:-1] if percent else text
        if decimal_comma and text.count(",") == 1 and "." not in text:
            text = text.replace(",", ".")
        try:
            return float(text) / 100.0 if percent else float(text)
        except ValueError:
            return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def shown_value(value: Any) -> str:
    """Return a cell as messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
