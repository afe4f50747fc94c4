"""What the secret labels promise: exactness over two rounds, expected losses, replay, and a secret that stays one.

Every promise stands in the docstring of ``aggregation.rules.quantile_labels`` with its proof; every test of an
incentive has a control that fails.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import math
import pickle
import traceback
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregation.test_truthful_labels import absent_or_unit, gains_of_lies, unit
from truthful_rlhf.aggregation import OnlineWeighted, final_labels, label_campaign, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS, weighted_quantiles
from truthful_rlhf.aggregation.secret import Secret

SECRET = b"a secret that only the owner of the campaign has"
thorough = settings(max_examples=200, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
QUANTILES = [label for label, edge in LABELS.items() if edge is not None]


def rule(n_labelers: int, label: str, weights: FloatArray | None = None, **options: Any) -> OnlineWeighted:
    made = OnlineWeighted(n_labelers, label=label, secret=SECRET, **options)  # type: ignore[arg-type]
    if weights is not None:
        made.weights_ = weights
    return made


def campaign(seed: int, n_rounds: int = 300, n_labelers: int = 7) -> tuple[FloatArray, FloatArray, list[str]]:
    rng = np.random.default_rng(seed)
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    reports = np.round(0.4 * outcomes[:, None] + 0.6 * rng.random((n_rounds, n_labelers)), 1)  # many ties
    reports[rng.random(reports.shape) < 0.3] = np.nan
    return reports, np.where(rng.random(n_rounds) < 0.6, outcomes, np.nan), [f"pair-{t}" for t in range(n_rounds)]


# --- within the round ---------------------------------------------------------------------------------------------


@thorough
@given(
    peak=unit,
    lies=st.lists(unit, min_size=1, max_size=5),
    others=st.lists(absent_or_unit, max_size=8),
    seed=seeds,
    equal=st.booleans(),
    key=st.integers(0, 1000),
)
@pytest.mark.parametrize("label", QUANTILES)
def test_no_report_gains_within_the_round(label, peak, lies, others, seed, equal, key) -> None:  # type: ignore[no-untyped-def]
    """For any single-peaked taste, weights, reports of the others and point; equal weights meet points exactly."""
    n = 1 + len(others)
    weights = np.full(n, 1 / n) if equal else np.random.default_rng(seed).dirichlet(np.full(n, 0.3))
    aggregator = rule(n, label, weights)
    assert gains_of_lies(lambda r: aggregator.predict_one(r, key), np.array(others), peak, np.array(lies)) == []


def test_negative_control_the_weighted_mean_rewards_exaggeration() -> None:
    rng = np.random.default_rng(0)
    caught = 0
    for _ in range(200):
        aggregator = rule(4, "mean", rng.dirichlet(np.ones(4)))
        caught += bool(gains_of_lies(aggregator.predict_one, rng.random(3), rng.random(), rng.random(20)))
    assert caught > 150


def two_round_payoff(label: str, report: float, all_present: bool) -> float:
    """Return labeler 0's exact expected taste over two rounds, -E sum (label - belief)^2, with truth in the second.

    Three labelers with weights .2, .3, .5, step 1/2. The other two report .9 and .3 first, then .1 and 1; without
    ``all_present`` the third is away in the second round. The own beliefs are .7 and .6.
    """
    weights = np.array([0.2, 0.3, 0.5])
    first, second = np.array([report, 0.9, 0.3]), np.array([0.6, 0.1, 1.0 if all_present else np.nan])
    total = -expected_distance(label, weights, first, 0.7)
    for outcome, chance in ((1.0, 0.7), (0.0, 0.3)):
        learner = rule(3, label, weights.copy(), eta=0.5)
        learner.learn_one(first, outcome)
        total -= chance * expected_distance(label, learner.weights_, second, 0.6)
    return total


def expected_distance(label: str, weights: FloatArray, reports: FloatArray, own: float) -> float:
    """Return E (label - own)^2 over the secret point; exact for ``drawn`` (its points cut at the cumulative sums)."""
    if label == "mean":
        return float((rule(3, "mean", weights).predict_one(reports) - own) ** 2)
    return exact_mean(label, reports, weights, lambda q: (q - own) ** 2)


def exact_mean(label: str, reports: FloatArray, weights: FloatArray, value: Any) -> float:
    """Return E value(label) over the point u on [a, 1 - a]: the label is constant between cumulative weights."""
    edge = LABELS[label]
    assert edge is not None
    present = ~np.isnan(reports)
    sums = np.cumsum(weights[present][np.argsort(reports[present])]) / weights[present].sum()
    ends = np.unique(np.clip(np.concatenate([[edge], sums, [1.0 - edge]]), edge, 1.0 - edge))
    middles, widths = 0.5 * (ends[1:] + ends[:-1]), np.diff(ends) / (1.0 - 2.0 * edge)
    if edge == 0.5:
        middles, widths = np.array([0.5]), np.array([1.0])
    labels = weighted_quantiles(np.tile(reports, (len(middles), 1)), weights, middles)
    return math.fsum(width * value(q) for width, q in zip(widths, labels, strict=True))


def best_report(label: str, all_present: bool) -> tuple[float, float]:
    """Return the best first report on a grid of 1/1000, and its gain over the belief .7."""
    grid = np.linspace(0.0, 1.0, 1001)
    payoffs = np.array([two_round_payoff(label, report, all_present) for report in grid])
    return float(grid[payoffs.argmax()]), float(payoffs.max() - payoffs[700])


def test_drawn_is_exact_for_this_round_and_the_next() -> None:
    report, gain = best_report("drawn", all_present=True)
    assert report == pytest.approx(0.7, abs=1e-12)
    assert gain <= 1e-15


def test_negative_controls_of_the_two_rounds() -> None:
    """With an absence in the second round ``drawn`` leaves the belief by a little, the weighted mean by far."""
    report, gain = best_report("drawn", all_present=False)
    assert report != pytest.approx(0.7, abs=5e-4)
    assert 0.0 < gain < 1e-3
    report, gain = best_report("mean", all_present=True)
    assert abs(report - 0.7) > 0.2
    assert gain > 1e-2


# --- what the labels cost -----------------------------------------------------------------------------------------


@thorough
@given(seed=seeds, n_labelers=st.integers(1, 9), outcome=st.sampled_from([0.0, 1.0]), rounded=st.booleans())
def test_losses_against_the_weighted_mean_loss(seed, n_labelers, outcome, rounded) -> None:  # type: ignore[no-untyped-def]
    """``drawn``: equal in expectation. ``median``: at most twice. ``quantile``: at most 2 ln 3 times."""
    rng = np.random.default_rng(seed)
    reports, weights = rng.random(n_labelers), rng.dirichlet(np.full(n_labelers, 0.5))
    reports[1:][rng.random(n_labelers - 1) < 0.2] = np.nan
    reports = np.round(reports, 1) if rounded else reports
    weights = weights + 1e-6  # everybody counts: no sum of weights is zero
    present = ~np.isnan(reports)
    loss = float(weights[present] @ (reports[present] - outcome) ** 2 / weights[present].sum())
    losses = {label: exact_mean(label, reports, weights, lambda q: (q - outcome) ** 2) for label in QUANTILES}
    assert losses["drawn"] == pytest.approx(loss, abs=1e-11)
    assert losses["median"] <= 2.0 * loss + 1e-11
    assert losses["quantile"] <= 2.0 * math.log(3.0) * loss + 1e-11


def test_twice_the_loss_is_nearly_reached() -> None:
    """Half of the weight at 0, a hair less at 1, y = 1: the median loses 1, the weighted mean loss is just over 1/2."""
    reports, weights = np.array([0.0, 1.0]), np.array([0.5001, 0.4999])
    assert weighted_quantiles(reports[None], weights, np.array([0.5])).tolist() == [0.0]


def test_drawn_takes_each_report_as_often_as_its_weight_says() -> None:
    weights, n = np.array([0.5, 0.3, 0.2]), 40_000
    reports = np.tile([0.8, 0.1, 0.4], (n, 1))
    labels = rule(3, "drawn", weights).predict_many(reports, range(n))
    shares = np.array([(labels == report).mean() for report in reports[0]])
    np.testing.assert_allclose(shares, weights, atol=5 * math.sqrt(0.25 / n))


# --- points, ties, symmetry ---------------------------------------------------------------------------------------


@thorough
@given(seed=seeds, n_labelers=st.integers(1, 40), concentration=st.sampled_from([0.1, 1.0]), rounded=st.booleans())
def test_the_kernel_is_the_textbook_quantile(seed, n_labelers, concentration, rounded) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    reports, weights = rng.random((20, n_labelers)), rng.dirichlet(np.full(n_labelers, concentration)) + 1e-9
    reports[rng.random(reports.shape) < 0.3] = np.nan
    reports, points = np.round(reports, 1) if rounded else reports, rng.random(20)
    labels = weighted_quantiles(reports, weights, points)
    for row, point, label in zip(reports, points, labels, strict=True):
        present = ~np.isnan(row)
        if not present.any():
            assert label == 0.5
            continue
        order = np.argsort(row[present])
        sums = np.cumsum(weights[present][order])
        assert label == row[present][order][np.searchsorted(sums, point * sums[-1])]


def test_large_rounds_too() -> None:
    """From 17 labelers on the kernel searches; 1,000 of them, crowded reports and equal weights."""
    rng = np.random.default_rng(1)
    for reports in (rng.random(999), rng.random(999) ** 40, np.round(rng.random(999), 2)):
        label = weighted_quantiles(reports[None], np.full(999, 1 / 999), np.array([0.5]))[0]
        assert label == np.median(reports)


@pytest.mark.parametrize(
    ("reports", "weights", "label"),
    [
        ([0.2, 0.9], [0.5, 0.5], 0.5),  # a tie: 1/2 between the neighbours
        ([0.6, 0.9], [0.5, 0.5], 0.6),  # 1/2 clamped
        ([0.1, 0.3], [0.5, 0.5], 0.3),
        ([0.1, 0.3, 0.7, 0.9], [1 / 6, 1 / 3, 1 / 6, 1 / 3], 0.5),
        ([0.3, 0.4, 0.9], [0.4, 0.1, 0.5], 0.5),
        ([0.3, 0.4, 0.9], [0.4, 0.1, 0.4999], 0.4),
        ([0.2, 0.9], [1.0, 0.0], 0.2),  # zero weight has no say, not in a tie either
        ([0.1, 0.2, 0.9], [0.5, 0.0, 0.5], 0.5),
        ([0.3, 0.6, 0.9], [0.5, 0.0, 0.5], 0.5),
        ([0.3, np.nan, 0.9], [0.0, 1.0, 0.0], 0.5),  # nobody present has weight: nothing is known
        ([np.nan, 0.7, np.nan], [0.9, 1e-280, 0.1], 0.7),
        ([np.nan, np.nan], [0.5, 0.5], 0.5),
        ([-0.0, 0.0, 1.0], [0.2, 0.2, 0.6], 1.0),
        ([-0.0, 0.0, 1.0], [0.3, 0.3, 0.4], 0.0),
    ],
)
def test_weighted_medians_by_hand(reports: list[float], weights: list[float], label: float) -> None:
    assert rule(len(reports), "median", np.array(weights)).predict_one(np.array(reports)) == label


def test_equal_weights_after_updates_are_the_median() -> None:
    """Weights equal up to rounding meet the point: 1/6 three times is 1/2, whatever the last bit says."""
    for n in range(2, 40, 2):
        weights = np.full(n, 1.0 / n) * (1.0 + 1e-15 * np.random.default_rng(n).standard_normal(n))
        assert rule(n, "median", weights).predict_one(np.linspace(0.0, 1.0, n)) == pytest.approx(0.5, abs=1e-15)


@thorough
@given(seed=seeds, n_labelers=st.integers(1, 8))
def test_turning_a_and_b_round(seed, n_labelers) -> None:  # type: ignore[no-untyped-def]
    """The quantile at u goes to 1 minus the quantile at 1 - u, ties included; the median therefore to itself."""
    rng = np.random.default_rng(seed)
    reports, points = rng.integers(0, 9, (20, n_labelers)) / 8, rng.integers(1, 8, 20) / 8
    weights = np.full(n_labelers, 1.0 / n_labelers)
    turned = weighted_quantiles(1.0 - reports, weights, 1.0 - points)
    np.testing.assert_array_equal(turned, 1.0 - weighted_quantiles(reports, weights, points))


def test_points_are_uniform_and_symmetric() -> None:
    points = Secret(SECRET).uniforms("label", range(20_000))
    assert 0.0 < points.min() < points.max() < 1.0
    np.testing.assert_array_equal(1.0 - (1.0 - points), points)
    for k in range(1, 10):
        assert (points < k / 10).mean() == pytest.approx(k / 10, abs=5 * 0.5 / math.sqrt(20_000))
    assert abs(np.corrcoef(points[:-1], points[1:])[0, 1]) < 5 / math.sqrt(20_000)


@pytest.mark.parametrize(("label", "edge"), [("quantile", 0.25), ("drawn", 0.0)])
def test_points_lie_where_the_label_says(label: str, edge: float) -> None:
    points = rule(2, label)._label.points(range(5000), 5000)
    assert edge < points.min() < edge + 0.01
    assert 1.0 - edge - 0.01 < points.max() < 1.0 - edge


# --- weights, replay ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", ["auto", 0.3])
def test_weights_do_not_see_the_label(eta: Any) -> None:
    reports, outcomes, keys = campaign(0)
    runs = {label: run_online(rule(7, label, eta=eta), reports, outcomes, keys) for label in LABELS}
    for label in QUANTILES:
        assert runs[label].weights.tobytes() == runs["mean"].weights.tobytes()
        assert (runs[label].soft_labels != runs["mean"].soft_labels).any()


@pytest.mark.parametrize("label", sorted(LABELS))
def test_replay_gives_the_same_bytes(label: str) -> None:
    """As one call, in chunks, round by round, per topic with one topic; and another secret gives other labels."""
    reports, outcomes, keys = campaign(1)
    whole = run_online(rule(7, label), reports, outcomes, keys).soft_labels
    assert run_online(rule(7, label), reports, outcomes, keys).soft_labels.tobytes() == whole.tobytes()
    part = rule(7, label)
    pieces = [run_online(part, reports[rows], outcomes[rows], keys[rows]) for rows in (slice(0, 99), slice(99, 300))]
    assert np.concatenate([piece.soft_labels for piece in pieces]).tobytes() == whole.tobytes()
    loop, looped = rule(7, label), []
    for row, outcome, key in zip(reports, outcomes, keys, strict=True):
        looped.append(loop.predict_one(row, key))
        loop.learn_one(row, outcome)
    np.testing.assert_allclose(looped, whole, rtol=0, atol=1e-12)
    labeled = label_campaign(reports, outcomes, pair_ids=keys, topics=["x"] * 300, label=label, secret=SECRET)
    assert labeled.stated.tobytes() == whole.tobytes()
    judged = ~np.isnan(reports).all(axis=1)
    np.testing.assert_allclose(labeled.soft_labels[judged], final_labels(loop, reports, outcomes, keys)[judged])
    other = run_online(OnlineWeighted(7, label=label, secret=b"another"), reports, outcomes, keys)  # type: ignore[arg-type]
    assert (other.soft_labels.tobytes() == whole.tobytes()) == (label in {"mean", "median"})


def test_a_pair_keeps_its_point_wherever_it_stands() -> None:
    reports, _, keys = campaign(2)
    order = np.random.default_rng(0).permutation(300)
    labels = rule(7, "drawn").predict_many(reports, keys)
    shuffled = rule(7, "drawn").predict_many(reports[order], [keys[t] for t in order])
    np.testing.assert_array_equal(shuffled, labels[order])
    digits = rule(7, "drawn").predict_many(reports, [str(t) for t in range(300)])
    np.testing.assert_array_equal(rule(7, "drawn").predict_many(reports, np.arange(300)), digits)


def test_numbers_are_the_hmac_of_the_library() -> None:
    for secret in (b"x", SECRET, b"long" * 40):
        for key in ("pair-1", "ä", "", "long" * 40):
            expected = hmac.new(secret, b"label\0" + key.encode(), hashlib.sha256).digest()
            assert Secret(secret).digests("label", [key]) == [expected]
    assert Secret(SECRET).digests("lottery", ["1"]) != Secret(SECRET).digests("label", ["1"])


# --- the secret stays one -----------------------------------------------------------------------------------------


def test_secrets_and_keys_are_asked_for() -> None:
    reports, outcomes, keys = campaign(3)
    for label in ("quantile", "drawn"):
        with pytest.raises(ValueError, match=r"needs a secret .* secret=secrets\.token_bytes\(32\)"):
            OnlineWeighted(3, label=label)  # type: ignore[arg-type]
        for call in (
            lambda made: made.predict_one(reports[0]),
            lambda made: run_online(made, reports, outcomes),
            lambda made: final_labels(made, reports, outcomes),
        ):
            made = rule(7, label)
            with pytest.raises(ValueError, match=r"needs the pair's id: predict_one\(reports, key="):
                call(made)
            np.testing.assert_array_equal(made.weights_, np.full(7, 1 / 7))
        with pytest.raises(ValueError, match="300 rounds, 299 keys"):
            run_online(rule(7, label), reports, outcomes, keys[1:])
        with pytest.raises(TypeError, match="a string or a whole number"):
            rule(7, label).predict_one(reports[0], 0.5)  # type: ignore[arg-type]
    assert OnlineWeighted(2, label="median").predict_one([0.7, 0.7]) == 0.7
    with pytest.raises(ValueError, match="label must be one of mean, median, quantile, drawn, got 'mode'"):
        OnlineWeighted(2, label="mode")  # type: ignore[arg-type]
    for bad in ("a string", b"", 0):
        with pytest.raises(ValueError, match="a secret must be bytes") as raised:
            OnlineWeighted(2, label="drawn", secret=bad)  # type: ignore[arg-type]
        assert "a string" not in str(raised.value)


def test_the_secret_is_shown_and_saved_nowhere() -> None:
    """Neither the bytes, nor the HMAC's keys made of them, stand in what a rule prints, raises or saves."""
    reports, outcomes, keys = campaign(4)
    made = rule(7, "drawn")
    run = run_online(made, reports, outcomes, keys)
    texts = [repr(made), str(vars(made)), repr(run), repr(made._label.secret)]
    for bad in (lambda: made.predict_one(reports[0]), lambda: made.predict_one(reports[0], 0.5)):  # type: ignore[arg-type]
        try:
            bad()
        except (ValueError, TypeError) as error:
            texts.append("".join(traceback.format_exception(error)))
    saved = pickle.dumps(made)
    inner = bytes(byte ^ 0x36 for byte in SECRET)
    assert SECRET not in saved
    assert inner not in saved
    assert len(texts) == 6
    for text in texts:
        assert SECRET.decode() not in text
        assert SECRET.hex() not in text


def test_a_saved_rule_wants_its_secret_again() -> None:
    reports, outcomes, keys = campaign(5)
    made = rule(7, "drawn")
    run_online(made, reports, outcomes, keys)
    read = pickle.loads(pickle.dumps(made))
    with pytest.raises(ValueError, match=r"set_secret\(secret\)"):
        read.predict_one(reports[0], keys[0])
    np.testing.assert_array_equal(read.weights_, made.weights_)
    read.set_secret(SECRET)
    expected = made.predict_many(reports, keys)
    np.testing.assert_array_equal(read.predict_many(reports, keys), expected)
    np.testing.assert_array_equal(copy.deepcopy(made).predict_many(reports, keys), expected)
