"""The game's definitions: what nature draws, what labelers expect, and what they are paid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.aggregation.game.crowd import Judge, drawn
from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.campaign import OnlineRun
from truthful_rlhf.aggregation.game.campaigns import (
    TRUTH,
    Campaign,
    LabelerPosition,
    Objective,
    discount_factors,
    draw_nature,
)
from truthful_rlhf.aggregation.game.misreport import Misreport

PANEL = (Judge(0.5), Judge(0.5), Judge(1.0, bias=1.5), Judge(1.0, bias=-1.5))
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
    return drawn(PANEL, 40_000, 1, seed=7)[0]


@pytest.mark.parametrize("labeler", [0, 2, 3])
def test_a_labelers_own_world_agrees_with_its_belief(campaign: Campaign, labeler: int) -> None:
    """P(y = 1 | belief = p) = p in the world that the labeler expects: a belief that is not that is not a belief."""
    assert largest_miscalibration(campaign.beliefs[:, labeler], campaign.expected_by(labeler)) < 4.0


@pytest.mark.parametrize("labeler", [2, 3])
def test_control_the_true_world_contradicts_a_biased_belief(campaign: Campaign, labeler: int) -> None:
    assert largest_miscalibration(campaign.beliefs[:, labeler], campaign.outcomes) > 10.0


def test_an_unbiased_labeler_expects_the_world_as_it_is(campaign: Campaign) -> None:
    np.testing.assert_array_equal(campaign.expected_by(0), campaign.outcomes)


def test_a_biased_labelers_world_differs_only_where_it_must(campaign: Campaign) -> None:
    """The share of pairs whose outcome changes is E|belief - posterior|, the least that any coupling can do."""
    changed = (campaign.expected_by(2) != campaign.outcomes).mean()
    least = np.abs(campaign.beliefs[:, 2] - campaign.posteriors[:, 2]).mean()
    assert changed == pytest.approx(least, abs=4 * np.sqrt(least / 40_000))


def test_audit_rate_reveals_that_share_of_the_outcomes() -> None:
    nature = draw_nature(20_000, np.random.default_rng(2), audit_rate=0.1)
    assert (~np.isnan(nature.revealed)).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(nature.revealed[nature.audited], nature.outcomes[nature.audited])


def test_outcomes_follow_the_true_log_odds_of_the_given_spread() -> None:
    """P(y = 1 | d) = sigmoid(d), within four standard errors in every bin; the control expects twice the log-odds."""
    nature = draw_nature(100_000, np.random.default_rng(3), spread=2.0)
    assert nature.log_odds.std() == pytest.approx(2.0, rel=0.02)
    assert largest_miscalibration(1.0 / (1.0 + np.exp(-nature.log_odds)), nature.outcomes) < 4.0
    assert largest_miscalibration(1.0 / (1.0 + np.exp(-2.0 * nature.log_odds)), nature.outcomes) > 10.0


def test_the_audit_rate_changes_no_outcome() -> None:
    few, all_of_them = (draw_nature(500, np.random.default_rng(4), audit_rate=rate) for rate in (0.1, 1.0))
    np.testing.assert_array_equal(few.outcomes, all_of_them.outcomes)
    np.testing.assert_array_equal(few.coupling, all_of_them.coupling)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"spread": -1.0}, {"spread": np.inf}, {"audit_rate": 1.5}])
def test_impossible_draws_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|at least"):
        draw_nature(**{"n": 5, "rng": np.random.default_rng(0), **wrong})  # type: ignore[arg-type]


def test_pairs_become_campaigns_in_their_order() -> None:
    nature = draw_nature(6, np.random.default_rng(5))
    matrix = np.arange(12.0).reshape(6, 2) / 12.0
    first, second = nature.campaigns(3, matrix, 1.0 - matrix, matrix / 2.0)
    np.testing.assert_array_equal(np.append(first.outcomes, second.outcomes), nature.outcomes)
    np.testing.assert_array_equal(second.beliefs, matrix[3:])
    np.testing.assert_array_equal(second.reports, 1.0 - matrix[3:])
    np.testing.assert_array_equal(second.posteriors, matrix[3:] / 2.0)


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


def test_policy_taste_by_hand() -> None:
    """Topic 0: differences .2 and -.2 cancel. Topic 2: .1 and .3, mean .2, half of the rounds: -.04 / 2."""
    labels, view = np.array([0.7, 0.3, 0.4, 0.9]), np.array([0.5, 0.5, 0.3, 0.6])
    run = OnlineRun(soft_labels=labels, weights=np.full((4, 2), 0.5))
    topics, one, final = np.array([0, 0, 2, 2]), slice(0, 1), np.array([0.5, 0.5])
    policy = Objective("policy_taste")
    assert policy.payoff(run, final, one, view, topics) == pytest.approx(-0.02)
    assert policy.payoff(run, final, one, view) == pytest.approx(-0.01)  # one topic: the mean of all four is .1
    # the first round alone is a topic's mean, so it is taste
    assert Objective("policy_taste", 0.0).payoff(run, final, one, view, topics) == pytest.approx(-0.04)
    absent = np.array([0.5, np.nan, 0.3, 0.6])
    assert policy.payoff(run, final, one, absent, topics) == pytest.approx(-(0.04 / 3 + 0.04 * 2 / 3))
    # every pair a topic of its own: taste
    taste = Objective("taste").payoff(run, final, one, view)
    assert policy.payoff(run, final, one, view, np.arange(4)) == pytest.approx(taste)


def test_unknown_objective_and_world_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'influence'"):
        Objective("influense")
    campaigns = drawn(PANEL, 10, 1)
    with pytest.raises(ValueError, match="did you mean 'true'"):
        LabelerPosition(AGGREGATORS["mean"], campaigns, slice(0, 1), Objective("taste"), outcome_model="truth")


def test_a_seat_forgets_the_misreports_it_tried() -> None:
    campaigns = drawn(PANEL, 60, 3)
    reports = [campaign.reports.copy() for campaign in campaigns]
    position = LabelerPosition(AGGREGATORS["online_weighted"], campaigns, slice(2, 4), Objective("influence"))
    before = position.payoffs(TRUTH)
    lying = position.payoffs(Misreport(scale=-1.0))
    np.testing.assert_array_equal(position.payoffs(TRUTH), before)
    assert (lying != before).all()
    for campaign, untouched in zip(campaigns, reports, strict=True):
        np.testing.assert_array_equal(campaign.reports, untouched)


def test_a_seats_usual_payoff_is_that_of_the_reports_in_the_campaigns() -> None:
    """Whoever usually flips is paid as if it flipped now; the truth pays it something else (control)."""
    flipping = (Judge(0.5), Judge(0.5, misreport=Misreport(-1.0)))
    position = LabelerPosition(
        AGGREGATORS["online_weighted"], drawn(flipping, 60, 3), slice(1, 2), Objective("influence")
    )
    np.testing.assert_allclose(position.usual_payoffs(), position.payoffs(Misreport(-1.0)), rtol=1e-12)
    assert (position.usual_payoffs() < position.payoffs(TRUTH)).all()


def test_a_bloc_deviates_as_one_on_the_view_of_its_first_member() -> None:
    """Two of three under the mean, both state the first one's belief p: q = (2 p + r) / 3."""
    campaigns = drawn(PANEL[:3], 40, 2)
    payoffs = LabelerPosition(AGGREGATORS["mean"], campaigns, slice(0, 2), Objective("taste")).payoffs(TRUTH)
    expected = [-np.mean(((c.reports[:, 2] - c.beliefs[:, 0]) / 3.0) ** 2) for c in campaigns]
    np.testing.assert_allclose(payoffs, expected)


def test_taste_under_the_mean_by_hand() -> None:
    """Two labelers, mean: q = (p + r) / 2, so the truthful loss of labeler 0 is the mean of ((r - p) / 2)^2."""
    campaigns = drawn((Judge(0.5), Judge(2.0)), 50, 2)
    payoffs = LabelerPosition(AGGREGATORS["mean"], campaigns, slice(0, 1), Objective("taste")).payoffs(TRUTH)
    expected = [-np.mean(((c.beliefs[:, 1] - c.beliefs[:, 0]) / 2) ** 2) for c in campaigns]
    np.testing.assert_allclose(payoffs, expected)


def test_a_sleeper_counts_the_rounds_of_the_whole_campaign() -> None:
    late = Misreport(shift=3.0, start=5)
    beliefs = np.full(9, 0.4)
    whole = late(beliefs)
    assert (whole > 0.5).tolist() == [False] * 5 + [True] * 4
    for first in range(1, 8):
        np.testing.assert_array_equal(late(beliefs[first:], first_round=first), whole[first:])


def test_misreports_that_cast_the_same_votes_are_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("crowdkit")
    campaigns = drawn(PANEL, 30, 2, seed=3)
    rule, objective = AGGREGATORS["dawid_skene"], Objective("taste")
    monkeypatch.setattr(rule, "votes_only", False)
    every = LabelerPosition(rule, campaigns, slice(0, 1), objective)
    monkeypatch.setattr(rule, "votes_only", True)
    once = LabelerPosition(rule, campaigns, slice(0, 1), objective)
    fits: list[int] = []
    fit = rule.fit
    monkeypatch.setattr(rule, "fit", lambda self, *given: fits.append(1) or fit(self, *given))
    lies = [Misreport(0.25), Misreport(4.0), Misreport(-1.0), Misreport(1.0, 2.0)]
    once.payoffs(TRUTH)
    one_lie = len(fits)
    assert one_lie > 0
    for lie in (TRUTH, *lies):
        np.testing.assert_array_equal(once.payoffs(lie), every.payoffs(lie))
    assert len(fits) == (3 + 5) * one_lie, "the truth, the opposite and the push; without memory all five"
    assert not np.array_equal(once.payoffs(TRUTH), once.payoffs(lies[2])), "the control: other votes, another payoff"
    assert len(fits) == (3 + 5) * one_lie
