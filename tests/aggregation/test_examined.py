"""The examined rule: exact games by backward induction, their controls, absence, regret, and what K does.

In the games one labeler may use *any* adaptive strategy: its report is chosen anew in every round, knowing every coin
so far. One lottery (K = 1) is enough. The payoff is a mean over lotteries of something in one lottery each; a strategy
for K lotteries is, for each of them, a strategy of the one-lottery game that also looks at coins that have nothing to
do with it; so its payoff is at most the mean of the best one-lottery payoffs, and truth reaches that in all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.aggregation.test_theorems import adversary
from truthful_rlhf.aggregation import run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.compiled.examined import examine, lottery_chances
from truthful_rlhf.aggregation.rules.examined import Examined, examined_regret_bound

SECRET = b"a secret that only the owner of the campaign has"
NAN = float("nan")
Debts = tuple[int, ...]
GRID = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
NEAR = (-0.05, -0.02, 0.02, 0.05)
"""Lies near the belief: the control's gains are small ones."""


@dataclass
class Game:
    """A one-lottery game of labeler 0 against others with fixed ways to report.

    ``own``: (belief, chance) pairs of every round. ``others``: outcome -> (reports of the others, chance) pairs, so
    their reports may tell of the outcome. ``examined``: "one" labeler per round, or the control "all". ``charge``:
    quarters of debt for a coin that fails, and for one that holds.
    """

    n_rounds: int
    own: list[tuple[float, float]]
    others: dict[int, list[tuple[tuple[float, ...], float]]]
    objective: str
    examined: str = "one"
    charge: tuple[int, int] = (3, -1)
    may_stay_away: bool = False
    values: dict[tuple[int, Debts, bool], float] = field(default_factory=dict)

    @property
    def n_labelers(self) -> int:
        return 1 + len(self.others[0][0][0])

    def weights(self, debts: Debts, n_updates: int) -> FloatArray:
        chances = np.empty((1, len(debts)))
        lottery_chances(np.array([debts], dtype=np.int64), n_updates, chances)
        return chances[0]

    def coins(self, reports: tuple[float, ...], outcome: int) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Yield (chance, quarters added to each debt)."""
        n = len(reports)
        if self.examined == "one":
            for i, failed in itertools.product(range(n), (True, False)):
                added = [0] * n
                if math.isnan(reports[i]):
                    if failed:
                        yield 1 / n, tuple(added)
                    continue
                loss = (reports[i] - outcome) ** 2
                added[i] = self.charge[0] if failed else self.charge[1]
                yield (loss if failed else 1 - loss) / n, tuple(added)
            return
        for failures in itertools.product((True, False), repeat=n):
            losses = [(report - outcome) ** 2 for report in reports]
            chance = math.prod(loss if failed else 1 - loss for loss, failed in zip(losses, failures, strict=True))
            yield chance, tuple(self.charge[0] if failed else self.charge[1] for failed in failures)

    def round_payoff(self, debts: Debts, n: int, belief: float, reports: tuple[float, ...]) -> float:
        """Return -E (drawn label - belief)^2 in this round."""
        present = ~np.isnan(reports)
        if self.objective != "taste" or not present.any():
            return 0.0
        weights = np.where(present, self.weights(debts, n), 0.0)
        return -float(np.nansum(weights * (np.array(reports) - belief) ** 2) / weights.sum())

    def expected(self, n: int, debts: Debts, belief: float, report: float, lying: bool) -> float:
        total = 0.0
        for outcome, chance in ((1, belief), (0, 1 - belief)):
            for others, share in self.others[outcome]:
                reports = (report, *others)
                total += chance * share * self.round_payoff(debts, n, belief, reports)
                for coin, added in self.coins(reports, outcome):
                    after = tuple(d + a for d, a in zip(debts, added, strict=True))
                    if coin > 0.0:
                        total += chance * share * coin * self.after(n + 1, after, lying)
        return total

    def after(self, n: int, debts: Debts, lying: bool) -> float:
        influence = float(self.weights(debts, n)[0]) if self.objective == "influence" else 0.0
        if self.objective == "last weight" and n == self.n_rounds:
            influence = float(self.weights(debts, n)[0])
        return influence + self.value(n, debts, lying)

    def value(self, n: int, debts: Debts, lying: bool) -> float:
        """Return the payoff from round n on: of the truth, or of the best reports in every state."""
        if n == self.n_rounds:
            return 0.0
        key = (n, debts, lying)
        if key not in self.values:
            total = 0.0
            for belief, chance in self.own:
                reports = [belief]
                if lying:
                    reports += [*GRID, *(belief + step for step in NEAR), *([NAN] if self.may_stay_away else ())]
                total += chance * max(self.expected(n, debts, belief, report, lying) for report in reports)
            self.values[key] = total
        return self.values[key]

    def gain(self) -> float:
        start = (0,) * self.n_labelers
        return self.value(0, start, True) - self.value(0, start, False)


OBJECTIVES = ("influence", "last weight", "taste")
OWN = {"sure": [(0.9, 1.0)], "torn": [(0.55, 1.0)], "mixed": [(0.3, 0.5), (0.8, 0.5)]}
OTHERS_2 = {
    "knows": {1: [((0.9,), 1.0)], 0: [((0.1,), 1.0)]},
    "biased": {1: [((0.8,), 1.0)], 0: [((0.8,), 1.0)]},
    "mixed": {1: [((1.0,), 0.7), ((0.3,), 0.3)], 0: [((0.6,), 0.4), ((NAN,), 0.6)]},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("others", OTHERS_2)
def test_two_labelers_five_rounds_leave_nothing_to_gain(objective: str, own: str, others: str) -> None:
    assert Game(5, OWN[own], OTHERS_2[others], objective).gain() <= 1e-12


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("own", ["sure", "mixed"])
def test_three_labelers_four_rounds_leave_nothing_to_gain(objective: str, own: str) -> None:
    others = {1: [((0.9, 0.4), 0.5), ((0.7, NAN), 0.5)], 0: [((0.2, 0.4), 1.0)]}
    assert Game(4, OWN[own], others, objective).gain() <= 1e-12


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_negative_control_everybody_s_coin_in_the_same_round(objective: str) -> None:
    """Now the outcome ties the own coin to the others', and the continuation depends on it."""
    assert Game(3, OWN["mixed"], OTHERS_2["biased"], objective, examined="all").gain() > 1e-5


def test_negative_control_a_taste_that_ties_two_lotteries_together() -> None:
    """The chance that the coins of two lotteries both hold: at the belief .7 the best report is 1.

    By hand: p (1 - (r - 1)^2)^2 + (1 - p) (1 - r^2)^2 is .7 at r = 1 and .7 x .8281 + .3 x .2601 = .6577 at r = .7.
    """
    draws = (np.arange(20_000) + 0.5) / 20_000  # one labeler, so that every lottery examines it
    grid = np.linspace(0.0, 1.0, 101)
    both, one = np.zeros(101), np.zeros(101)
    for k, report in enumerate(grid):
        for outcome, chance in ((1.0, 0.7), (0.0, 0.3)):
            debts = np.zeros((20_000, 1), dtype=np.int64)
            examine(np.array([report]), outcome, draws, debts)
            held = float((debts < 0).mean())
            both[k] += chance * held**2
            one[k] += chance * held
    assert grid[both.argmax()] == 1.0
    assert both[100] == pytest.approx(0.7, abs=0.01)
    assert both[70] == pytest.approx(0.6577, abs=0.01)
    assert grid[one.argmax()] == pytest.approx(0.7, abs=0.011)  # and a single lottery: the belief


# --- absence ------------------------------------------------------------------------------------------------------


def absence(charge: tuple[int, int], own: str) -> tuple[float, float]:
    """Return the truth's payoff (mean weight) and the most that staying away at times adds to it."""
    game = Game(4, OWN[own], OTHERS_2["biased"], "influence", charge=charge, may_stay_away=True)
    truth = game.value(0, (0, 0), False)
    return truth, game.gain()


def test_a_truthful_answer_never_adds_debt_in_expectation() -> None:
    """At the belief b: 4 (b (1 - b)) - 1 <= 0, by the coins themselves; without the 1/4 never below 0."""
    draws = (np.arange(10_000) + 0.5) / 10_000
    for belief in np.linspace(0.0, 1.0, 21):
        debt = 0.0
        for outcome, chance in ((1.0, belief), (0.0, 1.0 - belief)):
            debts = np.zeros((10_000, 1), dtype=np.int64)
            examine(np.array([belief]), outcome, draws, debts)
            debt += chance * float(debts.mean())
        assert debt == pytest.approx(4.0 * belief * (1.0 - belief) - 1.0, abs=1e-3)
        assert debt <= 1e-3


@pytest.mark.parametrize(("own", "most"), [("sure", 1e-6), ("mixed", 0.01), ("torn", 0.02)])
def test_absence_at_chosen_moments_pays_next_to_nothing(own: str, most: float) -> None:
    truth, gain = absence((3, -1), own)
    assert gain / truth < most


@pytest.mark.parametrize("own", OWN)
def test_negative_control_counting_failures_only_pays_absence(own: str) -> None:
    truth, gain = absence((4, 0), own)
    assert gain / truth > 0.08


# --- one round by hand --------------------------------------------------------------------------------------------


def test_one_examination_by_hand() -> None:
    """N = 2: u = .1 examines labeler 0 with the coin .2, u = .7 labeler 1 with .4, u = .45 labeler 0 with .9."""
    debts = np.zeros((3, 2), dtype=np.int64)
    examine(np.array([0.5, 0.4]), 1.0, np.array([0.1, 0.7, 0.45]), debts)
    assert debts.tolist() == [[3, 0], [0, -1], [-1, 0]]  # losses .25 and .36
    examine(np.array([NAN, 0.4]), 1.0, np.array([0.1, 0.6, 0.45]), debts)
    assert debts.tolist() == [[3, 0], [0, 2], [-1, 0]]  # who is away owes nothing


def test_chances_by_hand() -> None:
    """eta_n N = 4 sqrt(N ln N / n): one failed coin in one update, N = 2, is 3/4 of that: exp(-3 sqrt(2 ln 2))."""
    chances = np.empty((2, 2))
    lottery_chances(np.array([[3, 0], [0, -1]]), 1, chances)
    odds = math.exp(-3 * math.sqrt(2 * math.log(2))), math.exp(-math.sqrt(2 * math.log(2)))
    np.testing.assert_allclose(chances[:, 0], [odd / (1 + odd) for odd in odds], atol=1e-15)
    rule = Examined(2, lotteries=2, secret=SECRET, label="mean")
    rule.debts_, rule.n_updates_ = np.array([[3, 0], [0, -1]]), 1
    assert rule.predict_one([1.0, 0.0]) == pytest.approx(chances[:, 0].mean(), abs=1e-15)
    assert rule.predict_one([NAN, 0.3]) == 0.3


def test_lotteries_are_renormalised_before_they_are_averaged() -> None:
    """Debts (0, 0, 100): of 2 and 0 present the second lottery gives 0 all of its weight, however small both are."""
    rule = Examined(3, lotteries=2, secret=SECRET, label="mean")
    rule.debts_, rule.n_updates_ = np.array([[0, 4000, 4000], [0, 4000, 8000]]), 10
    assert rule.predict_one([NAN, 1.0, 0.0]) == pytest.approx(0.75, abs=1e-12)


def test_examinations_go_by_chance_and_loss() -> None:
    """Each of three labelers in a third of the rounds; failures as often as the loss: .25, .0, .81 of those."""
    n_rounds = 3000
    rule = Examined(3, lotteries=7, secret=SECRET, label="mean")
    run_online(rule, np.tile([0.5, 1.0, 0.1], (n_rounds, 1)), np.ones(n_rounds))
    n = n_rounds * 7
    # 4 F = 4 failed - examined; with examined = n / 3
    expected = np.array([4 * 0.25 - 1, 0.0 - 1, 4 * 0.81 - 1]) * n / 3
    np.testing.assert_allclose(rule.debts_.sum(axis=0), expected, atol=5 * 4 * math.sqrt(n / 3))
    away = Examined(3, lotteries=7, secret=SECRET, label="mean")
    run_online(away, np.tile([0.5, NAN, 0.1], (100, 1)), np.ones(100))
    assert (away.debts_[:, 1] == 0).all()


def test_the_lotteries_find_the_good_labeler() -> None:
    rng = np.random.default_rng(5)
    outcomes = (rng.random(4000) < 0.5).astype(np.float64)
    reports = rng.random((4000, 6))
    reports[:, 2] = outcomes
    aggregator = Examined(6, label="mean", secret=SECRET)
    run_online(aggregator, reports, outcomes)
    assert aggregator.weights_[2] > 0.99


# --- replay, lotteries --------------------------------------------------------------------------------------------


def test_replay_and_secrets() -> None:
    rng = np.random.default_rng(0)
    outcomes = np.where(rng.random(300) < 0.7, (rng.random(300) < 0.5).astype(float), NAN)
    reports = rng.random((300, 4))
    reports[rng.random(reports.shape) < 0.3] = NAN
    keys = [f"pair-{t}" for t in range(300)]
    runs = [run_online(Examined(4, secret=SECRET), reports, outcomes, keys) for _ in range(2)]
    assert runs[0].soft_labels.tobytes() == runs[1].soft_labels.tobytes()
    assert runs[0].weights.tobytes() == runs[1].weights.tobytes()
    other = run_online(Examined(4, secret=b"another"), reports, outcomes, keys)
    assert (other.weights != runs[0].weights).any()
    with pytest.raises(ValueError, match=r"lotteries from a secret .* secret=secrets\.token_bytes\(32\)"):
        Examined(4)
    with pytest.raises(ValueError, match="needs the pair's id"):
        run_online(Examined(4, secret=SECRET), reports, outcomes)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_blocks_draw_the_same_lotteries(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reports, outcomes = np.random.default_rng(0).random((50, 3)), np.ones(50)
    whole = run_online(Examined(3, lotteries=5, secret=SECRET, label="mean"), reports, outcomes)
    monkeypatch.setattr("truthful_rlhf.aggregation.rules.examined._BLOCK_DRAWS", 5 * size)
    parts = run_online(Examined(3, lotteries=5, secret=SECRET, label="mean"), reports, outcomes)
    assert parts.weights.tobytes() == whole.weights.tobytes()


def last_weights(lotteries: int, n_secrets: int) -> FloatArray:
    reports = np.tile([0.9, 0.6, 0.3], (12, 1))
    weights = []
    for k in range(n_secrets):
        rule = Examined(3, lotteries=lotteries, secret=b"%d of %d" % (k, lotteries), label="mean")
        run_online(rule, reports, np.ones(12))
        weights.append(rule.weights_)
    return np.array(weights)


def test_more_lotteries_only_reduce_the_variance() -> None:
    """The same expected weights for K = 1 and 25, and a variance of 1/25."""
    one, many = last_weights(1, 2000), last_weights(25, 400)
    error = np.sqrt(one.var(axis=0) / 2000 + many.var(axis=0) / 400)
    assert (np.abs(one.mean(axis=0) - many.mean(axis=0)) < 4.5 * error).all()
    ratio = many.var(axis=0) / one.var(axis=0)
    assert ((ratio > 0.6 / 25) & (ratio < 1.6 / 25)).all()


# --- regret -------------------------------------------------------------------------------------------------------


def regret_curves(kind: str, n_rounds: int, n_labelers: int, seeds: range) -> FloatArray:
    """Return the regret of the weights, sum pi l - min_i L_i, after every round, shape ``(seeds, T)``."""
    curves = []
    for seed in seeds:
        reports, outcomes = adversary(kind, n_rounds, n_labelers, np.random.default_rng(seed))
        rule = Examined(n_labelers, lotteries=10, secret=b"%d" % seed, label="mean")
        weights = run_online(rule, reports, outcomes).weights
        losses = (reports - outcomes[:, None]) ** 2
        curves.append(np.cumsum((weights * losses).sum(axis=1)) - np.cumsum(losses, axis=0).min(axis=1))
    return np.array(curves)


@pytest.mark.parametrize("kind", ["late", "coins", "minority", "blocks"])
@pytest.mark.parametrize("n_labelers", [2, 10])
def test_regret_stays_below_its_bound(kind: str, n_labelers: int) -> None:
    """At every round, not only at the last: the bound needs no horizon. Mean over six adversaries and secrets."""
    curve = regret_curves(kind, 3000, n_labelers, range(6)).mean(axis=0)
    bound = np.array([examined_regret_bound(n_labelers, t) for t in range(1, 3001)])
    assert (curve <= bound + 1e-9).all()


def slope_interval(curves: FloatArray, times: FloatArray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the slope of log mean regret over log time."""
    slopes = []
    for _ in range(500):
        mean = curves[rng.integers(len(curves), size=len(curves))].mean(axis=0)[times.astype(int) - 1]
        slopes.append(np.polyfit(np.log(times), np.log(np.maximum(mean, 1.0)), 1)[0])
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("kind", ["coins", "minority"])
def test_regret_grows_like_a_root(kind: str) -> None:
    """From 300 to 10,000 rounds; ``python -m benchmarks examined`` goes on to 100,000."""
    curves, times = regret_curves(kind, 10_000, 5, range(12)), np.geomspace(300, 10_000, 8).round()
    _, high = slope_interval(curves, times, np.random.default_rng(0))
    assert high < 0.65


def test_negative_control_a_lottery_that_does_not_learn_has_linear_regret() -> None:
    reports, outcomes = adversary("minority", 10_000, 5, np.random.default_rng(0))
    losses = (reports - outcomes[:, None]) ** 2
    curve = np.cumsum(losses.mean(axis=1)) - np.cumsum(losses, axis=0).min(axis=1)
    low, _ = slope_interval(curve[None], np.geomspace(300, 10_000, 8).round(), np.random.default_rng(0))
    assert low > 0.9
