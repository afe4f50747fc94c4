"""Suspicious patterns in a labeler's reports: constant, flipping, copying, position bias, honest-then-not.

Each pattern is a test against what the *other* labelers said about the same pairs (their mean, leaving the labeler out)
and, where enough outcomes are known, against those. A flag needs an effect worth a talk with the labeler and a p-value
that survives testing every labeler (Bonferroni at 1 %). A flag is a reason to look, not a verdict: if the majority is
wrong, the one who disagrees may be the best labeler in the panel. So the known outcomes are counted, however few: if
more of them are on the labeler's side than on the side of the others, the labeler is not compared with the others, and
a pattern is flagged only if the outcomes themselves show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special, stats

from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.aggregation.statistics import hits
from truthful_rlhf.labelers.recorded.table import Annotations

_LEVEL = 0.01
_MIN_REPORTS = 20
_CONSTANT_SHARE = 0.95
_FLIP_AGREEMENT = 0.4
_POSITION_BIAS = 0.1
_LOSS_RISE = 0.1
_COPY_SHARE = 0.95
_MIN_DEVIATIONS = 15
_COPY_LABELERS = 100
_COPY_ROUNDS = 20_000


@dataclass(frozen=True)
class Flag:
    """One suspicious pattern of one labeler."""

    labeler: int
    pattern: str
    evidence: str
    p_value: float


def mean_of_others(annotations: Annotations) -> FloatArray:
    """Return for each report the mean report of the other labelers on that pair, shape ``(R,)``, NaN if alone."""
    rounds, T = annotations.round_of_report, annotations.n_pairs
    count = np.bincount(rounds, minlength=T)[rounds] - 1
    total = np.bincount(rounds, annotations.report, T)[rounds] - annotations.report
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def suspicious_patterns(annotations: Annotations, outcomes: FloatArray) -> list[Flag]:
    """Return all flags, by labeler.

    Args:
        annotations: the campaign.
        outcomes: the outcomes that were revealed, shape ``(T,)``, NaN elsewhere.
    """
    others = mean_of_others(annotations)
    truth = outcomes[annotations.round_of_report]
    by_labeler = np.argsort(annotations.labeler, kind="stable")  # keeps each labeler's reports in round order
    bounds = np.searchsorted(annotations.labeler[by_labeler], np.arange(annotations.n_labelers + 1))
    level = _LEVEL / annotations.n_labelers
    flags: list[Flag] = []
    for i in range(annotations.n_labelers):
        own = by_labeler[bounds[i] : bounds[i + 1]]
        if len(own) < _MIN_REPORTS:
            continue
        reports = _Reports(i, annotations.report[own], others[own], truth[own], annotations.swapped[own])
        for test in (_constant, _flipping, _position_bias, _honest_then_not):
            flag = test(reports)
            if flag is not None and flag.p_value < level:
                flags.append(flag)
    return sorted(flags + copies(annotations, outcomes), key=lambda flag: (flag.labeler, flag.pattern, flag.evidence))


@dataclass(frozen=True)
class _Reports:
    """One labeler's reports, with the mean of the others and the outcome (NaN: none) of the same pairs."""

    labeler: int
    report: FloatArray
    others: FloatArray
    outcome: FloatArray
    swapped: BoolArray

    def as_shown(self, values: FloatArray) -> FloatArray:
        """Return probabilities that the response shown *first* is better."""
        return np.where(self.swapped, 1.0 - values, values)

    @cached_property
    def others_are_refuted(self) -> bool:
        """Whether the known outcomes were more often on the labeler's side than on that of the others."""
        return _refuted(self.report, self.others, self.outcome)

    @property
    def yardstick(self) -> FloatArray:
        """What the reports are compared with: the others, or the outcomes alone where these refute the others."""
        return self.outcome if self.others_are_refuted else self.others


def _refuted(report: FloatArray, others: FloatArray, outcome: FloatArray) -> bool:
    both = ~np.isnan(outcome) & ~np.isnan(others)
    own, theirs = (hits(q[both], outcome[both]).sum() for q in (report, others))
    return bool(own > theirs)


def _constant(r: _Reports) -> Flag | None:
    """Flag the same report on (nearly) every pair while the others' mean falls on both sides of 1/2.

    Others who are wrong still show that pairs differ; only outcomes that are as constant as the reports refute that.
    """
    values, counts = np.unique(np.round(r.as_shown(r.report), 3), return_counts=True)
    fraction = counts.max() / len(r.report)
    usual = float(values[np.argmax(counts)])
    others, outcome = (r.as_shown(q)[~np.isnan(q)] for q in (r.others, r.outcome))
    sided = np.sign(others - 0.5)
    sided = sided[sided != 0]
    if fraction < _CONSTANT_SHARE or len(sided) < _MIN_REPORTS:
        return None
    if r.others_are_refuted and np.mean((outcome - 0.5) * (usual - 0.5) > 0) >= _CONSTANT_SHARE:
        return None
    agree = np.mean(sided == np.sign(usual - 0.5)) if usual != 0.5 else 0.0
    # A labeler who looked would follow the others' side changes now and then.
    p_value = float(max(agree, 1.0 - agree) ** len(sided)) if usual != 0.5 else 0.0
    return Flag(r.labeler, "constant", f"reports {usual:g} on {fraction:.0%} of {len(r.report)} pairs", p_value)


def _flipping(r: _Reports) -> Flag | None:
    """Flag a labeler who is on the wrong side of the outcomes (or, without outcomes, of the others) too often."""
    known = ~np.isnan(r.outcome)
    against, what = (r.outcome, "the outcome") if known.sum() >= _MIN_REPORTS else (r.yardstick, "the others")
    decided = ~np.isnan(against) & (against != 0.5) & (r.report != 0.5)
    n = int(decided.sum())
    if n < _MIN_REPORTS:
        return None
    right = int(((r.report[decided] > 0.5) == (against[decided] > 0.5)).sum())
    if right / n > _FLIP_AGREEMENT:
        return None
    p_value = float(stats.binom.cdf(right, n, 0.5))
    return Flag(r.labeler, "flipping", f"on the side of {what} on {right} of {n} pairs ({right / n:.0%})", p_value)


def _position_bias(r: _Reports) -> Flag | None:
    """Flag reports that lean towards the first or the second response compared with the others' reports."""
    difference = (r.as_shown(r.report) - r.as_shown(r.yardstick))[~np.isnan(r.yardstick)]
    if len(difference) < _MIN_REPORTS or difference.std() == 0.0:
        return None
    bias = float(difference.mean())
    if abs(bias) < _POSITION_BIAS:
        return None
    z = bias / (difference.std(ddof=1) / np.sqrt(len(difference)))
    side = "first" if bias > 0 else "second"
    evidence = f"leans {abs(bias):.2f} towards the response shown {side} ({len(difference)} pairs)"
    return Flag(r.labeler, "position bias", evidence, float(2.0 * stats.norm.sf(abs(z))))


def _honest_then_not(r: _Reports) -> Flag | None:
    """Flag a loss that rises at some point (CUSUM; under no change its maximum follows Kolmogorov's distribution)."""
    known = ~np.isnan(r.outcome)
    enough = known.sum() >= 2 * _MIN_REPORTS
    against, what = (r.outcome, "the outcomes") if enough else (r.yardstick, "the others")
    used = ~np.isnan(against)
    loss = (r.report[used] - against[used]) ** 2
    n = len(loss)
    if n < 2 * _MIN_REPORTS or loss.std() == 0.0:
        return None
    drift = np.cumsum(loss - loss.mean()) / (loss.std() * np.sqrt(n))
    change = int(np.argmin(drift)) + 1  # below the mean before, above it afterwards
    if change >= n:
        return None
    before, after = float(loss[:change].mean()), float(loss[change:].mean())
    if after - before < _LOSS_RISE:
        return None
    evidence = f"squared loss against {what} {before:.2f} until report {change} of {n}, {after:.2f} afterwards"
    return Flag(r.labeler, "honest, then not", evidence, float(special.kolmogorov(-drift.min())))


def copies(annotations: Annotations, outcomes: FloatArray) -> list[Flag]:
    """Flag pairs of labelers whose *mistakes* are the same.

    Two good labelers agree because both are right; copies also agree where both are wrong. Looks at the pairs that the
    first labeler got wrong (against the outcome where it was revealed, otherwise against the mean of at least two
    others, unless the known outcomes refute these) and asks whether the second gave the identical report on at least
    95 % of them. Labelers that run the same model show up too. Limited to the 100 most active labelers and the first
    20,000 pairs.
    """
    activity = np.bincount(annotations.labeler, minlength=annotations.n_labelers)
    active = np.sort(np.argsort(-activity, kind="stable")[:_COPY_LABELERS])
    dense = annotations.matrix(np.arange(min(annotations.n_pairs, _COPY_ROUNDS)))
    outcomes = outcomes[: len(dense)]
    n_reports = int(annotations.start[len(dense)])  # sums over the reports, not over the matrix: it is mostly empty
    rounds, report = annotations.round_of_report[:n_reports], annotations.report[:n_reports]
    total = np.bincount(rounds, report, len(dense)).astype(np.float64)
    count = np.bincount(rounds, minlength=len(dense))
    present = (~np.isnan(dense[:, active])).astype(np.float32)
    level = _LEVEL / max(1, len(active) * (len(active) - 1))
    flags = {}
    for i, j in active[np.argwhere((present.T @ present) >= _MIN_DEVIATIONS)]:
        if i != j:
            flag = _copy(annotations, dense, total, count, outcomes, int(i), int(j))
            if flag is not None and flag.p_value < level:
                flags[i, j] = flag
    # Both ways: somebody who is always wrong shares everybody's mistakes, but nobody shares all of theirs.
    return [flag for (i, j), flag in flags.items() if (j, i) in flags]


def _copy(
    annotations: Annotations,
    dense: FloatArray,
    total: FloatArray,
    count: IntArray,
    outcomes: FloatArray,
    i: int,
    j: int,
) -> Flag | None:
    both = np.flatnonzero(~np.isnan(dense[:, i]) & ~np.isnan(dense[:, j]))
    a, b, n_rest = dense[both, i], dense[both, j], count[both] - 2
    rest = np.where(n_rest >= 2, (total[both] - a - b) / np.maximum(n_rest, 1), np.nan)
    known = outcomes[both]
    reference = known if _refuted(a, rest, known) else np.where(np.isnan(known), rest, known)
    wrong = (a - 0.5) * (reference - 0.5) < 0
    n = int(wrong.sum())
    if n < _MIN_DEVIATIONS:
        return None
    same = int((np.abs(a - b) < 1e-9)[wrong].sum())
    if same / n < _COPY_SHARE:
        return None
    evidence = f"same report as {annotations.labeler_ids[j]} on {same} of the {n} pairs that it got wrong"
    return Flag(i, "copying", evidence, float(stats.binom.sf(same - 1, n, 0.5)))
