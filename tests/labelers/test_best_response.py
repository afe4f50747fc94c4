"""Best responses where theory says what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from truthful_rlhf.labelers import Pairs, ReportContext
from truthful_rlhf.labelers.best_response import N_CAMPAIGNS, best_misreport, imagine_campaigns
from truthful_rlhf.labelers.context import Peer, Setting

LIKES = (Peer(noise=1.0),) * 5


def respond(objective: str, rule: str, peers: tuple[Peer, ...], position: int = 0, **options: Any) -> float:
    """Return the scale of the best misreport."""
    setting = Setting(
        pairs=Pairs([], [], [], []),
        context=ReportContext(rule=rule, rule_options=options, audit_rate=1.0),
        rng=np.random.default_rng(0),
        allies=np.empty((0, 1)),
        impartial=np.empty(0),
        peers=peers,
        position=position,
    )
    return best_misreport(objective, setting).scale


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
    peers = (Peer(gold=-1.0, noise=0.5), *LIKES)
    assert respond("influence", "online_weighted", peers) < 0.0


def test_exaggerates_less_where_accuracy_is_paid() -> None:
    """A loud contrarian loses its weight under the online mechanism, not under the mean."""
    peers = (Peer(gold=-1.0, noise=0.5), *LIKES)
    assert respond("taste", "online_weighted", peers, eta=0.3) < respond("taste", "mean", peers)


def test_labelers_of_one_kind_respond_alike() -> None:
    assert respond("taste", "mean", LIKES, position=0) == respond("taste", "mean", LIKES, position=4)


def test_labelers_of_one_kind_with_unequal_initial_weights_respond_each_for_itself() -> None:
    """Who starts with nearly all the weight has nothing to exaggerate for; the others have."""
    unequal = {"initial_weights": [1e6, 1, 1, 1, 1], "eta": 1e-6}
    assert respond("taste", "online_weighted", LIKES, position=0, **unequal) == 1.0
    assert respond("taste", "online_weighted", LIKES, position=4, **unequal) > 1.5


def test_imagined_campaigns_are_as_publicly_known() -> None:
    """Unbiased peers are calibrated, contrarians are wrong, a taste for something else is worth nothing."""
    peers = (Peer(noise=1.0), Peer(gold=-1.0, noise=1.0), Peer(gold=0.0, other=1.0, noise=1.0))
    campaigns = imagine_campaigns(peers, 0.25, np.random.default_rng(1))
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
