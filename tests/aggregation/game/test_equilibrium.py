"""Iterated best response ends where nobody gains, and says so when it does not."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.game.campaigns import draw_campaigns
from truthful_rlhf.aggregation.game.equilibrium import Equilibrium, _mean_gain, _towards, find_equilibrium
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import Group, Population

STRATEGIC = Population(
    "strategic", (Group("expert", 2, noise=0.5), Group("best_responder", 3, bias=1.0, objective="taste"))
)


def solved(rule: str, population: Population = STRATEGIC, **options: float) -> Equilibrium:
    search, fresh = (draw_campaigns(population, 120, n, np.random.default_rng(s)) for n, s in ((4, 1), (16, 2)))
    return find_equilibrium(AGGREGATORS[rule], population, search, fresh, np.random.default_rng(3), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["mean", "online_weighted"])
def test_little_is_left_to_gain_at_the_end(rule: str) -> None:
    (play,) = solved(rule, max_turns=15).plays
    assert (play.group, play.kind) == (1, "best_responder")
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
    honest = Population("honest", (Group("expert", 2),))
    found = solved("mean", honest)
    assert found.converged
    assert found.plan(1000) == {}


def test_influence_under_the_mean_cannot_be_gained() -> None:
    panel = Population("panel", (Group("expert", 2), Group("best_responder", 1, objective="influence")))
    found = solved("mean", panel)
    assert found.converged
    assert found.plays[0].misreport.is_truthful


def test_a_start_keeps_its_share_of_a_longer_campaign() -> None:
    (play,) = solved("mean", max_turns=1).plays
    late = type(play)(**{**vars(play), "misreport": Misreport(2.0, 0.5, start=60)})
    assert Equilibrium((late,), True, 120, 1).plan(10_000) == {1: Misreport(2.0, 0.5, start=5000)}


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
        """A seat where the present play yields nothing."""

        def payoffs(self, misreport: Misreport) -> np.ndarray:
            return np.full(3, misreport.shift)

    assert 0.0 < _mean_gain(Idle(), Misreport(shift=2.0), Misreport()) < np.inf  # type: ignore[arg-type]
    assert -np.inf < _mean_gain(Idle(), Misreport(shift=-2.0), Misreport()) < 0.0  # type: ignore[arg-type]
    assert _mean_gain(Idle(), Misreport(shift=3.0), Misreport(shift=2.0)) == pytest.approx(0.5)  # type: ignore[arg-type]
