"""Contract checks that every rule of ``AGGREGATORS`` passes, in the manner of river's estimator checks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from tests.rules import NEEDED, make_aggregator
from truthful_rlhf.aggregation import AGGREGATORS, Aggregator, final_labels, run_online
from truthful_rlhf.aggregation.base import FloatArray, WholeCampaigns

BATCH = {"dawid_skene", "glad", "mace"}
"""Fit a whole campaign at once: no loop of rounds equals their run."""
ONLINE = sorted(set(AGGREGATORS) - BATCH)
LEARNING = ["online_weighted", "linear_weighted", "hedge", "examined"]
HARD_VOTES = {"majority", *BATCH}
"""Unanimous reports become a vote: 0.7 does not come back as 0.7."""
ADDED_LOG_ODDS = {"gold_vote", "logistic"}
"""Two who say 0.7 are surer than one, and a labeler who was always wrong is read the other way round."""
SYMMETRIC = sorted(set(ONLINE) - {"examined"})
"""Lotteries draw along the order of labelers: relabelling permutes debts in distribution only."""

every_rule = pytest.mark.parametrize("name", sorted(AGGREGATORS))
every_online_rule = pytest.mark.parametrize("name", ONLINE)
every_symmetric_rule = pytest.mark.parametrize("name", SYMMETRIC)

N = 6


@pytest.fixture
def campaign() -> tuple[FloatArray, FloatArray]:
    """Return reports of one good and five poor labelers with absences and unaudited rounds."""
    rng = np.random.default_rng(5)
    n_rounds = 200
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    reports = rng.random((n_rounds, N))
    reports[:, 2] = 0.7 * outcomes + 0.3 * reports[:, 2]
    reports[rng.random(reports.shape) < 0.3] = np.nan
    reports[[3, 77]] = np.nan
    return reports, np.where(rng.random(n_rounds) < 0.6, outcomes, np.nan)


def trained(name: str, campaign: tuple[FloatArray, FloatArray], **options: Any) -> Aggregator:
    aggregator = make_aggregator(name, campaign[0].shape[1], **options)
    run_online(aggregator, *campaign)
    return aggregator


def looped(aggregator: Aggregator, reports: FloatArray, outcomes: FloatArray) -> tuple[FloatArray, FloatArray]:
    soft_labels, weights = np.empty(len(reports)), np.empty(reports.shape)
    for t in range(len(reports)):
        weights[t] = aggregator.weights_
        soft_labels[t] = aggregator.predict_one(reports[t])
        aggregator.learn_one(reports[t], float(outcomes[t]))
    return soft_labels, weights


@every_rule
def test_interface(name: str) -> None:
    aggregator = make_aggregator(name, N)
    assert isinstance(aggregator, Aggregator)
    assert isinstance(aggregator, WholeCampaigns)
    assert aggregator.learn_one(np.full(N, 0.3), 1.0) is None  # type: ignore[func-returns-value]


@every_rule
def test_predicts_before_any_learning(name: str) -> None:
    """The value, not only that it runs: equal labelers who say A and one who says B give a majority for A."""
    label = make_aggregator(name, 3).predict_one(np.array([0.8, 0.8, 0.2]))
    assert isinstance(label, float)
    assert 0.5 < label <= 0.8


@every_rule
def test_soft_labels_are_probabilities_and_weights_are_on_the_simplex(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = make_aggregator(name, N)
    run = run_online(aggregator, *campaign)
    assert run.soft_labels.shape == (200,)
    assert run.weights.shape == (200, N)
    assert ((run.soft_labels >= 0) & (run.soft_labels <= 1)).all()
    for weights in (run.weights, aggregator.weights_[None]):
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)


@every_online_rule
def test_run_online_equals_the_loop_and_leaves_its_state(name, campaign) -> None:  # type: ignore[no-untyped-def]
    fast, slow = make_aggregator(name, N), make_aggregator(name, N)
    run = run_online(fast, *campaign)
    soft_labels, weights = looped(slow, *campaign)
    np.testing.assert_allclose(run.soft_labels, soft_labels, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.weights, weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.weights_, slow.weights_, rtol=0, atol=1e-12)
    again = [run_online(aggregator, *campaign).soft_labels for aggregator in (fast, slow)]
    np.testing.assert_allclose(*again, rtol=0, atol=1e-12)


@every_rule
def test_a_run_without_its_weights_is_the_same(name, campaign) -> None:  # type: ignore[no-untyped-def]
    with_weights, without = make_aggregator(name, N), make_aggregator(name, N)
    run = run_online(without, *campaign, keep_weights=False)
    np.testing.assert_array_equal(run.soft_labels, run_online(with_weights, *campaign).soft_labels)
    np.testing.assert_array_equal(without.weights_, with_weights.weights_)
    if name in LEARNING:
        assert run.weights.shape == (0, N)


@every_rule
def test_keys_are_taken_and_change_nothing_where_no_label_is_drawn(name, campaign) -> None:  # type: ignore[no-untyped-def]
    keyed, plain, keys = make_aggregator(name, N), make_aggregator(name, N), range(200)
    np.testing.assert_equal(run_online(keyed, *campaign, keys).soft_labels, run_online(plain, *campaign).soft_labels)
    np.testing.assert_array_equal(final_labels(keyed, *campaign, keys), final_labels(plain, *campaign))
    assert keyed.predict_one(campaign[0][0], keys[0]) == plain.predict_one(campaign[0][0])


@every_online_rule
def test_a_bad_campaign_changes_nothing(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator, untouched = trained(name, campaign), trained(name, campaign)
    reports, outcomes = campaign[0].copy(), campaign[1]
    reports[150, 1] = 1.5
    with pytest.raises(ValueError, match=r"round 150, labeler 1 reports 1\.5"):
        run_online(aggregator, reports, outcomes)
    np.testing.assert_array_equal(aggregator.weights_, untouched.weights_)
    np.testing.assert_array_equal(
        run_online(aggregator, *campaign).soft_labels, run_online(untouched, *campaign).soft_labels
    )


@every_online_rule
def test_two_halves_equal_the_whole(name, campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = campaign
    whole, halves = make_aggregator(name, N), make_aggregator(name, N)
    run = run_online(whole, reports, outcomes)
    parts = [run_online(halves, reports[rows], outcomes[rows]) for rows in (slice(0, 137), slice(137, None))]
    np.testing.assert_array_equal(run.soft_labels, np.concatenate([part.soft_labels for part in parts]))
    np.testing.assert_array_equal(run.weights, np.concatenate([part.weights for part in parts]))
    np.testing.assert_array_equal(whole.weights_, halves.weights_)


@every_rule
def test_predicting_changes_nothing(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = trained(name, campaign)
    before = pickle.dumps(aggregator)
    row = np.array([0.1, 0.9, np.nan, 0.4, 0.5, 1.0])
    kept = row.copy()
    first, second = aggregator.predict_one(row), aggregator.predict_one(row)
    final_labels(aggregator, *campaign)
    assert first == second
    np.testing.assert_array_equal(row, kept)
    assert pickle.dumps(aggregator) == before


@every_rule
def test_no_reference_to_the_input_is_kept(name, campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = (array.copy() for array in campaign)
    aggregator = make_aggregator(name, N)
    row = reports[0].copy()
    aggregator.learn_one(row, 1.0)
    run = run_online(aggregator, reports, outcomes)
    np.testing.assert_array_equal(reports, campaign[0])
    np.testing.assert_array_equal(outcomes, campaign[1])
    weights, labels, state = aggregator.weights_.copy(), run.soft_labels.copy(), run.weights.copy()
    for array in (row, reports, outcomes):
        array[:] = 0.0
    np.testing.assert_array_equal(aggregator.weights_, weights)
    np.testing.assert_array_equal(run.soft_labels, labels)
    aggregator.learn_one(np.linspace(0, 1, N), 1.0)
    np.testing.assert_array_equal(run.weights, state)


@every_rule
def test_copies_and_pickles_go_on_alike(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = trained(name, campaign)
    others = [copy.deepcopy(aggregator), pickle.loads(pickle.dumps(aggregator))]
    if name in NEEDED:  # a secret is not saved
        others[1].set_secret(NEEDED[name]["secret"])
    expected = run_online(aggregator, *campaign).soft_labels
    for other in others:
        np.testing.assert_array_equal(run_online(other, *campaign).soft_labels, expected)


@every_rule
def test_global_generators_are_left_alone(name, campaign) -> None:  # type: ignore[no-untyped-def]
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    first = run_online(make_aggregator(name, N), *campaign).soft_labels
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002
    np.random.seed(8)  # noqa: NPY002
    np.testing.assert_array_equal(run_online(make_aggregator(name, N), *campaign).soft_labels, first)


@every_online_rule
def test_unrevealed_outcomes_change_nothing(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = trained(name, campaign)
    before = pickle.dumps(aggregator)
    aggregator.learn_one(campaign[0][10], float("nan"))
    run_online(aggregator, campaign[0], np.full(200, np.nan))
    np.testing.assert_array_equal(aggregator.weights_, pickle.loads(before).weights_)


@every_rule
def test_all_outcomes_unrevealed(name, campaign) -> None:  # type: ignore[no-untyped-def]
    run = run_online(make_aggregator(name, N), campaign[0], np.full(200, np.nan))
    assert np.isfinite(run.soft_labels).all()
    assert (run.weights == run.weights[0]).all()


@every_rule
def test_a_round_without_anybody_is_one_half(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = trained(name, campaign)
    nobody = np.full((1, N), np.nan)
    weights = aggregator.weights_.copy()
    aggregator.learn_one(nobody[0], 1.0)
    assert aggregator.predict_one(nobody[0]) == 0.5
    np.testing.assert_array_equal(aggregator.weights_, weights)
    assert run_online(make_aggregator(name, N), nobody, [1.0]).soft_labels.tolist() == [0.5]
    assert final_labels(aggregator, nobody, [np.nan]).tolist() == [0.5]


@every_rule
def test_an_empty_campaign(name: str) -> None:
    aggregator = make_aggregator(name, N)
    run = run_online(aggregator, np.empty((0, N)), np.empty(0))
    assert run.soft_labels.shape == (0,)
    assert run.weights.shape == (0, N)
    assert final_labels(aggregator, np.empty((0, N)), np.empty(0)).shape == (0,)
    np.testing.assert_array_equal(aggregator.weights_, np.full(N, 1 / N))


@every_rule
def test_a_single_labeler(name: str) -> None:
    aggregator = make_aggregator(name, 1)
    run = run_online(aggregator, [[0.8], [np.nan], [0.2]], [1, 1, np.nan])
    assert aggregator.weights_.tolist() == [1.0]
    assert run.soft_labels[0] > 0.5 > run.soft_labels[2]
    assert run.soft_labels[1] == 0.5


@pytest.mark.parametrize("name", sorted(set(AGGREGATORS) - HARD_VOTES - ADDED_LOG_ODDS))
def test_unanimous_reports_come_back(name, campaign) -> None:  # type: ignore[no-untyped-def]
    aggregator = trained(name, campaign)
    for report in (0.0, 0.3, 1.0):
        assert aggregator.predict_one(np.full(N, report)) == pytest.approx(report, abs=1e-12)


@every_online_rule
def test_swapping_a_and_b_turns_labels_round(name, campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = campaign
    run = run_online(make_aggregator(name, N), reports, outcomes)
    turned = run_online(make_aggregator(name, N), 1.0 - reports, 1.0 - outcomes)
    np.testing.assert_allclose(turned.soft_labels, 1.0 - run.soft_labels, atol=1e-12)
    np.testing.assert_allclose(turned.weights, run.weights, atol=1e-12)


@pytest.mark.parametrize("name", sorted(BATCH))
def test_swapping_a_and_b_turns_fitted_labels_round(name: str) -> None:
    """MACE starts from random habits per label, so its fit of the turned votes is another one, close by."""
    rng = np.random.default_rng(2)
    outcomes = (rng.random(200) < 0.5).astype(np.float64)
    reports = np.where(rng.random((200, N)) < 0.85, outcomes[:, None], 1.0 - outcomes[:, None])
    labels = run_online(make_aggregator(name, N), reports, outcomes).soft_labels
    turned = run_online(make_aggregator(name, N), 1.0 - reports, 1.0 - outcomes).soft_labels
    assert np.abs(turned - (1.0 - labels)).mean() < 0.02
    assert np.abs(labels - outcomes).mean() < 0.1  # and the labels say something


@every_symmetric_rule
def test_relabelling_permutes_the_weights(name, campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = campaign
    order = np.array([4, 0, 5, 2, 1, 3])
    run = run_online(make_aggregator(name, N), reports, outcomes)
    permuted = run_online(make_aggregator(name, N), reports[:, order], outcomes)
    np.testing.assert_allclose(permuted.soft_labels, run.soft_labels, atol=1e-12)
    np.testing.assert_allclose(permuted.weights, run.weights[:, order], atol=1e-12)


@pytest.mark.parametrize("name", ["online_weighted", "linear_weighted", "hedge"])
def test_an_absent_labeler_keeps_its_weight(name, campaign) -> None:  # type: ignore[no-untyped-def]
    """Exactly, unless the weights are divided by their sum in that round (every 1024 updates)."""
    reports, outcomes = campaign
    weights = run_online(make_aggregator(name, N), reports, outcomes).weights
    away = np.isnan(reports[:-1])
    np.testing.assert_array_equal(weights[1:][away], weights[:-1][away])
    assert (weights[1:][~away] != weights[:-1][~away]).mean() > 0.4  # the others do move


@pytest.mark.parametrize("name", LEARNING[:3])
def test_learning_rules_find_the_good_labeler(name, campaign) -> None:  # type: ignore[no-untyped-def]
    weights = trained(name, campaign).weights_
    assert weights.argmax() == 2
    assert weights[2] > 0.9


@every_rule
def test_final_labels_of_audited_pairs_are_their_outcomes(name, campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = campaign
    aggregator = trained(name, campaign)
    labels = final_labels(aggregator, reports, outcomes)
    audited = ~np.isnan(outcomes)
    np.testing.assert_array_equal(labels[audited], outcomes[audited])
    unaudited = [aggregator.predict_one(row) for row in reports[~audited]]
    np.testing.assert_allclose(labels[~audited], unaudited, rtol=0, atol=1e-12)


@every_rule
@pytest.mark.parametrize("bad", [-0.1, 1.1, np.inf, -np.inf])
def test_bad_reports_are_named(name: str, bad: float) -> None:
    reports = np.full((3, N), 0.5)
    reports[2, 4] = bad
    aggregator = make_aggregator(name, N)
    with pytest.raises(ValueError, match=r"round 2, labeler 4 reports"):
        run_online(aggregator, reports, np.ones(3))
    with pytest.raises(ValueError, match=r"labeler 4 reports"):
        aggregator.predict_one(reports[2])
    with pytest.raises(ValueError, match=r"labeler 4 reports"):
        aggregator.learn_one(reports[2], 1.0)
    np.testing.assert_array_equal(aggregator.weights_, np.full(N, 1 / N))


@every_rule
@pytest.mark.parametrize(
    ("reports", "outcomes", "message"),
    [
        (np.full(N, 0.5), [1.0], "shape"),
        (np.full((2, N + 1), 0.5), [1.0, 0.0], "7 columns"),
        (np.full((2, N), 0.5), [1.0], r"shape \(2,\)"),
        (np.full((2, N), 0.5), [1.0, 0.5], "round 1 has 0.5"),
        (np.full((2, N), 0.5), [np.inf, 0.0], "round 0 has inf"),
    ],
)
def test_bad_campaigns_are_refused(name: str, reports: FloatArray, outcomes: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_online(make_aggregator(name, N), reports, outcomes)


@every_rule
def test_bad_rounds_are_refused(name: str) -> None:
    aggregator = make_aggregator(name, N)
    with pytest.raises(ValueError, match="shape"):
        aggregator.predict_one(np.full(N + 1, 0.5))
    with pytest.raises(ValueError, match="outcome"):
        aggregator.learn_one(np.full(N, 0.5), 0.5)


@every_rule
@pytest.mark.parametrize("n_labelers", [0, -1])
def test_a_panel_needs_a_labeler(name: str, n_labelers: int) -> None:
    with pytest.raises(ValueError, match="at least one labeler"):
        make_aggregator(name, n_labelers)


@every_rule
@pytest.mark.parametrize("n_labelers", [True, 2.5, "3"])
def test_labelers_are_counted_in_whole_numbers(name: str, n_labelers: Any) -> None:
    with pytest.raises(TypeError, match="n_labelers must be a whole number"):
        make_aggregator(name, n_labelers)


def test_unknown_names_get_the_nearest_valid_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'median'"):
        make_aggregator("medain", 2)
    with pytest.raises(ValueError, match="did you mean 'fixed_share'"):
        make_aggregator("online_weighted", 2, fixed_shares=0.1)
    with pytest.raises(ValueError, match=r"did you mean 'trim'.* valid: trim$"):
        make_aggregator("trimmed_mean", 2, trimm=0.1)
    with pytest.raises(TypeError, match="valid: none"):
        make_aggregator("mean", 2, eta=0.1)


@pytest.mark.parametrize("name", LEARNING[:3])
@pytest.mark.parametrize("eta", [0.0, -0.1, float("nan"), "fast", None])
def test_impossible_step_sizes_are_refused(name: str, eta: Any) -> None:
    with pytest.raises(ValueError, match="eta"):
        make_aggregator(name, 2, eta=eta)


class Coin:
    """A rule of somebody else: two methods and weights, no array path."""

    def __init__(self) -> None:
        self.weights_ = np.full(N, 1 / N)
        self.seen = 0

    def predict_one(self, reports: FloatArray) -> float:
        return 1.0 / (1 + self.seen)

    def learn_one(self, reports: FloatArray, outcome: float) -> None:
        self.seen += 1


def test_two_methods_are_enough(campaign) -> None:  # type: ignore[no-untyped-def]
    reports, outcomes = campaign
    coin = Coin()
    run = run_online(coin, reports[:3], outcomes[:3])
    assert run.soft_labels.tolist() == [1.0, 1 / 2, 1 / 3]
    assert run.weights.tolist() == [[1 / N] * N] * 3
    assert run_online(coin, reports[:3], outcomes[:3], keep_weights=False).weights.shape == (0, N)
    assert final_labels(coin, reports[:2], [np.nan, 0.0]).tolist() == [1 / 7, 0.0]
