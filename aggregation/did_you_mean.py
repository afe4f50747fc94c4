"""The error text for a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """Return the error text for an unknown name: the nearest valid one, and all of them.

    Args:
        what: what the name should have been, such as ``rule``.
        name: the name that was given.
        valid: the names that exist.

    Examples:
        >>> unknown("rule", "meen", ["mean", "hedge"])
        "unknown rule 'meen': did you mean 'mean'? valid: hedge, mean"
    """
    choices = sorted(valid)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown {what} {name!r}: {hint}valid: {', '.join(choices)}"
