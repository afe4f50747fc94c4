"""Iterated best response ends where nobody gains, and says so when it does not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.aggregation.game.crowd import Judge, drawn
from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.game.best_response import STRATEGY_CLASSES
from truthful_rlhf.aggregation.game.equilibrium import (
    Equilibrium,
    Game,
    Players,
    _at_edge,
    _mean_gain,
    _towards,
    find_equilibrium,
)
from truthful_rlhf.aggregation.game.misreport import Misreport

STRATEGIC = (Judge(0.5), Judge(0.5), *(Judge(1.0, bias=1.0),) * 3)
THREE = (Players((2, 3, 4), "taste"),)


def solved(
    rule: str, judges: tuple[Judge, ...] = STRATEGIC, groups: tuple[Players, ...] = THREE, **options: float
) -> Equilibrium:
    search, fresh = (drawn(judges, 120, n, seed) for n, seed in ((4, 1), (16, 2)))
    game = Game(AGGREGATORS[rule], groups, STRATEGY_CLASSES["any"])
    return find_equilibrium(game, search, fresh, np.random.default_rng(3), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["mean", "online_weighted"])
def test_little_is_left_to_gain_at_the_end(rule: str) -> None:
    (play,) = solved(rule, max_turns=15).plays
    assert not play.misreport.is_truthful
    assert play.left[0] < 0.03  # more than the tolerance: on campaigns that it was not chosen on
    first_turn = solved(rule, max_turns=1).plays[0]  # the truth: the search has measured it, and nothing else
    assert first_turn.misreport.is_truthful
    assert play.left[0] < first_turn.left[0]


def test_against_the_mean_the_iteration_converges() -> None:
    assert solved("mean", tolerance=0.01).converged


def test_under_the_mean_the_play_is_an_exaggeration_that_pays() -> None:
    (play,) = solved("mean").plays
    assert play.misreport.scale > 1.2
    assert play.over_truth[1] > 0.0


def test_control_one_turn_is_not_called_an_equilibrium() -> None:
    found = solved("mean", max_turns=1)
    assert not found.converged
    assert found.n_turns == 1


def test_without_best_responders_there_is_nothing_to_solve() -> None:
    found = solved("mean", groups=())
    assert found.converged
    assert found.plays == ()


def test_influence_under_the_mean_cannot_be_gained() -> None:
    found = solved("mean", STRATEGIC[:3], (Players((2,), "influence"),))
    assert found.converged
    assert found.plays[0].misreport.is_truthful


def test_all_of_a_group_play_what_its_plan_says_and_nobody_else_does() -> None:
    (campaign,) = drawn(STRATEGIC, 30, 1)
    game = Game(AGGREGATORS["mean"], (Players((1, 3), "taste"),), STRATEGY_CLASSES["any"])
    played = game._played(campaign, [Misreport(-1.0)])
    np.testing.assert_allclose(played.reports[:, [1, 3]], 1.0 - campaign.beliefs[:, [1, 3]])
    np.testing.assert_array_equal(played.reports[:, [0, 2, 4]], campaign.reports[:, [0, 2, 4]])


def test_the_edge_of_a_family() -> None:
    """A parameter that is not searched (one value) has no edge."""
    assert _at_edge(8.0, (-8.0, 1.0, 8.0))
    assert _at_edge(-8.0, (-8.0, 1.0, 8.0))
    assert not _at_edge(7.9, (-8.0, 1.0, 8.0))
    assert not _at_edge(0.0, (0.0,))


def test_a_part_of_the_way_by_hand() -> None:
    """A quarter from (scale 1, shift -1, start 100) to (3, 2, 20); the start of the truth means nothing."""
    current, choice = Misreport(1.0, -1.0, 100), Misreport(3.0, 2.0, 20)
    assert _towards(current, choice, 0.25) == Misreport(1.5, -0.25, 80)
    assert _towards(current, choice, 1.0) == choice
    assert _towards(current, choice, 0.0) == current
    assert _towards(Misreport(), choice, 0.5) == Misreport(2.0, 1.0, 20)
    assert _towards(choice, Misreport(), 0.5) == Misreport(2.0, 1.0, 20)


def test_a_gain_over_nothing_is_finite_and_keeps_its_sign() -> None:
    class Idle:
        """A position where the present play yields nothing."""

        def payoffs(self, misreport: Misreport) -> np.ndarray:
            return np.full(3, misreport.shift)

    assert 0.0 < _mean_gain(Idle(), Misreport(shift=2.0), Misreport()) < np.inf  # type: ignore[arg-type]
    assert -np.inf < _mean_gain(Idle(), Misreport(shift=-2.0), Misreport()) < 0.0  # type: ignore[arg-type]
    assert _mean_gain(Idle(), Misreport(shift=3.0), Misreport(shift=2.0)) == pytest.approx(0.5)  # type: ignore[arg-type]
