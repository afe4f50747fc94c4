"""The incentive audit: what a labeler could gain by the best misreport found, against one rule.

Two questions, one exact and one measured:

- *next share*: the expected share of weight after one round, by exact expectation over the outcome (the labeler's
  belief p gives P(y = 1) = p). Under the online weighted mechanism no report beats the belief; normalised linear
  rules and hedge have reports that do.
- ``influence`` and ``taste`` over a whole campaign (``aggregation.game.campaigns``): a search over named strategy
  classes. A misreport is chosen on one set of simulated campaigns and its gain measured on others, so that choosing
  the best of many does not flatter the figure.

A measured gain is a lower bound on what a cleverer liar could gain: an audit, not a proof.
``aggregation.game.recorded_gains`` asks the same of people's recorded annotations.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import Aggregator, FloatArray
from truthful_rlhf.aggregation.campaign import run_online
from truthful_rlhf.aggregation.game.best_response import STRATEGY_CLASSES, Payoffs, grid_search, spsa_search
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign, LabelerPosition, Objective, Rule
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.statistics import percentile_interval

_CANDIDATE_REPORTS = np.linspace(0.0, 1.0, 201)
_TINY = 1e-300
"""Stands for a payoff of zero when a gain is put in relation to it."""


@dataclass(frozen=True)
class NextShareGain:
    """The exact one-round gain of one labeler, or bloc, over several moments of simulated campaigns.

    Attributes:
        share: mean expected share after a truthful round.
        largest: largest relative gain in expected share over the moments; 0 up to rounding if the truth is always best.
        mean: mean relative gain over the moments.
        offset: largest distance between the best report and the belief; resolution 0.005.
        n_moments: how many moments.
    """

    share: float
    largest: float
    mean: float
    offset: float
    n_moments: int


def expected_next_share(
    aggregator: Aggregator, reports: FloatArray, members: slice, belief: float, candidates: FloatArray
) -> FloatArray:
    """Return the expected share after one round for each report that the labelers in ``members`` could make.

    Args:
        aggregator: the rule in its present state; it is copied, not changed.
        reports: all reports of this round, shape ``(N,)``; the entries of ``members`` are replaced.
        members: one labeler, or a bloc that reports the same and counts its joint share.
        belief: P(y = 1) as the deviating labelers see it, in [0, 1].
        candidates: reports to try, shape ``(m,)``.

    Returns:
        belief * share(y = 1) + (1 - belief) * share(y = 0), shape ``(m,)``: an exact expectation, no sampling.
    """
    tried = np.array(reports, dtype=np.float64)
    shares = np.zeros(len(candidates))
    for k, candidate in enumerate(candidates):
        tried[members] = candidate
        for outcome, probability in ((0.0, 1.0 - belief), (1.0, belief)):
            future = copy.deepcopy(aggregator)
            future.learn_one(tried, outcome)
            shares[k] += probability * float(future.weights_[members].sum())
    return shares


def next_share_gain(
    rule: Rule, campaigns: Sequence[Campaign], columns: slice, rng: np.random.Generator
) -> NextShareGain:
    """Return the exact one-round gain of one labeler, or bloc, at one random moment of every campaign.

    Args:
        rule: from the number of labelers to a fresh aggregator.
        campaigns: simulated campaigns; the rule has learned from all rounds before the moment.
        columns: the labelers that may deviate in one round; a bloc acts on the belief of its first member.
        rng: draws the moments.
    """
    gains, shares, offsets = [], [], []
    for campaign in campaigns:
        moment = int(rng.integers(campaign.n_rounds))
        aggregator = rule(campaign.reports.shape[1])
        run_online(aggregator, campaign.reports[:moment], campaign.revealed()[:moment], range(moment))
        belief = float(campaign.beliefs[moment, columns.start])
        candidates = np.append(belief, _CANDIDATE_REPORTS)
        expected = expected_next_share(aggregator, campaign.reports[moment], columns, belief, candidates)
        best = int(expected.argmax())
        gains.append(float(expected[best] - expected[0]) / max(float(expected[0]), _TINY))
        shares.append(float(expected[0]))
        offsets.append(abs(float(candidates[best]) - belief))
    return NextShareGain(float(np.mean(shares)), max(gains), float(np.mean(gains)), max(offsets), len(gains))


def relative_gain(
    lying: FloatArray, truthful: FloatArray, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 2000
) -> tuple[float, float, float]:
    """Return mean(lying - truthful) / |mean(truthful)| over paired campaigns, with its bootstrap interval.

    Args:
        lying: payoffs with the misreport, shape ``(n_campaigns,)``.
        truthful: payoffs without it in the same campaigns, shape ``(n_campaigns,)``.
        rng: draws the resampled campaigns.
        level: coverage of the interval.
        n_resamples: number of bootstrap resamples.

    Returns:
        Gain, lower and upper end; 0.01 is 1 % of the truthful payoff.
    """
    difference = lying - truthful
    picks = rng.integers(len(difference), size=(n_resamples, len(difference)))
    resampled = difference[picks].mean(axis=1) / np.maximum(np.abs(truthful[picks].mean(axis=1)), _TINY)
    return float(difference.mean()) / max(abs(float(truthful.mean())), _TINY), *percentile_interval(resampled, level)


def describe(misreport: Misreport, n_rounds: int) -> str:
    """Return a misreport in words, e.g. ``x4, shift +1 from 80 %``: scale and shift of the log-odds, start."""
    words = [f"x{misreport.scale:.3g}"] if misreport.scale != 1.0 else []
    words += [f"shift {misreport.shift:+.2g}"] if misreport.shift != 0.0 else []
    when = f" from {100 * misreport.start / n_rounds:.0f} %" if misreport.start else ""
    return ", ".join(words) + when if words else "truth"


@dataclass(frozen=True)
class Gain:
    """What one labeler, or bloc, gains over the truth by the best misreport found in one strategy class.

    Attributes:
        objective: ``influence``, ``taste`` or ``policy_taste``.
        strategy: class that was searched; ``declared``: what the labeler itself declares to do.
        misreport: in words (``describe``).
        truthful_payoff: mean payoff of the truth over the fresh campaigns.
        search_gain: relative gain on the campaigns it was chosen on: to compare classes with, flattering as a figure.
        gain: relative gain (0.01 = 1 %), mean over fresh campaigns; negative: lying in this way costs.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        n_campaigns: number of fresh campaigns.
    """

    objective: str
    strategy: str
    misreport: str
    truthful_payoff: float
    search_gain: float
    gain: float
    low: float
    high: float
    n_campaigns: int


def gains_by_class(
    searching: LabelerPosition,
    measuring: LabelerPosition,
    strategies: Sequence[str],
    rng: np.random.Generator,
    declared: str = "",
) -> Iterator[Gain]:
    """Yield the gain of a labeler's best misreport in every strategy class, then of what it declares to do.

    Args:
        searching: the labeler's position with the campaigns that misreports are chosen on.
        measuring: the same position with other campaigns of the same length, which the gains are measured on.
        strategies: names of ``STRATEGY_CLASSES``, and ``spsa`` for the second searcher over scale, shift and start.
        rng: drives SPSA and the bootstrap.
        declared: what the labeler does in the campaigns (``Campaign.reports``), in words; empty: the truth.
    """
    in_search, truthful = searching.payoffs(TRUTH), measuring.payoffs(TRUTH)

    def measured(strategy: str, misreport: str, searched: FloatArray, fresh: FloatArray) -> Gain:
        gain, low, high = relative_gain(fresh, truthful, rng)
        search_gain, _, _ = relative_gain(searched, in_search, rng, n_resamples=1)
        payoff = float(truthful.mean())
        objective = searching.objective.name
        return Gain(objective, strategy, misreport, payoff, search_gain, gain, low, high, len(truthful))

    for name in strategies:
        lie = _best_of(name, searching.payoffs, searching.n_rounds, rng)
        words = describe(lie, searching.n_rounds)
        yield measured(name, words, searching.payoffs(lie), measuring.payoffs(lie))
    if declared:
        yield measured("declared", declared, searching.usual_payoffs(), measuring.usual_payoffs())


def _best_of(strategy: str, payoffs: Payoffs, n_rounds: int, rng: np.random.Generator) -> Misreport:
    if strategy == "spsa":
        return spsa_search(payoffs, n_rounds, rng)
    return grid_search(payoffs, STRATEGY_CLASSES[strategy], n_rounds)


__all__ = ["Gain", "NextShareGain", "Objective", "expected_next_share", "gains_by_class", "next_share_gain"]
