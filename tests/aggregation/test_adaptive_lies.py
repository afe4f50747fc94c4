"""Optimal adaptive lies: the processes are the rules, small cases by hand and by trying everything, known truths."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.aggregation.test_label_incentives import exact_mean, rule
from truthful_rlhf.aggregation import make_aggregator
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.adaptive_lies import RULES, SmallGame, _nearby, best_adaptive_lie
from truthful_rlhf.aggregation.rules.compiled.examined import lottery_chances
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.aggregation.two_labelers import process_of

GAME = SmallGame(n_rounds=2, beliefs=(0.2, 0.7), other_reports=(0.1, 0.6), other_chances=((0.7, 0.3), (0.2, 0.8)))


# --- the processes are the rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["online_weighted", "linear_weighted", "hedge"])
def test_the_moves_are_the_rule_s(name: str) -> None:
    process = process_of(name, "mean", GAME.n_rounds, 0.3, 10)
    for k, report, other, outcome in itertools.product([1, 5, 8], [0.0, 0.3, 1.0], [0.2, 0.9], [0.0, 1.0]):
        aggregator = make_aggregator(name, 2, eta=0.3)
        aggregator.weights_ = np.array([k / 10, 1 - k / 10])
        aggregator.learn_one(np.array([report, other]), outcome)
        losses = np.array([[(report - outcome) ** 2]]), np.array([[(other - outcome) ** 2]])
        ((chance, places),) = process.moves(0, *losses)
        assert chance == 1.0
        assert places[k, 0, 0] / 10 == pytest.approx(aggregator.weights_[0], abs=1e-12)


def test_the_schedule_is_the_rule_s() -> None:
    """ "auto": 25 updates from another weight, over the mixing at the end of the first epoch (24 for two labelers)."""
    process = process_of("online_weighted", "mean", 25, "auto", 1000)
    aggregator = make_aggregator("online_weighted", 2)
    losses = np.array([[0.2**2]]), np.array([[0.4**2]])
    place = 500.0
    for n in range(25):
        aggregator.learn_one(np.array([0.8, 0.6]), 1.0)
        ((_, places),) = process.moves(n, *losses)
        place = float(np.interp(place, np.arange(1001), places[:, 0, 0]))
    assert place / 1000 == pytest.approx(aggregator.weights_[0], abs=1e-5)


def test_the_examined_process_is_one_lottery() -> None:
    process = process_of("examined", "drawn", 3, 0.1, 10)
    for n, own, other in [(0, 0, 0), (1, 3, 0), (2, -1, 3), (3, 6, -1)]:
        chances = np.empty((1, 2))
        lottery_chances(np.array([[own, other]]), n, chances)
        assert process.weights(n)[process.start + own - other] == pytest.approx(chances[0, 0], abs=1e-15)
    moves = process.moves(0, np.array([[0.2]]), np.array([[0.7]]))
    found = {int(places[9, 0, 0]) - 9: float(np.asarray(chance).item()) for chance, places in moves}
    assert found == pytest.approx({3: 0.1, -1: 0.4, -3: 0.35, 1: 0.15})


# --- by trying everything -----------------------------------------------------------------------------------------


def round_payoff(label: str, weights: FloatArray, report: float, belief: float) -> float:
    """Return -E (label - belief)^2 over the other's report, by the rule's own labels."""
    chances = GAME.chances()[GAME.beliefs.index(belief)].sum(axis=0)
    total = 0.0
    for other, chance in zip(GAME.other_reports, chances, strict=True):
        reports = np.array([report, other])
        if label == "mean":
            distance = (rule(2, "mean", weights).predict_one(reports) - belief) ** 2
        else:
            distance = exact_mean(label, reports, weights, lambda q: (q - belief) ** 2)
        total -= chance * distance
    return total


def by_trying(label: str, objective: str, reports: FloatArray | None) -> float:
    """Return the payoff over two rounds, by every report in every state, with ``OnlineWeighted`` itself; eta .5."""

    def best(values: Any, belief: float) -> float:
        return float(max(values(r) for r in ([belief] if reports is None else reports)))

    def second(weights: FloatArray) -> float:
        return float(np.mean([best(lambda r, b=b: one_round(weights, r, b, None), b) for b in GAME.beliefs]))

    def one_round(weights: FloatArray, report: float, belief: float, then: Any) -> float:
        total = round_payoff(label, weights, report, belief) / 2 if objective == "taste" else 0.0
        if then is None and objective == "taste":
            return total
        chances = GAME.chances()[GAME.beliefs.index(belief)]
        for outcome, k in itertools.product((0, 1), range(2)):
            learner = rule(2, label, weights.copy(), eta=0.5)
            learner.learn_one(np.array([report, GAME.other_reports[k]]), float(outcome))
            after = learner.weights_[0] / 2 if objective == "influence" else 0.0
            total += chances[outcome, k] * (after + (then(learner.weights_) if then else 0.0))
        return total

    start = np.array([0.5, 0.5])
    return float(np.mean([best(lambda r, b=b: one_round(start, r, b, second), b) for b in GAME.beliefs]))


@pytest.mark.parametrize("objective", ["influence", "taste"])
@pytest.mark.parametrize("label", sorted(LABELS))
def test_two_rounds_by_trying_everything(label: str, objective: str) -> None:
    """Every adaptive strategy on the grid of reports, without interpolation; jumps of the median cost accuracy."""
    found = best_adaptive_lie("online_weighted", objective, GAME, label=label, eta=0.5, grid=400, n_reports=6)
    reports = np.unique(np.concatenate([np.linspace(0.0, 1.0, 6), _nearby(GAME.beliefs)]))
    error = 5e-4 if (label, objective) in {("median", "taste"), ("quantile", "taste")} else 1e-5 / 400
    assert found.truthful_payoff == pytest.approx(by_trying(label, objective, None), abs=error)
    assert found.best_payoff == pytest.approx(by_trying(label, objective, reports), abs=error)
    assert found.best_payoff - found.truthful_payoff > 1e-4 or label in ("drawn", "quantile") or objective != "taste"


# --- by hand ------------------------------------------------------------------------------------------------------


def test_the_mean_by_hand() -> None:
    """The other always says .3, the belief is .5: .7 brings the mean there; truth is off by .1, at every horizon."""
    game = SmallGame(3, (0.5,), (0.3,), ((1.0,), (1.0,)))
    for objective in ("taste", "policy"):
        found = best_adaptive_lie("mean", objective, game)
        assert found.truthful_payoff == pytest.approx(-0.01, abs=1e-14)
        assert found.best_payoff == pytest.approx(0.0, abs=1e-14)
        assert found.gain == pytest.approx(1.0, abs=1e-12)
        if objective == "taste":  # for the sum of three rounds the first may be honest
            assert found.offset == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize(("name", "label"), [*RULES.items(), ("online_weighted", "drawn")])
def test_one_round_of_policy_is_taste(name: str, label: str) -> None:
    game = SmallGame(1, (0.2, 0.6), (0.1, 0.5))
    policy, taste = (
        best_adaptive_lie(name, objective, game, label=label, grid=8, n_reports=21) for objective in ("policy", "taste")
    )
    assert policy.truthful_payoff == pytest.approx(taste.truthful_payoff, abs=1e-12)
    assert policy.best_payoff == pytest.approx(taste.best_payoff, abs=1e-4)  # its reports are coarser


# --- known truths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.1, 0.5, "auto"])
def test_the_next_share_is_truthful_under_the_mechanism_only(eta: Any) -> None:
    game = SmallGame(n_rounds=5)
    assert best_adaptive_lie("online_weighted", "next share", game, eta=eta).gain <= 1e-12
    assert best_adaptive_lie("examined", "next share", game).gain <= 1e-12
    assert best_adaptive_lie("linear_weighted", "next share", game, eta=eta).gain > 1e-6
    assert best_adaptive_lie("hedge", "next share", game, eta=0.5 if eta == "auto" else eta).gain > 1e-6


@pytest.mark.parametrize(("eta", "low", "high"), [(0.1, 1e-10, 1e-6), (0.5, 1e-7, 1e-3)])
def test_influence_is_not_exactly_truthful_under_the_mechanism(eta: float, low: float, high: float) -> None:
    """The game of test_theorems: the other always reports .1, the belief is .8. Below a thousandth."""
    game = SmallGame(2, (0.8,), (0.1,), ((1.0,), (1.0,)))
    found = best_adaptive_lie("online_weighted", "influence", game, eta=eta)
    assert low < found.gain < high
    assert found.grid_change < 1e-9
    longer = SmallGame(40, (0.8,), (0.1,), ((1.0,), (1.0,)))
    assert best_adaptive_lie("online_weighted", "influence", longer, eta=eta, grid=200).gain < 1e-3


@pytest.mark.parametrize("objective", ["influence", "taste"])
def test_examined_leaves_nothing_to_gain(objective: str) -> None:
    assert abs(best_adaptive_lie("examined", objective, SmallGame(n_rounds=20)).gain) <= 1e-12


def test_drawn_is_exact_over_two_rounds_and_the_others_are_not() -> None:
    two = SmallGame(n_rounds=2)
    assert abs(best_adaptive_lie("online_weighted", "taste", two, label="drawn", eta=0.5).gain) <= 1e-10
    assert best_adaptive_lie("online_weighted", "taste", two, label="mean", eta=0.5).gain > 0.05
    assert best_adaptive_lie("median", "taste", two).gain == 0.0


def test_labels_by_what_an_adaptive_liar_gains() -> None:
    """Twenty rounds, eta .5: the mean leaves most, drawn least; halving the grid changes no conclusion."""
    gains = {}
    for label in LABELS:
        found = best_adaptive_lie("online_weighted", "taste", SmallGame(n_rounds=20), label=label, eta=0.5, grid=200)
        gains[label] = found.gain
        assert found.grid_change < 0.01
    assert gains["mean"] > 1.5 * gains["median"] > 10.0 * gains["quantile"] > 0.0
    assert abs(gains["drawn"]) < 1e-9


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("medain", "taste"), {}),
        (("mean", "money"), {}),
        (("mean", "taste"), {"label": "drawn"}),
        (("online_weighted", "taste"), {"label": "mode"}),
        (("hedge", "taste"), {"eta": "auto"}),
        (("online_weighted", "taste"), {"grid": 7}),
        (("online_weighted", "taste"), {"eta": 0.7}),
    ],
)
def test_what_cannot_be_solved_is_named(arguments: tuple[str, str], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rules: mean|is solved with the label|eta|grid must"):
        best_adaptive_lie(*arguments, SmallGame(n_rounds=2), **options)


def test_the_other_is_calibrated_by_default() -> None:
    game = SmallGame(beliefs=(0.5,))
    joint = game.chances()[0]
    np.testing.assert_allclose(joint[1] / joint.sum(axis=0), game.other_reports, atol=1e-15)
