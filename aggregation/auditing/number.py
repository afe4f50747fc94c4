"""How many more audits? For one labeler's accuracy, or for labels as good as this panel's can be.

**A labeler's accuracy to +- y.** Wilson's interval for an accuracy a has the half-width y after n(a) of its reports
were checked; n(a) is largest at a = 1/2. The accuracy is known only as far as the audits so far say, so the answer is
the range of n over Wilson's interval for a: it holds the right number at least as often as that interval holds the
accuracy.

**Labels at most x from the best.** The best is what the same rule gives the same reports once every outcome has been
revealed; the measure is the share of pairs on the outcome's side. Outcomes that are not known are imputed (Rubin 1987):
each is drawn with the chance that the ``stacked`` labels give it, fitted to a bootstrap of the audits. In every such
completed campaign more and more outcomes are revealed, in a random order; the number from which on at most x is lacking
is one answer, and the interval holds 95 % of them. So it is a prediction of what one campaign will need, with the luck
of its outcomes and audits in it, and it is wide. It assumes that the stacked labels are about calibrated: no plan can
know of an error that all share if no audit has shown it. Audits are counted as uniform ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray, IntArray, check_outcomes, check_reports
from truthful_rlhf.aggregation.labeling import label_campaign
from truthful_rlhf.aggregation.statistics import hits, wilson_interval

N_COMPLETED = 100
_STEPS = 14


@dataclass(frozen=True)
class AuditNumber:
    """A number of further audits: the estimate, and a 95 % interval; infinite where no number would do."""

    estimate: float
    low: float
    high: float


def reports_for_accuracy(accuracy: float, within: float) -> int:
    """Return the smallest number of checked reports with which Wilson's interval is at most +- ``within``.

    Args:
        accuracy: in [0, 1].
        within: half-width, in (0, 1/2).

    Examples:
        >>> reports_for_accuracy(0.5, 0.1), reports_for_accuracy(0.9, 0.1)
        (93, 37)
    """
    if not 0.0 < within < 0.5:
        raise ValueError(f"the half-width must be in (0, 0.5), got {within!r}")
    low, high = 0, math.ceil(4.0 / within**2)
    while high - low > 1:
        middle = (low + high) // 2
        ends = wilson_interval(accuracy, middle)
        low, high = (low, middle) if float(ends[1] - ends[0]) <= 2.0 * within else (middle, high)
    return high


def audits_for_accuracy(accuracy: float, checked: float, present: float, within: float) -> AuditNumber:
    """Return how many more pairs to audit until one labeler's accuracy is known to +- ``within``.

    Args:
        accuracy: so far, in [0, 1]; not read where ``checked`` is 0.
        checked: reports of the labeler that were checked, >= 0; an effective number where audits were unequally likely.
        present: share of the pairs still to be drawn that the labeler judged, in (0, 1].
        within: half-width, in (0, 1/2).
    """
    low, high = (float(end) for end in wilson_interval(accuracy, checked)) if checked > 0 else (0.0, 1.0)
    hardest = min(max(0.5, low), high)
    easiest = low if abs(low - 0.5) > abs(high - 0.5) else high
    likely = accuracy if checked > 0 else hardest
    numbers = (reports_for_accuracy(a, within) for a in (likely, easiest, hardest))
    return AuditNumber(*(float(math.ceil(max(0.0, number - checked) / present)) for number in numbers))


def audits_for_labels(
    reports: ArrayLike, outcomes: ArrayLike, within: float, rng: np.random.Generator, rule: str = "online_weighted"
) -> AuditNumber:
    """Return how many more pairs to audit until the labels are at most ``within`` below the best in accuracy.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, NaN where not known; at least 5 are known.
        within: accepted loss of accuracy, in (0, 1).
        rng: draws outcomes and orders of audits.
        rule: a rule whose labels move with outcomes.

    Raises:
        ValueError: fewer than 5 known outcomes.
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    judged = ~np.isnan(matrix).all(axis=1)
    matrix, vector = matrix[judged], vector[judged]
    known = np.flatnonzero(~np.isnan(vector))
    if len(known) < 5:
        raise ValueError(f"nothing can be said from {len(known)} known outcomes: audit at least 5 pairs first")
    if not 0.0 < within < 1.0:
        raise ValueError(f"the accepted loss of accuracy must be in (0, 1), got {within!r}")
    grid = audit_grid(len(vector) - len(known))
    answers = []
    for _ in range(N_COMPLETED):
        chances = _chances(matrix, vector, known, rng)
        completed = (rng.random(len(chances)) < chances).astype(np.float64)
        answers.append(smallest_number(shortfalls(matrix, completed, known, grid, rule, rng), grid, within))
    low, middle, high = np.quantile(answers, [0.025, 0.5, 0.975], method="inverted_cdf")
    return AuditNumber(float(middle), float(low), float(high))


def audit_grid(most: int) -> IntArray:
    """Return numbers of further audits from 0 to ``most``, closer together where they are small."""
    return np.unique(np.concatenate([[0], np.geomspace(1, max(1, most), _STEPS).round(), [most]]).astype(np.int64))


def shortfalls(
    reports: FloatArray,
    outcomes: FloatArray,
    known: IntArray,
    grid: IntArray,
    rule: str,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the accuracy that labels lack after each number of further audits, shape ``(len(grid),)``.

    Args:
        reports: shape ``(T, N)``.
        outcomes: of every pair, shape ``(T,)``.
        known: rounds that are audited from the beginning.
        grid: numbers of further audits.
        rule: a key of ``AGGREGATORS``.
        rng: draws the order of the audits.
    """

    def accuracy(revealed: FloatArray) -> float:
        labels = label_campaign(reports, revealed, rule, "reweighted", keep_weights=False).soft_labels
        return float(hits(labels, outcomes).mean())

    lacking = np.full(len(grid), accuracy(outcomes))
    shuffled = rng.permutation(np.setdiff1d(np.arange(len(outcomes)), known))
    for k, number in enumerate(grid.tolist()):
        audited = np.concatenate([known, shuffled[:number]])
        revealed = np.full(len(outcomes), np.nan)
        revealed[audited] = outcomes[audited]
        lacking[k] -= accuracy(revealed)
    return lacking


def smallest_number(lacking: FloatArray, grid: IntArray, within: float) -> float:
    """Return the smallest number of the grid from which on the shortfall stays at most ``within``, 0 at its end.

    Args:
        lacking: shortfall at each number, shape ``(K,)``.
        grid: shape ``(K,)``, rising.
        within: accepted shortfall.
    """
    above = np.flatnonzero(lacking > within)
    return float(grid[min(int(above[-1]) + 1, len(grid) - 1)] if len(above) else grid[0])


def _chances(reports: FloatArray, outcomes: FloatArray, known: IntArray, rng: np.random.Generator) -> FloatArray:
    """Return P(A better), shape ``(T,)``: known outcomes, and stacked labels fitted to a bootstrap of the audits."""
    kept = np.unique(rng.choice(known, len(known)))
    revealed = np.full(len(outcomes), np.nan)
    revealed[kept] = outcomes[kept]
    chances = label_campaign(reports, revealed, "online_weighted", "stacked", keep_weights=False).soft_labels
    return np.where(np.isnan(outcomes), chances, outcomes)
