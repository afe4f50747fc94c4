"""What may be said of a comparison on people's own annotations: which rule, was anything shown, and what next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from truthful_rlhf.aggregation.statistics import difference_shown, verdicts_needed
from truthful_rlhf.aggregation.statistics.power import DIFFERING
from truthful_rlhf.pipeline.own_data.estimates import Interval
from truthful_rlhf.pipeline.own_data.summary import Row, Table

_WANTED = 0.1
"""The difference that the power calculation speaks of where none was seen."""


@dataclass(frozen=True)
class Findings:
    """The first lines of the page, and of the terminal."""

    verdict: str
    """Which rule, or that nothing was shown."""
    is_shown: bool
    sentences: tuple[str, ...]


def findings(table: Table, mean: str, n_pairs: int, audited: float) -> Findings:
    """Return what the table says.

    Args:
        table: the rows and what they were measured on.
        mean: title of the rule that the others are compared with.
        n_pairs: pairs of the file.
        audited: mean share of the training pairs whose outcome the rules saw, in [0, 1].
    """
    ruled = [row for row in table.rows if not row.is_reference and row.method is not None]
    shown = [row for row in ruled if row.is_shown]
    verdict = _verdict(ruled, shown, mean)
    said = [_best_reference(table), _power(table, ruled, shown, n_pairs)]
    if audited > 0.9:
        said.append(
            f"Rules saw the outcome of {audited:.0%} of the training pairs, and final labels are these outcomes,"
            " so such rules can hardly differ. A lower audit_rate makes them work for their labels."
        )
    if table.n_seeds == 1:
        said.append("One seed: the intervals cover the choice of prompts, not what another training would give.")
    return Findings(verdict, bool(shown), tuple(filter(None, said)))


def points(value: float) -> str:
    """Return a difference of accuracies in points.

    >>> points(0.0923), points(-0.2), points(-0.003)
    ('+9', '-20', '0')
    """
    rounded = round(100 * value)
    return f"{rounded:+d}" if rounded else "0"


def spread(found: Interval) -> str:
    """Return a difference of accuracies with its interval, in points.

    >>> spread(Interval(0.12, 0.04, 0.2))
    '+12 points [+4, +20]'
    """
    return f"{points(found.mean)} points [{points(found.low)}, {points(found.high)}]"


def _verdict(ruled: Sequence[Row], shown: Sequence[Row], mean: str) -> str:
    better = [row for row in shown if _ahead(row).mean > 0]
    if better:
        best = max(better, key=lambda row: _ahead(row).mean)
        by = f" ({best.method})" if len({row.method for row in ruled}) > 1 else ""
        rest = [row for row in better if row is not best]
        others = ", ".join(row.rule for row in rest)
        also = f" {others} beat it as well; which of these is best was not tested." if rest else ""
        return (
            f"Use {best.rule}: its policy{by} was right on {_right(best):.0%} of the held-out verdicts, "
            f"{spread(_ahead(best))} against the plain mean.{also}"
        )
    if shown:
        worse = ", ".join(f"{row.rule} ({points(_ahead(row).mean)} points)" for row in shown)
        return f"Keep the plain mean: {worse} did worse, and no rule did better by more than chance."
    compared = [row for row in ruled if row.ahead is not None]
    if not compared:
        return f"Nothing was compared: {mean} stands alone."
    nothing = "Nothing was shown: no rule's policy differs from that of the plain mean by more than chance."
    best = max(compared, key=lambda row: _ahead(row).mean)
    if _ahead(best).mean <= 0:
        return nothing
    return f"{nothing} The highest was {best.rule}, {spread(_ahead(best))}."


def _ahead(row: Row) -> Interval:
    assert row.ahead is not None
    return row.ahead


def _right(row: Row) -> float:
    found = row.accuracy or row.reward_accuracy
    assert found is not None
    return found.mean


def _best_reference(table: Table) -> str:
    """Return whether training taught anything: the best trained row beside the two preferences without training."""
    untrained = [row for row in table.rows if row.method is None]
    trained = [row for row in table.rows if row.method is not None]
    best, reference = (max(rows, key=_right) for rows in (trained, untrained))
    if _right(best) > _right(reference):
        return ""
    return (
        f"No training beat {reference.rule} ({_right(reference):.0%} right, no labels needed): these policies have"
        " learnt little that these verdicts ask for."
    )


def _power(table: Table, ruled: Sequence[Row], shown: Sequence[Row], n_pairs: int) -> str:
    """Return what so many verdicts can show, and how many more would show what was seen."""
    differing = max((row.differing for row in ruled if row.differing), default=DIFFERING)
    n = table.n_effective
    least = f"{100 * min(differing, difference_shown(n, differing)):.0f}"
    differed = any(row.differing for row in ruled)
    differ = f"that differ on up to {differing:.0%} of them" if differed else f"that would differ on {differing:.0%}"
    text = (
        f"{table.n_verdicts} verdicts on {table.n_groups} groups of prompts, policies {differ}: differences from about"
        f" {least} points on are found four times in five."
    )
    if shown:
        return text
    largest = max((abs(_ahead(row).mean) for row in ruled if row.ahead is not None), default=0.0)
    wanted = min(differing, largest if largest >= 0.02 else _WANTED)
    more = verdicts_needed(wanted, differing) - math.floor(n)
    if more <= 0:
        return text
    left = n_pairs - table.n_verdicts
    there = f"{left:,} are left here" if left else "here all pairs have one"
    enough = f"audit {more:,} more pairs" if more <= left else f"{more:,} more than there are now; {there}"
    what = "a difference as large as the largest seen" if largest >= 0.02 else "a difference"
    return f"{text} To show {what}, {100 * wanted:.0f} points, takes {math.floor(n) + more:,} verdicts: {enough}."
