"""The incentive audit on recorded annotations: what each labeler could have gained by misreporting.

What people reported is taken for their belief and everybody else's reports are kept. A misreport is chosen on a
random half of the pairs and its gain measured on the other half, both ways, over several random halves: a gain found
and measured on the same pairs would be mostly luck. A gain of ``scale`` below 1 says that the labeler is
overconfident: it would have earned it by better calibration, and it should not be read as an intention to lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.auditing.folds import check_sample_weights
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, check_outcomes, check_reports
from truthful_rlhf.aggregation.campaign import run_online
from truthful_rlhf.aggregation.game.best_response import STRATEGY_CLASSES
from truthful_rlhf.aggregation.game.campaigns import Objective, Rule
from truthful_rlhf.aggregation.game.misreport import Misreport

FEWEST_REPORTS = 8
"""A labeler with fewer reports on audited pairs is not audited.

Each random half would hold fewer than four of them on average: too few to choose a misreport on, or to measure it."""

_TRUTH = Misreport()
_CHOICES = [_TRUTH, *(lie for name in ("scale", "shift", "flip") for lie in STRATEGY_CLASSES[name].lies(1))]


@dataclass(frozen=True)
class RecordedGain:
    """What one labeler of a recorded campaign could have gained over what it reported.

    Attributes:
        labeler: its column in the reports.
        n_audited: its reports on pairs with a revealed outcome.
        gain: relative gain (0.01 = 1 %), measured on pairs other than those it was chosen on; NaN: too few reports.
        low: the smallest such gain over the random halves.
        high: the largest.
        hindsight: relative gain of the best misreport chosen and measured on all pairs: it contains luck.
        misreport: that best misreport in hindsight.
    """

    labeler: int
    n_audited: int
    gain: float
    low: float
    high: float
    hindsight: float
    misreport: Misreport


def gains_on_recorded(
    reports: ArrayLike,
    outcomes: ArrayLike,
    rule: Rule,
    objective: Objective,
    *,
    rng: np.random.Generator,
    labelers: Iterable[int] | None = None,
    n_splits: int = 4,
    sample_weights: ArrayLike | None = None,
    on_labeler: Callable[[int], None] = lambda labeler: None,
) -> list[RecordedGain]:
    """Return what each labeler could have gained by the best constant scale, shift or flip of its reports.

    Args:
        reports: recorded reports, shape ``(T, N)``, in [0, 1], NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 0, 1 or NaN.
        rule: from the number of labelers to a fresh aggregator, e.g. ``AGGREGATORS["online_weighted"]``.
        objective: e.g. ``Objective("taste")``; under ``policy_taste`` all pairs are of one topic.
        rng: source of the random halves.
        labelers: columns to audit; all by default. The time grows with their number times T * N.
        n_splits: number of random halvings, >= 1.
        sample_weights: what each outcome counts for, as in ``run_online``, shape ``(T,)``; None: all alike.
        on_labeler: called with each column when it is done (a progress bar).

    Returns:
        One entry per audited labeler, in the order of ``labelers``.
    """
    matrix = check_reports(reports)
    vector = check_outcomes(outcomes, len(matrix))
    counts = check_sample_weights(sample_weights, vector)
    if n_splits < 1:
        raise ValueError(f"n_splits must be >= 1, got {n_splits}")
    columns = list(range(matrix.shape[1]) if labelers is None else labelers)
    for labeler in columns:
        if not 0 <= labeler < matrix.shape[1]:
            raise ValueError(f"labeler {labeler} does not exist: the reports have {matrix.shape[1]} columns")
    judged = ~np.isnan(matrix).all(axis=1)
    campaign = _Campaign(matrix[judged], vector[judged], counts[judged], rule, objective)
    matrix = campaign.reports
    halves = [rng.permutation(len(matrix)) < len(matrix) // 2 for _ in range(n_splits)]
    result = []
    for labeler in columns:
        result.append(_gain_of(labeler, campaign, halves))
        on_labeler(labeler)
    return result


@dataclass(frozen=True)
class _Campaign:
    """Reports ``(T, N)``, outcomes and what each counts for, ``(T,)``, under a rule and an objective."""

    reports: FloatArray
    outcomes: FloatArray
    counts: FloatArray
    rule: Rule
    objective: Objective

    def payoff(self, labeler: int, rows: BoolArray, misreport: Misreport) -> float:
        tried = self.reports[rows]
        view = tried[:, labeler].copy()
        tried[:, labeler] = misreport(view)
        aggregator = self.rule(tried.shape[1])
        weights = None if (self.counts == 1.0).all() else self.counts[rows]
        run = run_online(aggregator, tried, self.outcomes[rows], range(len(tried)), sample_weights=weights)
        return self.objective.payoff(run, aggregator.weights_, slice(labeler, labeler + 1), view)


def _gain_of(labeler: int, campaign: _Campaign, halves: list[BoolArray]) -> RecordedGain:
    reports, outcomes = campaign.reports, campaign.outcomes
    n_audited = int((~np.isnan(reports[:, labeler]) & ~np.isnan(outcomes)).sum())
    if n_audited < FEWEST_REPORTS:
        return RecordedGain(labeler, n_audited, np.nan, np.nan, np.nan, np.nan, _TRUTH)

    def payoffs(rows: BoolArray) -> FloatArray:
        return np.array([campaign.payoff(labeler, rows, lie) for lie in _CHOICES])

    held_out = []
    for half in halves:
        first, second = payoffs(half), payoffs(~half)
        held_out.append(0.5 * (_relative(second, int(first.argmax())) + _relative(first, int(second.argmax()))))
    everything = payoffs(np.ones(len(reports), dtype=bool))
    best = int(everything.argmax())
    return RecordedGain(
        labeler=labeler,
        n_audited=n_audited,
        gain=float(np.mean(held_out)),
        low=min(held_out),
        high=max(held_out),
        hindsight=_relative(everything, best),
        misreport=_CHOICES[best],
    )


def _relative(payoffs: FloatArray, choice: int) -> float:
    """Return the gain of a choice over the truth (entry 0) relative to the size of the truthful payoff."""
    return float(payoffs[choice] - payoffs[0]) / max(abs(float(payoffs[0])), 1e-300)
