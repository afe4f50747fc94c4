"""What the batch rules keep of a fit: each labeler's chances to vote A, its weight, and the posterior of a new pair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from truthful_rlhf.aggregation import make_aggregator, run_online

BATCH = ("dawid_skene", "glad", "mace")
NAN = float("nan")


def votes_of(rng: np.random.Generator, accuracies: tuple[float, ...] = (0.9, 0.9, 0.6)) -> np.ndarray:
    """Return reports on 150 pairs of labelers with these accuracies, and of a last one with 90 % of its votes for A."""
    truth = rng.random((150, 1)) < 0.5
    right = rng.random((150, len(accuracies))) < accuracies
    return np.column_stack([np.where(right == truth, 0.8, 0.3), np.where(rng.random(150) < 0.9, 1.0, 0.0)])


@pytest.fixture(scope="module", params=BATCH)
def fitted(request: pytest.FixtureRequest) -> Any:
    reports = votes_of(np.random.default_rng(0))
    rule: Any = make_aggregator(request.param, 4)
    run_online(rule, reports, np.full(len(reports), NAN))
    return rule


def test_a_new_pair_gets_its_posterior_by_bayes(fitted: Any) -> None:
    """Vote by vote with the labelers' chances; a tie and an absence are no votes."""
    for reports in ([0.9, 0.1, NAN, 1.0], [0.2, 0.5, 0.7, NAN], [0.4, 0.4, 0.4, 0.4], [NAN, NAN, 0.6, 0.5]):
        for_a, for_b = fitted.prior_, 1.0 - fitted.prior_
        for report, (if_b, if_a) in zip(reports, fitted.vote_chances_, strict=True):
            if report > 0.5:
                for_a, for_b = for_a * if_a, for_b * if_b
            elif report < 0.5:
                for_a, for_b = for_a * (1.0 - if_a), for_b * (1.0 - if_b)
        assert fitted.predict_one(reports) == pytest.approx(for_a / (for_a + for_b), rel=1e-9)
    assert fitted.predict_one([0.5, NAN, 0.5, NAN]) == 0.5


def test_weights_are_shares_of_how_much_a_vote_tells(fitted: Any) -> None:
    tells = [abs(if_a - if_b) for if_b, if_a in fitted.vote_chances_]
    np.testing.assert_allclose(fitted.weights_, np.array(tells) / sum(tells))
    assert set(np.argsort(fitted.weights_)[-2:]) == {0, 1}


@pytest.mark.parametrize("name", ["dawid_skene", "mace"])
@pytest.mark.parametrize("turned_round", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_who_votes_one_way_is_known_by_it(name: str, turned_round: bool, seed: int) -> None:
    """Whatever vote comes first (crowd-kit's MACE is wrong in half of these cases). GLAD has no habits in its model."""
    reports = votes_of(np.random.default_rng(seed), (0.9, 0.85, 0.9, 0.85))
    reports = 1.0 - reports if turned_round else reports
    rule: Any = make_aggregator(name, 5)
    run_online(rule, reports, np.full(len(reports), NAN))
    *good, habit = rule.vote_chances_
    assert (habit < 0.25).all() if turned_round else (habit > 0.75).all()
    for if_b, if_a in good:
        assert if_b < 0.3 < 0.7 < if_a


def test_mace_knows_labelers_by_their_column_not_by_who_came_first() -> None:
    """The first pairs are judged by the last labelers only."""
    reports = votes_of(np.random.default_rng(0), (0.9, 0.6, 0.9, 0.6))
    reports[:20, :3] = NAN
    rule: Any = make_aggregator("mace", 5)
    run_online(rule, reports, np.full(len(reports), NAN))
    assert set(np.argsort(rule.weights_)[-2:]) == {0, 2}


def test_glads_chance_to_be_right_is_that_of_its_model() -> None:
    """P(right) = sigmoid(ability * exp(difficulty parameter)), here at the prior's mean of 1, from the peer's fit."""
    from crowdkit.aggregation import GLAD

    reports = votes_of(np.random.default_rng(2))
    tasks, workers = np.nonzero(reports != 0.5)
    table = pd.DataFrame({"task": tasks, "worker": workers, "label": (reports[tasks, workers] > 0.5).astype(int)})
    rule: Any = make_aggregator("glad", 4, n_iter=10)
    run_online(rule, reports, np.full(len(reports), NAN))
    with np.errstate(all="ignore"):
        peer = GLAD(n_iter=rule.n_iter).fit(table)
    for labeler, ability in peer.alphas_.items():
        right = 1.0 / (1.0 + math.exp(-ability * math.e))
        np.testing.assert_allclose(rule.vote_chances_[labeler], [1.0 - right, right], atol=1e-6)


def test_labelers_who_tell_nothing_share_equally() -> None:
    rule: Any = make_aggregator("dawid_skene", 2)
    rule._keep({0: (0.3, 0.3), 1: (0.8, 0.8)})
    assert rule.weights_.tolist() == [0.5, 0.5]
    rule._keep({0: (0.4, 0.6)})
    np.testing.assert_allclose(rule.weights_, [1.0, 0.0])


@pytest.mark.parametrize("name", BATCH)
def test_one_vote_is_believed(name: str) -> None:
    assert run_online(make_aggregator(name, 2), [[0.9, NAN], [NAN, 0.5]], [NAN, NAN]).soft_labels.tolist() == [1.0, 0.5]
