"""What an error says of a name that is not known: the nearest valid one, and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SIMILAR = 0.5


def closest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most like ``name``, or None if none shares half of its letters in order.

    Args:
        name: what was given.
        valid: the names to choose from.

    Examples:
        >>> closest("audit_rte", ["audit_rate", "seed"])
        'audit_rate'
        >>> closest("prompt", ["seed"]) is None
        True
    """
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=_SIMILAR)
    return found[0] if found else None


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` to put behind an error, or an empty string if no valid name is close."""
    found = closest(name, valid)
    return f" (did you mean {found!r}?)" if found is not None else ""


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """Return the text of an error about an unknown name.

    Args:
        what: the kind of thing, such as ``"rule"``.
        name: what was given.
        valid: all valid names, in the order in which they are listed.

    Examples:
        >>> unknown("rule", "meen", ["mean", "median"])
        "unknown rule 'meen': did you mean 'mean'? valid: mean, median"
    """
    choices = list(valid)
    found = closest(name, choices)
    hint = f"did you mean {found!r}? " if found is not None else ""
    return f"unknown {what} {name!r}: {hint}valid: {', '.join(choices) or 'none'}"
