"""Optimal adaptive lies in small games, by dynamic programming: what a liar can gain who reconsiders every round.

``aggregation.game.incentives`` searches named classes of misreports in large simulated campaigns: a lower bound. Here
the game is small and the best strategy is found exactly, up to grids: two labelers, T rounds, every pair audited. In
each round labeler 0 learns its belief b, drawn anew; the outcome is 1 with probability b, in its own view; the other
reports as it does given the outcome. Labeler 0 may choose every report knowing all that happened, so its state is its
weight (one number for two labelers) and the round; for the policy objective also the sum of label - belief so far.

Objectives (all are maximised):

    next share   expected weight after one round; the largest relative gain over all states
    influence    mean over the rounds of the weight after each
    taste        - mean over the rounds of E (label - b)^2
    policy       - E (mean label - mean belief)^2: the liar wants labels of like pairs near its view on average

The value function stands on a grid of weights and is interpolated between, by cubic polynomials where it is smooth and
linearly where labels have kinks (``quantile``) or jump (``median``, whose grid is split at 1/2); the error is stated
by solving again on half of the grid. The ``examined`` rule needs no grid: the difference of two whole debts is a whole
number. It is solved for one lottery, which is enough for the payoffs that are means over lotteries
(``aggregation.rules.examined``); the policy objective is none, so its figure there is the gain against a rule with a
single lottery. A gain is what *this* grid of reports reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.aggregation.two_labelers import Process, between, labels_of, process_of

OBJECTIVES = ("next share", "influence", "taste", "policy")
RULES: dict[str, str] = {
    "mean": "mean",
    "median": "median",
    "online_weighted": "mean",
    "linear_weighted": "mean",
    "hedge": "mean",
    "examined": "drawn",
}
"""The rules that can be solved, with their own label; ``online_weighted`` takes every label."""


@dataclass(frozen=True)
class SmallGame:
    """Two labelers, T rounds, every outcome revealed.

    Attributes:
        n_rounds: T >= 1. Up to 60 takes seconds; for the policy objective, up to about 10.
        beliefs: labeler 0's possible beliefs, equally likely in every round, in [0, 1].
        other_reports: what the other may report, in [0, 1].
        other_chances: chances of these reports given the outcome 0 and 1, shape ``(2, n)``; None: a calibrated other,
            whose reports r are such that P(y = 1 | r) = r if outcomes are equally likely (needs a mean of 1/2).
    """

    n_rounds: int = 20
    beliefs: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    other_reports: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    other_chances: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def chances(self) -> FloatArray:
        """Return P(outcome, other's report | own belief), shape ``(n_beliefs, 2, n_reports)``."""
        beliefs, reports = np.array(self.beliefs), np.array(self.other_reports)
        given = np.array([1.0 - reports, reports] if self.other_chances is None else self.other_chances)
        given = given / given.sum(axis=1, keepdims=True)
        outcomes: FloatArray = np.stack([1.0 - beliefs, beliefs], axis=1)
        return outcomes[:, :, None] * given[None]


@dataclass(frozen=True)
class AdaptiveLie:
    """What the best adaptive strategy gains over the truth.

    Attributes:
        rule: that was lied to.
        label: how it states its label.
        objective: one of ``OBJECTIVES``.
        n_rounds: T.
        truthful_payoff: of the truth in every round; for ``next share`` in the state of the largest gain.
        best_payoff: of the best strategy.
        gain: (best - truthful) / |truthful|; 0.01 is 1 %.
        grid_change: how much the gain changes when the grid is halved: its numerical error is about that.
        offset: largest distance between belief and best report over the beliefs of the first round (for ``next
            share``: over all states).
    """

    rule: str
    label: str
    objective: str
    n_rounds: int
    truthful_payoff: float
    best_payoff: float
    gain: float
    grid_change: float
    offset: float


def best_adaptive_lie(
    rule: str,
    objective: str,
    game: SmallGame,
    label: str | None = None,
    eta: float | Literal["auto"] = 0.1,
    grid: int = 400,
    n_reports: int = 51,
) -> AdaptiveLie:
    """Solve a small game for labeler 0 against one rule.

    Args:
        rule: a name of ``RULES``.
        objective: a name of ``OBJECTIVES``.
        game: the beliefs and the other labeler.
        label: of ``online_weighted``, one of ``LABELS``; None: the rule's own.
        eta: step size of the multiplicative rules, or "auto": the schedule of ``aggregation.rules.step_size``
            (``hedge`` takes a number). Not read by the others.
        grid: number of intervals of the grid of weights, even, >= 8; halved once to state the error. The policy
            objective takes 30 or so: its state has a second dimension.
        n_reports: number of reports on [0, 1] to choose from, beside the beliefs and ten reports near to each. The
            policy objective has the twentieths instead; beliefs and the other's reports should be such, too.

    Raises:
        ValueError: an unknown rule, objective or label, or a grid too coarse.

    Examples:
        >>> best_adaptive_lie("median", "taste", SmallGame(n_rounds=5)).gain
        0.0
        >>> best_adaptive_lie("mean", "taste", SmallGame(n_rounds=5)).gain > 0.2
        True
    """
    if rule not in RULES or objective not in OBJECTIVES:
        raise ValueError(f"rules: {', '.join(RULES)}; objectives: {', '.join(OBJECTIVES)}; got {rule!r}, {objective!r}")
    label = RULES[rule] if label is None else label
    if label not in LABELS or (label != RULES[rule] and rule != "online_weighted"):
        raise ValueError(f"{rule} is solved with the label {RULES[rule]!r}, online_weighted with any of {list(LABELS)}")
    if grid < 8 or grid % 2:
        raise ValueError(f"grid must be even and >= 8, got {grid}")
    if objective == "policy":  # reports in twentieths: their sums stand on the grid of sums
        n_reports, near = 21, np.array(game.beliefs)
    else:
        near = _nearby(game.beliefs)
    reports = np.unique(np.concatenate([np.linspace(0.0, 1.0, n_reports), near]))
    fine, coarse = (process_of(rule, label, game.n_rounds, eta, size) for size in (grid, grid // 2))
    truthful, best, gain, offset = _solved(fine, objective, game, reports)
    change = abs(gain - _solved(coarse, objective, game, reports)[2])
    return AdaptiveLie(rule, label, objective, game.n_rounds, truthful, best, gain, change, offset)


def _nearby(beliefs: tuple[float, ...]) -> FloatArray:
    """Return the beliefs and reports up to .01 beside them: the gains of rules that are nearly truthful are there."""
    steps = np.concatenate([[0.0], *([step, -step] for step in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2))])
    near = np.array(beliefs)[:, None] + steps
    result: FloatArray = near[(near >= 0.0) & (near <= 1.0)]
    return result


# --- backward induction -------------------------------------------------------------------------------------------


def _solved(
    process: Process, objective: str, game: SmallGame, reports: FloatArray
) -> tuple[float, float, float, float]:
    """Return the payoff of the truth, of the best strategy, the relative gain, and the offset."""
    if objective == "next share":
        return _next_share(process, game, reports)
    solve = _policy_value if objective == "policy" else _value
    truthful, _ = solve(process, objective, game, None)
    best, offset = solve(process, objective, game, reports)
    return truthful, best, (best - truthful) / max(abs(truthful), 1e-300), offset


def _next_share(process: Process, game: SmallGame, reports: FloatArray) -> tuple[float, float, float, float]:
    """Return the largest relative gain in expected weight over one round, the last one, over states and beliefs."""
    n = game.n_rounds - 1
    expected = _expected(process, process.weights(n + 1), n, game, reports)
    best, truth = expected.max(axis=2), _truth(expected, game, reports)
    inside = truth.min(axis=1) > 0.01  # relative to next to nothing, rounding is a gain
    relative = best[inside] / truth[inside] - 1.0
    at = np.unravel_index(relative.argmax(), relative.shape)
    offsets = np.abs(reports[expected.argmax(axis=2)] - np.array(game.beliefs))[inside]
    offset = float(offsets[relative > 1e-14].max(initial=0.0))
    return float(truth[inside][at]), float(best[inside][at]), float(relative[at]), offset


def _truth(values: FloatArray, game: SmallGame, reports: FloatArray) -> FloatArray:
    """Return the values of reporting each belief, shape ``(S, B)``, from those of all reports, ``(S, B, R)``."""
    at = np.searchsorted(reports, game.beliefs)
    result: FloatArray = values[:, np.arange(len(at)), at]
    return result


def _expected(process: Process, after: FloatArray, n: int, game: SmallGame, reports: FloatArray) -> FloatArray:
    """Return the expected value after the update of round n, shape ``(S, B, R)``."""
    chances = game.chances()
    total = np.zeros((len(after), len(game.beliefs), len(reports)))
    for outcome in (0, 1):
        own, other = _losses(game, reports, outcome)
        moved = np.zeros((len(after), len(reports), len(game.other_reports)))
        for chance, place in process.moves(n, own, other):
            moved += chance * between(after, place, process.order)
        total += np.einsum("srl,bl->sbr", moved, chances[:, outcome], optimize=True)
    return total


def _losses(game: SmallGame, reports: FloatArray, outcome: int) -> tuple[FloatArray, FloatArray]:
    return (reports[:, None] - outcome) ** 2, (np.array(game.other_reports)[None] - outcome) ** 2


def _value(process: Process, objective: str, game: SmallGame, reports: FloatArray | None) -> tuple[float, float]:
    """Return the payoff and the first round's offset of the best strategy, or of the truth (``reports`` None)."""
    tried = np.unique(game.beliefs) if reports is None else reports
    value, offset = np.zeros(len(process.weights(0))), 0.0
    for n in reversed(range(game.n_rounds)):
        after = value + (process.weights(n + 1) / game.n_rounds if objective == "influence" else 0.0)
        payoffs = _expected(process, after, n, game, tried)
        if objective == "taste":
            payoffs = payoffs - _distances(process, n, game, tried) / game.n_rounds
        chosen = _truth(payoffs, game, tried) if reports is None else payoffs.max(axis=2)
        value = chosen.mean(axis=1)
        offset = _offset(payoffs[process.start], game, tried)
    return float(value[process.start]), offset


def _offset(payoffs: FloatArray, game: SmallGame, reports: FloatArray) -> float:
    """Return the largest distance between belief and best report, from payoffs ``(B, R)``; of equals the nearest."""
    distances = np.abs(reports[None] - np.array(game.beliefs)[:, None])
    equal = payoffs >= payoffs.max(axis=1, keepdims=True) - 1e-13
    return float(np.where(equal, distances, np.inf).min(axis=1).max())


def _distances(process: Process, n: int, game: SmallGame, reports: FloatArray) -> FloatArray:
    """Return E (label - belief)^2 in round n, shape ``(S, B, R)``."""
    others = game.chances().sum(axis=1)  # (B, L)
    weights, result = process.weights(n), []
    for belief, chance in zip(game.beliefs, others, strict=True):
        total = np.zeros((len(weights), len(reports), len(chance)))
        for part, label in labels_of(process.label, weights, reports[:, None], np.array(game.other_reports)[None]):
            total += part * (label - belief) ** 2
        result.append(total @ chance)
    return np.stack(result, axis=1)


# --- the policy objective: a second dimension ---------------------------------------------------------------------

_SUM_STEPS = 40
"""Steps of the grid of sums per unit: sums of reports in twentieths, and of means of two, are hit exactly."""


def _policy_value(process: Process, objective: str, game: SmallGame, reports: FloatArray | None) -> tuple[float, float]:
    """As ``_value``, with the state (weight, sum of label - belief so far)."""
    tried = np.unique(game.beliefs) if reports is None else reports
    sums = np.arange(-game.n_rounds * _SUM_STEPS, game.n_rounds * _SUM_STEPS + 1) / _SUM_STEPS
    value = np.tile(-((sums / game.n_rounds) ** 2), (len(process.weights(0)), 1))
    offset, middle = 0.0, len(sums) // 2
    for n in reversed(range(game.n_rounds)):
        payoffs = np.stack([_policy_step(process, value, n, game, tried, b) for b in range(len(game.beliefs))], axis=1)
        offset = _offset(payoffs[process.start, :, :, middle], game, tried)
        at = np.searchsorted(tried, game.beliefs)
        chosen = payoffs[:, np.arange(len(at)), at] if reports is None else payoffs.max(axis=2)
        value = chosen.mean(axis=1)
    return float(value[process.start, middle]), offset


def _policy_step(
    process: Process, value: FloatArray, n: int, game: SmallGame, reports: FloatArray, belief: int
) -> FloatArray:
    """Return the expected value of every report at one belief, shape ``(S, R, sums)``."""
    chances, others = game.chances()[belief], np.array(game.other_reports)
    weights = process.weights(n)
    total = np.zeros((len(weights), len(reports), value.shape[1]))
    labels = labels_of(process.label, weights, reports[:, None], others[None])
    for outcome in (0, 1):
        own, other = _losses(game, reports, outcome)
        for chance, place in process.moves(n, own, other):
            shape = (len(weights), len(reports), len(others))
            moved = between(value, np.broadcast_to(place, shape), process.order)  # (S, R, L, sums)
            for part, label in labels:
                shift = np.broadcast_to(label - game.beliefs[belief], shape) * _SUM_STEPS
                weight = np.broadcast_to(part * chance, shape) * chances[outcome]
                total += np.einsum("srl,srlz->srz", weight, _shifted(moved, shift), optimize=True)
    return total


def _shifted(values: FloatArray, shift: FloatArray) -> FloatArray:
    """Return values[..., z + shift] for a shift per row, by parabolas; the ends stand for what is beyond them."""
    whole = np.rint(shift).astype(np.int64)
    rest = (shift - whole)[..., None]
    places = np.arange(values.shape[-1]) + whole[..., None]
    last = values.shape[-1] - 1
    before, here, after = (np.take_along_axis(values, np.clip(places + k, 0, last), axis=-1) for k in (-1, 0, 1))
    return here + 0.5 * rest * (after - before) + 0.5 * rest**2 * (after - 2.0 * here + before)
