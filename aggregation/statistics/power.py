"""How many verdicts show a difference between two policies that are judged on the same ones.

Two policies are each right or wrong on every verdict; what tells them apart are the verdicts on which one is right and
the other is not. Let a share psi of the verdicts be of that kind and delta be the difference of the two accuracies. The
paired difference is 1, -1 or 0, so its variance is at most psi, and a two-sided test at 5 % finds delta with power 0.8
from n verdicts on, where

    delta sqrt(n / psi) = z_0.975 + z_0.8,    so    n = 7.85 psi / delta^2,

which Lehr's rule rounds to 8 psi / delta^2. (The exact sign test on the verdicts that differ, McNemar's, has a power
between 0.78 and 0.86 at these n, for 10 to 30 points and psi = 0.3.)

References:
    Lehr, Sixteen S-squared over D-squared, Statistics in Medicine 11 (1992). McNemar, Psychometrika 12 (1947).
"""

from __future__ import annotations

import math

DIFFERING = 0.3
"""Share of the verdicts on which two policies are taken to differ, where nothing is known yet."""
_FACTOR = 8.0
"""(z_0.975 + z_0.8)^2 = 7.85, rounded up by Lehr."""


def verdicts_needed(difference: float, differing: float = DIFFERING) -> int:
    """Return how many verdicts show a difference of two accuracies (two-sided 5 %, power 0.8).

    Args:
        difference: of the accuracies, in (0, ``differing``].
        differing: share of the verdicts on which one policy is right and the other wrong, in (0, 1].

    Raises:
        ValueError: a difference that such a share does not allow.

    Examples:
        >>> verdicts_needed(0.3), verdicts_needed(0.2), verdicts_needed(0.1)
        (27, 60, 240)
    """
    if not 0.0 < difference <= differing <= 1.0:
        raise ValueError(f"expected 0 < difference <= differing <= 1, got {difference:g} and {differing:g}")
    return math.ceil(round(_FACTOR * differing / difference**2, 9))


def difference_shown(verdicts: float, differing: float = DIFFERING) -> float:
    """Return the smallest difference of two accuracies that so many verdicts show, the inverse of `verdicts_needed`.

    Args:
        verdicts: their number, > 0 (an effective one where they count unequally).
        differing: share of the verdicts on which one policy is right and the other wrong, in (0, 1].

    Examples:
        >>> difference_shown(60), round(difference_shown(285), 3)
        (0.2, 0.092)
    """
    if not (verdicts > 0.0 and 0.0 < differing <= 1.0):
        raise ValueError(f"expected verdicts > 0 and 0 < differing <= 1, got {verdicts:g} and {differing:g}")
    return math.sqrt(_FACTOR * differing / verdicts)
