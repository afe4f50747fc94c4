"""Best responses where theory says what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from truthful_rlhf.labelers import ReportContext
from truthful_rlhf.labelers.best_response import (
    N_CAMPAIGNS,
    best_misreport,
    equilibrium_misreport,
    equilibrium_play,
    imagine_campaigns,
)
from truthful_rlhf.labelers.context import PublicProfile

LIKES = (PublicProfile(noise=1.0),) * 5


def respond(objective: str, rule: str, profiles: tuple[PublicProfile, ...], position: int = 0, **options: Any) -> float:
    """Return the scale of the best misreport."""
    context = ReportContext(rule=rule, rule_options=options, audit_rate=1.0)
    return best_misreport(objective, context, profiles, position).scale


def test_truthful_against_the_median_of_an_odd_panel() -> None:
    """No report moves the median of an odd number of reports towards one's own (Moulin 1980): no lie ever pays."""
    assert respond("taste", "median", LIKES) == 1.0


def test_exaggerates_against_the_mean() -> None:
    """Negative control of the above: whoever wants the mean near its own view has to overstate its view."""
    assert respond("taste", "mean", LIKES) > 1.5


def test_nothing_to_gain_where_weights_never_move() -> None:
    """Influence under the mean is 1/N whatever is reported: a labeler that gains nothing stays truthful."""
    assert respond("influence", "mean", LIKES) == 1.0


def test_a_contrarian_that_wants_influence_reports_against_its_taste() -> None:
    """Weights follow accuracy, and it knows that outcomes are the opposite of what it likes."""
    profiles = (PublicProfile(gold=-1.0, noise=0.5), *LIKES)
    assert respond("influence", "online_weighted", profiles) < 0.0


def test_exaggerates_less_where_accuracy_is_paid() -> None:
    """A loud contrarian loses its weight under the online mechanism, not under the mean."""
    profiles = (PublicProfile(gold=-1.0, noise=0.5), *LIKES)
    assert respond("taste", "online_weighted", profiles, eta=0.3) < respond("taste", "mean", profiles)


def test_labelers_of_one_kind_respond_alike() -> None:
    assert respond("taste", "mean", LIKES, position=0) == respond("taste", "mean", LIKES, position=4)


def test_labelers_of_one_kind_with_unequal_initial_weights_respond_each_for_itself() -> None:
    """Who starts with nearly all the weight has nothing to exaggerate for; the others have."""
    unequal = {"initial_weights": [1e6, 1, 1, 1, 1], "eta": 1e-6}
    assert respond("taste", "online_weighted", LIKES, position=0, **unequal) == 1.0
    assert respond("taste", "online_weighted", LIKES, position=4, **unequal) > 1.5


def test_imagined_campaigns_are_as_publicly_known() -> None:
    """Unbiased profiles are calibrated, contrarians are wrong, a taste for something else is worth nothing."""
    profiles = (
        PublicProfile(noise=1.0),
        PublicProfile(gold=-1.0, noise=1.0),
        PublicProfile(gold=0.0, other=1.0, noise=1.0),
    )
    campaigns = imagine_campaigns(profiles, 0.25, np.random.default_rng(1))
    assert len(campaigns) == 2 * N_CAMPAIGNS
    outcomes = np.concatenate([c.outcomes for c in campaigns])
    beliefs = np.concatenate([c.beliefs for c in campaigns])
    right = ((beliefs > 0.5) == outcomes[:, None]).mean(axis=0)
    assert right[0] > 0.65
    assert right[1] < 0.35
    assert right[2] == pytest.approx(0.5, abs=0.04)
    confident = beliefs[:, 0] > 0.8
    assert outcomes[confident].mean() == pytest.approx(beliefs[confident, 0].mean(), abs=0.04)
    assert np.mean([c.audited.mean() for c in campaigns]) == pytest.approx(0.25, abs=0.03)


STRATEGIC = PublicProfile(noise=1.0, objective="taste")
MEAN = ReportContext(rule="mean")


def test_one_player_alone_plays_its_best_response() -> None:
    """The others answer nothing, so the equilibrium is one best response, here chosen on the same campaigns."""
    profiles = (STRATEGIC, *LIKES[1:])
    play, found = equilibrium_play("taste", MEAN, profiles, 0)
    assert found.converged
    assert play.misreport.scale > 1.5
    assert play.left[0] < 0.01


def test_in_equilibrium_nobody_gains_and_all_exaggerate_more_than_against_truthful_others() -> None:
    """Under the mean, q moves by 1/N per report: whoever expects exaggeration from the others answers with more."""
    alone = best_misreport("taste", MEAN, (PublicProfile(noise=1.0, gold=-1.0), *LIKES), 0)
    profiles = (PublicProfile(noise=1.0, gold=-1.0, objective="taste"), *(STRATEGIC,) * 5)
    play, found = equilibrium_play("taste", MEAN, profiles, 0)
    assert found.converged
    assert max(other.left[1] for other in found.plays) < 0.02
    assert play.misreport.scale >= alone.scale > 1.0


def test_the_truth_is_the_equilibrium_against_the_median_of_an_odd_panel() -> None:
    """Moulin 1980; the mean is the control."""
    median = ReportContext(rule="median")
    assert equilibrium_misreport("taste", median, (STRATEGIC,) * 5, 0).is_truthful
    assert not equilibrium_misreport("taste", MEAN, (STRATEGIC,) * 5, 0).is_truthful


def test_like_players_play_alike_unless_their_weights_differ() -> None:
    profiles = (STRATEGIC,) * 3
    assert equilibrium_play("taste", MEAN, profiles, 0)[0] == equilibrium_play("taste", MEAN, profiles, 2)[0]
    apart = ReportContext(rule="online_weighted", rule_options={"initial_weights": [0.8, 0.1, 0.1]})
    _, found = equilibrium_play("taste", apart, profiles, 0)
    assert len(found.plays) == 3


def test_a_slow_rule_has_a_stand_in() -> None:
    profiles = (STRATEGIC, *LIKES[1:])
    slow = ReportContext(rule="dawid_skene")
    assert equilibrium_misreport("taste", slow, profiles, 0) == equilibrium_misreport("taste", MEAN, profiles, 0)


def test_imagined_bias_leans_to_the_first_response() -> None:
    leaning, control = (
        np.concatenate(
            [c.beliefs for c in imagine_campaigns((PublicProfile(bias=bias),), 1.0, np.random.default_rng(1))]
        )
        for bias in (1.0, 0.0)
    )
    odds = np.log(leaning / (1.0 - leaning)) - np.log(control / (1.0 - control))
    np.testing.assert_allclose(odds, 1.0, atol=1e-9)
