"""The theorems about the mechanism as property tests, each with a rule that must fail it (negative control)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truthful_rlhf.aggregation import AGGREGATORS, Aggregator, OnlineWeighted, regret, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.step_size import AnytimeStep, regret_bound

unit = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**32 - 1)
etas = st.sampled_from([0.01, 0.1, 0.5, "auto"])
thorough = settings(max_examples=60, deadline=None, derandomize=True)
GRID = np.linspace(0.0, 1.0, 1001)


def with_weights(aggregator: Aggregator, weights: FloatArray) -> Aggregator:
    aggregator.weights_ = weights.copy()
    return aggregator


def expected_share(
    make: Callable[[], Aggregator], others: FloatArray, belief: float, candidates: FloatArray
) -> FloatArray:
    """Return labeler 0's expected next weight for each report, exactly: p share(y = 1) + (1 - p) share(y = 0)."""
    shares = np.zeros(len(candidates))
    for k, report in enumerate(candidates):
        for outcome, chance in ((0.0, 1.0 - belief), (1.0, belief)):
            aggregator = make()
            aggregator.learn_one(np.append(report, others), outcome)
            shares[k] += chance * aggregator.weights_[0]
    return shares


def random_state(seed: int, n_labelers: int) -> tuple[FloatArray, FloatArray]:
    """Return weights on the simplex and reports of the labelers but the first, at least one of them present."""
    rng = np.random.default_rng(seed)
    others = rng.random(n_labelers - 1)
    others[1:][rng.random(n_labelers - 2) < 0.3] = np.nan
    return rng.dirichlet(np.ones(n_labelers)), others


# --- truthful for the next weight ---------------------------------------------------------------------------------


@thorough
@given(belief=unit, seed=seeds, n_labelers=st.integers(2, 8), eta=etas, fixed_share=st.sampled_from([0.0, 0.05]))
def test_the_belief_maximises_the_expected_next_weight(belief, seed, n_labelers, eta, fixed_share) -> None:  # type: ignore[no-untyped-def]
    """And the loss from another report r is exactly eta pi (1 - pi / pi(S)) (r - p)^2 (times 1 - fixed_share)."""
    weights, others = random_state(seed, n_labelers)
    make = lambda: with_weights(OnlineWeighted(n_labelers, eta=eta, fixed_share=fixed_share), weights)  # noqa: E731
    lies = np.array([0.0, 0.31, 0.5, 1.0])
    shares = expected_share(make, others, belief, np.append(lies, belief))
    present_mass = weights[0] + weights[1:][~np.isnan(others)].sum()
    step = (0.5 if eta == "auto" else eta) * (1.0 - fixed_share)
    coefficient = step * weights[0] * (1.0 - weights[0] / present_mass)
    np.testing.assert_allclose(shares[-1] - shares[:-1], coefficient * (lies - belief) ** 2, rtol=0, atol=1e-14)


def best_lies(name: str, eta: float, n_labelers: int) -> tuple[float, float]:
    """Return the largest distance of the best report from the belief, and the largest relative gain, over beliefs.

    State: equal weights, and everybody else reports 0.
    """
    offsets, gains = [], []
    for belief in np.linspace(0.05, 0.95, 19):
        make = partial(AGGREGATORS[name], n_labelers, eta=eta)
        shares = expected_share(make, np.zeros(n_labelers - 1), belief, np.append(GRID, belief))
        offsets.append(abs(float(GRID[shares[:-1].argmax()]) - belief))
        gains.append(shares.max() / shares[-1] - 1.0)
    return max(offsets), max(gains)


@pytest.mark.parametrize("eta", [0.1, 0.5])
def test_the_best_report_under_the_mechanism_is_the_belief(eta: float) -> None:
    offset, gain = best_lies("online_weighted", eta, 4)
    assert offset <= 0.5 * (GRID[1] - GRID[0]) + 1e-12
    assert gain < 1e-14


# Published: the best report is off by .016/.085 (linear) and .017/.125 (hedge) at eta .1/.5; gains up to 6e-3. The
# notes do not say in which state. Four equal labelers come near .016/.085; ten give .125, and gains of that order.
@pytest.mark.parametrize(
    ("name", "eta", "n_labelers", "offset"),
    [
        ("linear_weighted", 0.1, 4, 0.015),
        ("linear_weighted", 0.5, 4, 0.084),
        ("hedge", 0.1, 4, 0.015),
        ("hedge", 0.5, 10, 0.125),
    ],
)
def test_negative_control_normalised_rules_reward_lies(name: str, eta: float, n_labelers: int, offset: float) -> None:
    found, gain = best_lies(name, eta, n_labelers)
    assert found == pytest.approx(offset, abs=0.003)
    assert gain > 1e-6
    if eta == 0.5:
        assert 1e-3 < gain < 1e-2


def test_negative_control_the_property_test_fails_for_normalised_rules() -> None:
    """Under them some report beats the belief by far more than the property test would let pass."""
    for name in ("linear_weighted", "hedge"):
        others = np.zeros(3)
        shares = expected_share(partial(AGGREGATORS[name], 4, eta=0.5), others, 0.65, np.array([0.65, 0.7, 0.6]))
        assert shares[1:].max() - shares[0] > 1e-5


@pytest.mark.parametrize(("eta", "low", "high"), [(0.1, 1e-9, 1.4e-7), (0.5, 1e-6, 1e-4)])
def test_looking_two_rounds_ahead_is_not_exactly_truthful(eta: float, low: float, high: float) -> None:
    """Two equal labelers, the other reports .1, the belief is .8 in both rounds and the second round is truthful.

    A calculation made before this test, from other states, found gains of 1.4e-7 (eta .1) and 2e-5 (eta .5).
    """
    reports = np.linspace(0.7, 0.9, 4001)

    def after(weight: FloatArray, report: FloatArray | float, outcome: float) -> FloatArray:
        advantage = (0.1 - outcome) ** 2 - (report - outcome) ** 2
        return weight * (1.0 + eta * (1.0 - weight) * advantage)

    def expected(report: FloatArray) -> FloatArray:
        total = np.zeros_like(report)
        for first, p in ((1.0, 0.8), (0.0, 0.2)):
            for second, q in ((1.0, 0.8), (0.0, 0.2)):
                total += p * q * after(after(np.full_like(report, 0.5), report, first), 0.8, second)
        return total

    gain = float(expected(reports).max() - expected(np.array([0.8]))[0])
    assert low < gain < high
    aggregator = OnlineWeighted(2, eta=eta)  # the formula above is the rule's
    aggregator.learn_one(np.array([0.8, 0.1]), 1.0)
    assert aggregator.weights_[0] == pytest.approx(float(after(np.array([0.5]), 0.8, 1.0)[0]), abs=1e-15)


# --- regret -------------------------------------------------------------------------------------------------------


def adversary(kind: str, n_rounds: int, n_labelers: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return extreme reports and outcomes that are hard for multiplicative weights."""
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    right = np.zeros((n_rounds, n_labelers), dtype=bool)
    if kind == "late":  # labeler 0 errs first and is perfect from then on; the others the other way round
        switch = int(n_rounds * rng.uniform(0.1, 0.6))
        right[:, 0] = np.arange(n_rounds) >= switch
        right[:, 1:] = (np.arange(n_rounds) < switch)[:, None]
    elif kind == "coins":
        right = rng.random((n_rounds, n_labelers)) < 0.5
    elif kind == "minority":
        right[:, 0] = rng.random(n_rounds) < 0.9
    elif kind == "blocks":  # the leader always falters
        right = (np.arange(n_rounds)[:, None] // rng.integers(1, 60) + np.arange(n_labelers)) % n_labelers == 0
    return np.where(right, outcomes[:, None], 1.0 - outcomes[:, None]), outcomes


KINDS = ["late", "coins", "minority", "blocks"]


@thorough
@given(kind=st.sampled_from(KINDS), n_rounds=st.integers(1, 2000), n_labelers=st.integers(2, 20), seed=seeds)
def test_regret_with_known_horizon_is_at_most_2_sqrt_T_log_N(kind, n_rounds, n_labelers, seed) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = adversary(kind, n_rounds, n_labelers, np.random.default_rng(seed))
    eta = min(0.5, math.sqrt(math.log(n_labelers) / n_rounds))
    run = run_online(OnlineWeighted(n_labelers, eta=eta), reports, outcomes)
    bound = math.log(n_labelers) / eta + eta * n_rounds
    assert regret(run.soft_labels, reports, outcomes)[-1] <= bound + 1e-9


@thorough
@given(kind=st.sampled_from(KINDS), n_rounds=st.integers(1, 5000), n_labelers=st.integers(2, 20), seed=seeds)
def test_anytime_regret_stays_below_its_bound_at_every_round(kind, n_rounds, n_labelers, seed) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = adversary(kind, n_rounds, n_labelers, np.random.default_rng(seed))
    run = run_online(OnlineWeighted(n_labelers), reports, outcomes)
    curve = regret(run.soft_labels, reports, outcomes)
    for t in np.unique(np.geomspace(1, n_rounds, 20).astype(int)):
        assert curve[t - 1] <= regret_bound(n_labelers, int(t)) + 1e-9


@pytest.mark.parametrize("n_labelers", [2, 10, 1000])
def test_anytime_bound_is_of_order_sqrt(n_labelers: int) -> None:
    schedule = AnytimeStep(n_labelers)
    for n_rounds in np.geomspace(schedule.first_epoch, 1e8, 500).astype(int):
        limit = 4.9 * math.sqrt(n_rounds * schedule.log_ratio) + math.sqrt(n_rounds)
        assert regret_bound(n_labelers, int(n_rounds)) <= limit


def test_steps_fall_by_halves_and_are_fixed_in_advance() -> None:
    schedule = AnytimeStep(10)  # n_1 = ceil(8 ln 100) = 37
    etas, shares = schedule.steps(0, 37 + 148 + 1)
    assert etas.tolist() == [0.5] * 37 + [0.25] * 148 + [0.125]
    assert np.flatnonzero(shares).tolist() == [36, 184]
    np.testing.assert_array_equal(schedule.steps(30, 20)[0], etas[30:50])


@thorough
@given(n_rounds=st.integers(10, 1500), n_labelers=st.integers(2, 10), eta=st.sampled_from([0.02, 0.1, 0.5]), seed=seeds)
def test_with_absences_the_bound_holds_per_labeler_over_its_rounds(n_rounds, n_labelers, eta, seed) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    reports, outcomes = adversary("minority", n_rounds, n_labelers, rng)
    reports[rng.random(reports.shape) < rng.random()] = np.nan
    run = run_online(OnlineWeighted(n_labelers, eta=eta), reports, outcomes)
    excess = (run.soft_labels - outcomes)[:, None] ** 2 - (reports - outcomes[:, None]) ** 2
    n_present = (~np.isnan(reports)).sum(axis=0)
    assert (np.nansum(excess, axis=0) <= math.log(n_labelers) / eta + eta * n_present + 1e-9).all()


@pytest.mark.parametrize("name", ["mean", "median", "trimmed_mean", "majority"])
def test_negative_control_fixed_rules_have_linear_regret_against_a_biased_panel(name: str) -> None:
    for n_rounds in (1000, 4000):
        reports, outcomes = adversary("minority", n_rounds, 10, np.random.default_rng(0))
        curve = regret(run_online(AGGREGATORS[name](10), reports, outcomes).soft_labels, reports, outcomes)
        assert curve[-1] > 0.5 * n_rounds > regret_bound(10, n_rounds) / (3 if n_rounds == 1000 else 1)
        learned = regret(run_online(OnlineWeighted(10), reports, outcomes).soft_labels, reports, outcomes)
        assert learned[-1] < 2 * math.sqrt(n_rounds * math.log(10)) < curve[-1]


def test_negative_control_naive_anytime_steps_have_linear_regret() -> None:
    """Why the schedule has epochs: a labeler that errs for t0 rounds and is perfect then is still buried later.

    Labeler 0 is in debt by t0 rounds; at round 2.2 t0 it leads by .2 t0, and the naive schedule follows the other.
    """
    regrets = []
    for t0 in (1000, 4000):
        n_rounds = int(2.2 * t0)
        late = np.arange(n_rounds) >= t0
        weights, loss = np.array([0.5, 0.5]), 0.0
        for t in range(n_rounds):
            reports = np.array([float(late[t]), float(not late[t])])
            loss += (weights @ reports - 1.0) ** 2
            losses = (reports - 1.0) ** 2
            weights = weights * (1.0 + min(0.5, math.sqrt(math.log(2) / (t + 1))) * (weights @ losses - losses))
        regrets.append(loss - t0)
    assert regrets[1] > 3.5 * regrets[0] > 0
    assert regrets[1] > regret_bound(2, 8800)


def test_hedge_has_constant_regret() -> None:
    """At eta = 1/2 the squared loss is exp-concave: ln N / eta, whatever happens."""
    for kind in KINDS:
        reports, outcomes = adversary(kind, 5000, 10, np.random.default_rng(1))
        curve = regret(run_online(AGGREGATORS["hedge"](10), reports, outcomes).soft_labels, reports, outcomes)
        assert curve.max() <= 2.0 * math.log(10) + 1e-9


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["online_weighted", "linear_weighted", "hedge"])
def test_a_million_rounds_do_not_drift(name: str) -> None:
    rng = np.random.default_rng(0)
    reports = rng.random((1_000_000, 4))
    reports[rng.random(reports.shape) < 0.1] = np.nan
    outcomes = (rng.random(1_000_000) < 0.5).astype(np.float64)
    aggregator = AGGREGATORS[name](4, eta=0.5)
    run = run_online(aggregator, reports, outcomes)
    assert abs(aggregator.weights_.sum() - 1.0) < 1e-12
    assert np.abs(run.weights.sum(axis=1) - 1.0).max() < 1e-12
    assert np.isfinite(run.soft_labels).all()
    assert (run.weights > 0).all()


def test_a_buried_labeler_can_still_be_heard_alone() -> None:
    """Weights stop at 1e-280 rather than zero: nothing is divided by zero when only the buried are present."""
    reports = np.tile([1.0, 0.0, 0.0], (20_000, 1))
    aggregator = OnlineWeighted(3, eta=0.5)
    run_online(aggregator, reports, np.ones(20_000))
    assert aggregator.predict_one(np.array([np.nan, 0.2, 0.6])) == pytest.approx(0.4)


def test_fixed_share_follows_a_change() -> None:
    n_rounds = 4000
    outcomes = np.ones(n_rounds)
    first = np.arange(n_rounds) < n_rounds // 2
    reports = np.stack([first, ~first], axis=1).astype(np.float64)
    losses = {
        share: float(
            ((run_online(OnlineWeighted(2, eta=0.5, fixed_share=share), reports, outcomes).soft_labels - 1) ** 2).sum()
        )
        for share in (0.0, 0.01)
    }
    assert losses[0.01] < 40 < 1000 < losses[0.0]
