"""Do the labelers know which pairs are audited? Compare their agreement on audited and on other pairs.

A labeler that recognises the audited pairs can be honest there, earn weight, and lie on the rest. No rule that learns
from audits survives that. But such a labeler agrees with the others more, or less, on audited pairs than elsewhere.
With x = 2 r - 1, labeler i's agreement on pair t is x_ti times the mean of x over the others present, and D_i is its
mean over the audited pairs minus that over the others; D of the panel is the same over all labelers at once.

**Test.** Which pairs are audited is drawn by the organiser: at random, or with known probabilities. If nobody knows the
draw, the reports do not depend on it. So the audits are drawn again R times and D is computed for each (a permutation
test; with probabilities, a conditional randomisation test, Candes et al. 2018). D_i is standardised by its mean and
standard deviation over all R + 1 draws; the statistic is the largest ``|z|`` over the labelers and the panel, which
corrects for their number. p = (1 + number of redraws with as large a statistic) / (R + 1) is exact: under honest
reports P(p <= level) <= level, whatever the labelers' skills, correlations and absences.

**Silence** means something only if the test would have found a leak. The audit-aware liars of the claim are simulated
on the panel itself: a random ``SHARE`` = 30 % of the labelers have their reports exchanged (r -> 1 - r) on the pairs
that are not audited, and the same test is run. Unless it sounds in 95 % of such panels the answer is "cannot tell".

The alarm accuses the panel, not persons: if a third lie, the honest ones' agreement changes as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import BoolArray, FloatArray, check_reports

Status = Literal["alarm", "quiet", "cannot tell"]

LEVEL = 0.01
SHARE = 0.3
HEARD = 0.95
_BLOCK_ENTRIES = 1 << 22


@dataclass(frozen=True)
class LeakAlarm:
    """What the comparison of audited and other pairs says about the panel.

    Attributes:
        status: ``alarm``: p is at most the level. ``quiet``: it is not, and a leak to 30 % of the panel would have been
            heard. ``cannot tell``: it is not, and such a leak might well not have been heard.
        p_value: of the panel, in (0, 1].
        heard: share of simulated panels with 30 % audit-aware liars in which the alarm sounds; NaN after an alarm.
        z: standardised difference in agreement of each labeler, shape ``(N,)``; 0 for those who cannot be compared.
            It explains the alarm and convicts nobody.
    """

    status: Status
    p_value: float
    heard: float
    z: FloatArray


def leak_alarm(
    reports: ArrayLike,
    audited: ArrayLike,
    rng: np.random.Generator,
    audit_probability: ArrayLike | None = None,
    n_redraws: int = 999,
    n_simulated: int = 40,
) -> LeakAlarm:
    """Test whether the labelers' agreement differs between audited and other pairs.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        audited: which pairs were audited, boolean, shape ``(T,)``.
        rng: draws audits again, and the simulated liars.
        audit_probability: chance of every pair to be audited, independently, shape ``(T,)``, in [0, 1]; None: all sets
            of as many pairs were equally likely.
        n_redraws: R, >= 99.
        n_simulated: panels with liars that decide between ``quiet`` and ``cannot tell``, >= 1.

    Raises:
        ValueError: another shape, probabilities outside [0, 1], or an audited pair with probability 0.
    """
    matrix = check_reports(reports)
    drawn = np.asarray(audited)
    if drawn.shape != (len(matrix),) or drawn.dtype != np.bool_:
        raise ValueError(f"audited must be boolean with shape ({len(matrix)},), got {drawn.dtype} {drawn.shape}")
    if n_redraws < 99 or n_simulated < 1:
        raise ValueError(f"need n_redraws >= 99 and n_simulated >= 1, got {n_redraws} and {n_simulated}")
    chances = _checked_chances(audit_probability, drawn)
    redraws = np.concatenate([drawn[None], _redrawn(drawn, chances, n_redraws, rng)])
    p_value, z = _tested(matrix, redraws)
    if p_value <= LEVEL:
        return LeakAlarm("alarm", p_value, float("nan"), z)
    heard = float(np.mean([_tested(_with_liars(matrix, drawn, rng), redraws)[0] <= LEVEL for _ in range(n_simulated)]))
    return LeakAlarm("quiet" if heard >= HEARD else "cannot tell", p_value, heard, z)


def agreement(reports: FloatArray) -> FloatArray:
    """Return each report's agreement with the mean of the others', shape ``(T, N)``; NaN where there is none.

    Examples:
        >>> agreement(np.array([[1.0, 1.0, 0.0], [0.75, float("nan"), float("nan")]]))[0].tolist()
        [0.0, 0.0, -1.0]
    """
    present = ~np.isnan(reports)
    signed = np.where(present, 2.0 * reports - 1.0, 0.0)
    n_others = present.sum(axis=1, keepdims=True) - 1
    others = signed.sum(axis=1, keepdims=True) - signed
    mean_of_others = np.divide(others, n_others, out=np.zeros_like(others), where=n_others > 0)
    return np.where(present & (n_others > 0), signed * mean_of_others, np.nan)


def _checked_chances(audit_probability: ArrayLike | None, audited: BoolArray) -> FloatArray | None:
    if audit_probability is None:
        return None
    chances = np.asarray(audit_probability, dtype=np.float64)
    if chances.shape != audited.shape:
        raise ValueError(f"audit_probability must have shape {audited.shape}, got {chances.shape}")
    bad = ~((chances >= 0.0) & (chances <= 1.0)) | (audited & (chances == 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"audit_probability must be in [0, 1], and > 0 where audited: pair {row} has {chances[row]!r}")
    return chances


def _redrawn(audited: BoolArray, chances: FloatArray | None, n_redraws: int, rng: np.random.Generator) -> BoolArray:
    """Return other draws of the audits, shape ``(n_redraws, T)``."""
    if chances is not None:
        return rng.random((n_redraws, len(audited))) < chances
    return rng.permuted(np.tile(audited, (n_redraws, 1)), axis=1)


def _tested(reports: FloatArray, redraws: BoolArray) -> tuple[float, FloatArray]:
    """Return the p-value of the first of the draws among all of them, and its z by labeler."""
    values = agreement(reports)
    known = ~np.isnan(values)
    values = np.where(known, values, 0.0)
    # the last column is the panel
    sums = np.column_stack([values, values.sum(axis=1)])
    counts = np.column_stack([known, known.sum(axis=1)]).astype(np.float64)
    size = max(1, _BLOCK_ENTRIES // max(1, len(reports)))
    blocks = [_differences(redraws[k : k + size], sums, counts) for k in range(0, len(redraws), size)]
    differences = np.concatenate(blocks)
    deviation = differences.std(axis=0)
    centred = differences - differences.mean(axis=0)
    z = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)
    largest = np.abs(z).max(axis=1)
    return float((largest >= largest[0] - 1e-9).mean()), z[0, :-1]


def _differences(draws: BoolArray, sums: FloatArray, counts: FloatArray) -> FloatArray:
    """Return D of every draw and column, shape ``(R, N + 1)``; 0 where one of the two means is empty."""
    inside = draws.astype(np.float64)
    sum_inside, count_inside = inside @ sums, inside @ counts
    sum_outside, count_outside = sums.sum(axis=0) - sum_inside, counts.sum(axis=0) - count_inside
    both = (count_inside > 0.0) & (count_outside > 0.0)
    result: FloatArray = np.where(
        both, sum_inside / np.maximum(count_inside, 1.0) - sum_outside / np.maximum(count_outside, 1.0), 0.0
    )
    return result


def _with_liars(reports: FloatArray, audited: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return the reports with those of a random 30 % of the labelers exchanged on the pairs that are not audited."""
    n_labelers = reports.shape[1]
    liars = rng.permutation(n_labelers) < max(1, round(SHARE * n_labelers))
    return np.where(np.outer(~audited, liars), 1.0 - reports, reports)
