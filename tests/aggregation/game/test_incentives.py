"""The incentive audit sees gains where they are known to exist, and none where it is proved that there are none."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.aggregation.game.crowd import Judge, drawn
from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.game.campaigns import TRUTH, LabelerPosition, Objective, Rule
from truthful_rlhf.aggregation.game.incentives import (
    describe,
    expected_next_share,
    gains_by_class,
    next_share_gain,
    relative_gain,
)
from truthful_rlhf.aggregation.game.misreport import Misreport

PROBABILITY = st.floats(0.0, 1.0)
CANDIDATES = np.linspace(0.0, 1.0, 41)
PUSHED = Misreport(shift=2.0)
PANEL = (Judge(0.5), Judge(0.5), Judge(1.0, bias=1.5), *(Judge(1.0, bias=1.0, misreport=PUSHED),) * 2)
EXPERT, BIASED, BLOC = slice(0, 1), slice(2, 3), slice(3, 5)


def after_history(rule: Rule, history: np.ndarray, outcomes: np.ndarray):  # type: ignore[no-untyped-def]
    aggregator = rule(history.shape[1])
    for reports, outcome in zip(history, outcomes, strict=True):
        aggregator.learn_one(reports, outcome)
    return aggregator


@settings(max_examples=60, deadline=None)
@given(
    eta=st.floats(0.01, 0.5),
    history=arrays(np.float64, (5, 4), elements=PROBABILITY),
    outcomes=arrays(np.float64, 5, elements=st.sampled_from([0.0, 1.0])),
    reports=arrays(np.float64, 4, elements=PROBABILITY),
    belief=PROBABILITY,
    bloc=st.booleans(),
)
def test_theorem_under_online_weighted_no_report_beats_the_belief_for_the_next_share(
    eta: float, history: np.ndarray, outcomes: np.ndarray, reports: np.ndarray, belief: float, bloc: bool
) -> None:
    """E[pi'] = const - eta pi_i (1 - pi_i) E[(r - y)^2], least loss at r = p; also for a bloc that reports alike.

    E[(r - y)^2] - E[(p - y)^2] = (r - p)^2, so the loss of a lie is exactly eta pi (1 - pi) (r - p)^2.
    """
    aggregator = after_history(partial(AGGREGATORS["online_weighted"], eta=eta), history, outcomes)
    members = slice(0, 2) if bloc else slice(0, 1)
    candidates = np.append(belief, CANDIDATES)
    share = expected_next_share(aggregator, reports, members, belief, candidates)
    weight = float(aggregator.weights_[members].sum())
    exact = eta * weight * (1.0 - weight) * (candidates - belief) ** 2
    np.testing.assert_allclose(share[0] - share, exact, atol=1e-14)


def share_after_two_rounds(eta: float, first: np.ndarray, second: np.ndarray, report: float) -> float:
    """Return labeler 0's expected share after two rounds if it reports this in the first and its belief in the second.

    Its beliefs are its own entries of ``first`` and ``second``: an exact expectation over the two outcomes.
    """
    tried = first.copy()
    tried[0] = report
    total = 0.0
    for outcome, probability in ((0.0, 1.0 - first[0]), (1.0, first[0])):
        aggregator = AGGREGATORS["online_weighted"](len(first), eta=eta)
        aggregator.learn_one(tried, outcome)
        belief = second[:1]
        total += probability * float(expected_next_share(aggregator, second, slice(0, 1), float(belief[0]), belief)[0])
    return total


def test_looking_two_rounds_ahead_a_lie_gains_a_little() -> None:
    """Truth is exactly best for the next share only (WSU, arXiv 2002.08837). Looking one round further a lie gains.

    How much depends on the panel: a calculation made before this test, with other panels and other code, found at most
    1.4e-7 (eta .1) and 2e-5 (eta .5). The test asks for these magnitudes.
    """
    rng = np.random.default_rng(0)
    rounds = rng.random((150, 2, 3))
    largest = {}
    for eta, reach in ((0.1, 0.002), (0.5, 0.03)):
        gains = []
        for first, second in rounds:
            truthful = share_after_two_rounds(eta, first, second, first[0])
            tried = np.clip(first[0] + reach * np.array([-1.0, -0.5, 0.5, 1.0]), 0.0, 1.0)
            best = max(share_after_two_rounds(eta, first, second, report) for report in tried)
            gains.append(best / truthful - 1.0)
        largest[eta] = max(gains)
    assert 1e-9 < largest[0.1] < 1e-6
    assert 1e-6 < largest[0.5] < 1e-3


@pytest.mark.parametrize("name", ["linear_weighted", "hedge"])
def test_control_the_normalised_rules_reward_a_lie(name: str) -> None:
    """Five labelers of equal weight, the others all report 1: the best report is not the belief.

    A calculation made before this test, with other panels and other code, found best reports off by .016 / .085
    (linear) and .017 / .125 (hedge) at eta .1 / .5, and relative gains up to 6e-3. The test asks for these magnitudes.
    """
    fine = np.linspace(0.0, 1.0, 401)
    offset, gain = {}, {}
    for eta in (0.1, 0.5):
        aggregator = AGGREGATORS[name](5, eta=eta)
        best = []
        for belief in np.linspace(0.0, 1.0, 21):
            candidates = np.append(belief, fine)
            share = expected_next_share(aggregator, np.ones(5), slice(0, 1), belief, candidates)
            best.append((abs(candidates[share.argmax()] - belief), share.max() / share[0] - 1.0))
        offset[eta], gain[eta] = np.max(best, axis=0)
    assert 0.008 < offset[0.1] < 0.03
    assert 0.05 < offset[0.5] < 0.2
    assert 1e-6 < gain[0.1] < gain[0.5] < 1e-2
    assert gain[0.5] > 1e-3


@pytest.mark.parametrize(
    ("name", "is_exact"), [("online_weighted", True), ("linear_weighted", False), ("hedge", False)]
)
def test_next_share_audit_of_a_panel(name: str, is_exact: bool) -> None:
    campaigns = drawn(PANEL, 80, 6)
    rule = partial(AGGREGATORS[name], eta=0.5)
    for columns in (EXPERT, BIASED, BLOC):
        found = next_share_gain(rule, campaigns, columns, np.random.default_rng(1))
        assert (found.largest < 1e-12) == is_exact
        assert found.mean <= found.largest
        assert 0.0 < found.share < 1.0


def gains_of(  # type: ignore[no-untyped-def]
    rule: Rule, objective: str, columns: slice, strategies: tuple[str, ...], declared: str = ""
):
    searching, measuring = (
        LabelerPosition(rule, drawn(PANEL, 150, n, seed), columns, Objective(objective))
        for n, seed in ((6, 1), (24, 2))
    )
    found = gains_by_class(searching, measuring, strategies, np.random.default_rng(3), declared)
    return {gain.strategy: gain for gain in found}


def test_control_the_mean_rewards_exaggeration_for_taste() -> None:
    gains = gains_of(AGGREGATORS["mean"], "taste", EXPERT, ("scale", "flip", "spsa"))
    assert gains["scale"].low > 0.02
    assert gains["spsa"].low > 0.02
    assert gains["flip"].high < 0.0
    assert gains["scale"].misreport.startswith("x")


def test_the_mean_pays_no_influence_for_anything() -> None:
    for gain in gains_of(AGGREGATORS["mean"], "influence", EXPERT, ("scale", "shift", "sleep")).values():
        assert (gain.gain, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_under_online_weighted_lying_costs_influence() -> None:
    gains = gains_of(AGGREGATORS["online_weighted"], "influence", EXPERT, ("scale", "shift", "flip"))
    assert gains["flip"].high < -0.3
    assert all(gain.low < 0.02 for gain in gains.values())


def test_control_a_biased_labeler_that_is_paid_in_the_true_world_gains_by_unbiasing() -> None:
    """Why gains are measured in the labeler's own world: in the true one, correcting the bias would pass for a lie."""
    campaigns = drawn(PANEL, 300, 12, seed=5)
    corrected = Misreport(shift=-1.5)
    gain = {}
    for model in ("own", "true"):
        position = LabelerPosition(
            AGGREGATORS["online_weighted"], campaigns, BIASED, Objective("influence"), outcome_model=model
        )
        gain[model], _, _ = relative_gain(
            position.payoffs(corrected), position.payoffs(TRUTH), np.random.default_rng(0)
        )
    assert gain["true"] > 0.2
    assert gain["own"] < -0.2


def test_what_a_bloc_declares_is_audited_too() -> None:
    gains = gains_of(AGGREGATORS["online_weighted"], "influence", BLOC, ("flip",), declared="push (shift 2)")
    assert set(gains) == {"flip", "declared"}
    assert gains["declared"].misreport == "push (shift 2)"
    assert gains["declared"].high < 0.0


def test_choosing_the_best_of_many_does_not_flatter_the_gain() -> None:
    """Pure luck: payoffs that do not depend on the lie. The best of 200 shines on the search campaigns only."""
    rng = np.random.default_rng(0)
    search, fresh = rng.normal(size=(2, 200, 8))
    best = int(search.mean(axis=1).argmax())
    flattering = search[best].mean()
    honest, low, high = relative_gain(1.0 + fresh[best], np.ones(8), rng)
    assert flattering > 0.7
    assert low < 0.0 < high
    assert abs(honest) < flattering


def test_interval_of_paired_campaigns() -> None:
    """A constant gain of .01 on payoffs of -.5 +- 1 has an interval around 2 %, not one of the size of the noise."""
    truthful = -0.5 + 0.1 * np.random.default_rng(1).normal(size=50)
    gain, low, high = relative_gain(truthful + 0.01, truthful, np.random.default_rng(2))
    assert gain == pytest.approx(0.02, rel=0.1)
    assert 0.018 < low < gain < high < 0.022


def test_taste_values_in_sign_and_size() -> None:
    """What a lie gains who wants the aggregate near its own view, T = 500, five labelers of noise .5, true outcomes.

    Bias .2 is taken as .2 in probability near one half (.85 in log-odds). A calculation made before this test, with
    other panels and other code, found: unbiased, x1.25: +1.1 %, x4: -25 %; bias .2: any constant factor loses, the last
    20 %: +.6 %; the mean: +5.5 % and +10.5 %. The test asks for their signs and magnitudes.
    """
    found = {}
    for bias in (0.0, 0.85):
        campaigns = drawn((Judge(0.5, bias), *(Judge(0.5),) * 4), 500, 60, seed=1)
        for name in ("online_weighted", "mean"):
            position = LabelerPosition(AGGREGATORS[name], campaigns, EXPERT, Objective("taste"), outcome_model="true")
            truthful = position.payoffs(TRUTH)
            for scale, start in [(1.25, 0), (1.5, 0), (2.0, 0), (4.0, 0), (2.0, 400)]:
                lying = position.payoffs(Misreport(scale, start=start))
                found[name, bias, scale, start] = (lying - truthful).mean() / abs(truthful.mean())
    assert 0.0 < found["online_weighted", 0.0, 1.25, 0] < 0.04
    assert -0.45 < found["online_weighted", 0.0, 4.0, 0] < -0.15
    assert all(found["online_weighted", 0.85, scale, 0] < 0.0 for scale in (1.25, 1.5, 2.0, 4.0))
    assert 0.0 < found["online_weighted", 0.85, 2.0, 400] < 0.02
    assert 0.03 < found["mean", 0.0, 1.25, 0] < 0.08
    assert 0.06 < found["mean", 0.85, 1.5, 0] < 0.15


def test_misreports_in_words() -> None:
    assert describe(TRUTH, 100) == "truth"
    assert describe(Misreport(start=50), 100) == "truth"
    assert describe(Misreport(4.0, 1.0, 80), 100) == "x4, shift +1 from 80 %"
    assert describe(Misreport(-1.0), 100) == "x-1"
