"""The game's definitions: what labelers believe, what they expect, what they report, and what they are paid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.campaign import OnlineRun
from truthful_rlhf.aggregation.game.campaigns import (
    TRUTH,
    Campaign,
    Objective,
    Seat,
    discount_factors,
    draw_campaigns,
    reports_in,
)
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import Group, Population

PANEL = Population(
    "panel",
    (
        Group("expert", 2, noise=0.5),
        Group("biased", 1, noise=1.0, bias=1.5),
        Group("biased", 1, noise=1.0, bias=-1.5),
        Group("colluding", 2, noise=1.0, bias=1.0, shift=2.0, bloc=True),
    ),
    topics=3,
)
BINS = np.linspace(0.0, 1.0, 6)


def largest_miscalibration(beliefs: np.ndarray, outcomes: np.ndarray) -> float:
    """Return the largest |mean outcome - mean belief| over bins of the belief, in units of its standard error."""
    worst = 0.0
    for low, high in pairwise(BINS):
        inside = (beliefs >= low) & (beliefs < high)
        if inside.sum() > 200:
            error = np.sqrt((beliefs[inside] * (1 - beliefs[inside])).mean() / inside.sum())
            worst = max(worst, abs(outcomes[inside].mean() - beliefs[inside].mean()) / error)
    return worst


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return draw_campaigns(PANEL, 40_000, 1, np.random.default_rng(7))[0]


@pytest.mark.parametrize("labeler", [0, 2, 3, 4])
def test_a_labelers_own_world_agrees_with_its_belief(campaign: Campaign, labeler: int) -> None:
    """P(y = 1 | belief = p) = p in the world that the labeler expects: a belief that is not that is not a belief."""
    assert largest_miscalibration(campaign.beliefs[:, labeler], campaign.expected_by(labeler)) < 4.0


@pytest.mark.parametrize("labeler", [2, 3, 4])
def test_control_the_true_world_contradicts_a_biased_belief(campaign: Campaign, labeler: int) -> None:
    assert largest_miscalibration(campaign.beliefs[:, labeler], campaign.outcomes) > 10.0


def test_an_unbiased_labeler_expects_the_world_as_it_is(campaign: Campaign) -> None:
    np.testing.assert_array_equal(campaign.expected_by(0), campaign.outcomes)


def test_a_biased_labelers_world_differs_only_where_it_must(campaign: Campaign) -> None:
    """The share of pairs whose outcome changes is E|belief - posterior|, the least that any coupling can do."""
    changed = (campaign.expected_by(2) != campaign.outcomes).mean()
    least = np.abs(campaign.beliefs[:, 2] - campaign.posteriors[:, 2]).mean()
    assert changed == pytest.approx(least, abs=4 * np.sqrt(least / 40_000))


def test_a_bloc_shares_one_view_and_others_do_not(campaign: Campaign) -> None:
    np.testing.assert_array_equal(campaign.beliefs[:, 4], campaign.beliefs[:, 5])
    assert (campaign.beliefs[:, 0] != campaign.beliefs[:, 1]).mean() > 0.99


def test_another_group_does_not_shift_the_draws_of_the_rest() -> None:
    more = Population("more", (*PANEL.groups, Group("noisy", 3)), topics=3)
    small, large = (draw_campaigns(p, 50, 2, np.random.default_rng(1)) for p in (PANEL, more))
    for a, b in zip(small, large, strict=True):
        np.testing.assert_array_equal(a.outcomes, b.outcomes)
        np.testing.assert_array_equal(a.beliefs, b.beliefs[:, :6])


def test_audit_rate_reveals_that_share_of_the_outcomes() -> None:
    campaign = draw_campaigns(PANEL, 20_000, 1, np.random.default_rng(2), audit_rate=0.1)[0]
    revealed = campaign.revealed()
    assert (~np.isnan(revealed)).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(revealed[campaign.audited], campaign.outcomes[campaign.audited])


@pytest.mark.parametrize("kwargs", [{"n_rounds": 0}, {"n_campaigns": 0}, {"audit_rate": 1.5}])
def test_impossible_campaigns_are_refused(kwargs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|at least"):
        draw_campaigns(PANEL, **{"n_rounds": 5, "n_campaigns": 1, "rng": np.random.default_rng(0), **kwargs})  # type: ignore[arg-type]


def test_groups_report_what_they_declare_and_best_responders_what_the_plan_says() -> None:
    population = Population(
        "p",
        (
            Group("sleeper", 1, scale=-1.0, start=0.5),
            Group("topic_liar", 1, scale=-1.0, topic=1),
            Group("best_responder", 1, objective="taste"),
        ),
        topics=2,
    )
    campaign = draw_campaigns(population, 100, 1, np.random.default_rng(3))[0]
    beliefs = campaign.beliefs
    reports = reports_in(population, campaign, {2: Misreport(scale=0.0)})
    np.testing.assert_array_equal(reports[:50, 0], beliefs[:50, 0])
    np.testing.assert_allclose(reports[50:, 0], 1.0 - beliefs[50:, 0])
    np.testing.assert_array_equal(reports[campaign.topics == 0, 1], beliefs[campaign.topics == 0, 1])
    np.testing.assert_allclose(reports[campaign.topics == 1, 1], 1.0 - beliefs[campaign.topics == 1, 1])
    np.testing.assert_allclose(reports[:, 2], 0.5)
    np.testing.assert_array_equal(reports_in(population, campaign, {})[:, 2], beliefs[:, 2])  # the truth by default


def test_discount_factors_sum_to_one_and_fade() -> None:
    np.testing.assert_allclose(discount_factors(4, 1.0), 0.25)
    np.testing.assert_allclose(discount_factors(3, 0.5), np.array([4.0, 2.0, 1.0]) / 7.0)
    np.testing.assert_allclose(discount_factors(3, 0.0), [1.0, 0.0, 0.0])  # myopic: the first round only


def test_objectives_by_hand() -> None:
    """Two rounds, two labelers: shares of labeler 1 after rounds 1 and 2 are .4 and .2; |q - p| are .1 and .3."""
    run = OnlineRun(soft_labels=np.array([0.6, 0.5]), weights=np.array([[0.5, 0.5], [0.6, 0.4]]))
    final = np.array([0.8, 0.2])
    view = np.array([0.7, 0.2])
    one, all_of_them = slice(1, 2), slice(0, 2)
    assert Objective("influence").payoff(run, final, one, view) == pytest.approx(0.3)
    assert Objective("influence", 0.0).payoff(run, final, one, view) == pytest.approx(0.4)
    assert Objective("influence").payoff(run, final, all_of_them, view) == pytest.approx(1.0)
    assert Objective("taste").payoff(run, final, one, view) == pytest.approx(-(0.01 + 0.09) / 2)
    assert Objective("taste", 0.5).payoff(run, final, one, view) == pytest.approx(-(2 * 0.01 + 0.09) / 3)
    absent = np.array([np.nan, 0.2])
    assert Objective("taste").payoff(run, final, one, absent) == pytest.approx(-0.09)


def test_unknown_objective_and_world_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'influence'"):
        Objective("influense")
    campaigns = draw_campaigns(PANEL, 10, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="did you mean 'true'"):
        Seat(AGGREGATORS["mean"], PANEL, 0, campaigns, Objective("taste"), world="truth")


def test_a_seat_forgets_the_misreports_it_tried() -> None:
    campaigns = draw_campaigns(PANEL, 60, 3, np.random.default_rng(4))
    seat = Seat(AGGREGATORS["online_weighted"], PANEL, 3, campaigns, Objective("influence"))
    before = seat.payoffs(TRUTH)
    lying = seat.payoffs(Misreport(scale=-1.0))
    np.testing.assert_array_equal(seat.payoffs(TRUTH), before)
    assert (lying != before).all()


def test_taste_under_the_mean_by_hand() -> None:
    """Two labelers, mean: q = (p + r) / 2, so the truthful loss of labeler 0 is the mean of ((r - p) / 2)^2."""
    pair = Population("pair", (Group("expert"), Group("noisy")))
    campaigns = draw_campaigns(pair, 50, 2, np.random.default_rng(5))
    payoffs = Seat(AGGREGATORS["mean"], pair, 0, campaigns, Objective("taste")).payoffs(TRUTH)
    expected = [-np.mean(((c.beliefs[:, 1] - c.beliefs[:, 0]) / 2) ** 2) for c in campaigns]
    np.testing.assert_allclose(payoffs, expected)


def test_a_sleeper_counts_the_rounds_of_the_whole_campaign() -> None:
    late = Misreport(shift=3.0, start=5)
    beliefs = np.full(9, 0.4)
    whole = late(beliefs)
    assert (whole > 0.5).tolist() == [False] * 5 + [True] * 4
    for first in range(1, 8):
        np.testing.assert_array_equal(late(beliefs[first:], first_round=first), whole[first:])
