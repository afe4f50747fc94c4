"""The error of the annotation readers, and how it offers the way on.

A refusal may carry *ways on*: lines of command-line options, quoted for the shell, each with what it would mean. They
are printed as lines that begin with four spaces and ``--``, so that they can be copied as they are.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class AnnotationError(ValueError):
    """An annotation source that cannot be used, with the file, the row and what would be right."""


class WayOn(NamedTuple):
    """Options that answer a refusal, and what giving them says about the data."""

    meaning: str
    arguments: Sequence[str]


def ways_on(ways: Iterable[WayOn]) -> str:
    """Return the ways on as lines, each option line ready to paste behind the command that was typed."""
    return "".join(f"\n  {way.meaning}:\n    {shlex.join(way.arguments)}" for way in ways)
