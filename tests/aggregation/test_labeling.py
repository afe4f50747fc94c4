"""One road from reports to labels: every kind by hand, in pieces, by topic, with late outcomes, and secret labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truthful_rlhf.aggregation import (
    AGGREGATORS,
    OnlineWeighted,
    final_labels,
    label_campaign,
    make_aggregator,
    recalibrate,
    run_online,
)
from truthful_rlhf.aggregation import mechanism as mechanism_module
from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.labeling import Piece
from truthful_rlhf.aggregation.rules import draws_from_a_secret, fits_all_at_once, learns_online
from truthful_rlhf.aggregation.statistics import accuracy

NAN = float("nan")
ONLINE = sorted(name for name in AGGREGATORS if not fits_all_at_once(name))


def campaign(seed: int = 0, n_pairs: int = 120) -> tuple[FloatArray, FloatArray]:
    """Five labelers of different quality, a third absent, a third of the outcomes revealed."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(n_pairs) < 0.5).astype(np.float64)
    right = rng.random((n_pairs, 5)) < [0.9, 0.8, 0.7, 0.6, 0.5]
    reports = np.where(right, 0.8, 0.2) * (2 * truth[:, None] - 1) + (1 - truth[:, None])
    reports[rng.random(reports.shape) < 0.3] = NAN
    return np.clip(reports, 0, 1), np.where(rng.random(n_pairs) < 0.35, truth, NAN)


class Table:
    """Reports that are read in pieces."""

    def __init__(self, reports: FloatArray) -> None:
        self.reports, (self.n_pairs, self.n_labelers) = reports, reports.shape
        self.largest = 0

    def matrix(self, rounds: IntArray) -> FloatArray:
        self.largest = max(self.largest, len(rounds))
        return self.reports[rounds]


# --- the kinds, by hand -------------------------------------------------------------------------------------------


def test_every_kind_by_hand() -> None:
    """s = (.99, .19), mean .59, weights .5 (1 +- .5 * .4) = (.6, .4); label .6 * .9 + .4 * .1 = .58."""
    reports, outcomes = np.tile([0.9, 0.1], (3, 1)), np.array([1.0, NAN, NAN])

    def labeled(kind: Any, **more: Any) -> Any:
        return label_campaign(reports, outcomes, "online_weighted", kind, eta=0.5, **more)

    online = labeled("online")
    np.testing.assert_allclose(online.soft_labels, [0.5, 0.58, 0.58])
    np.testing.assert_allclose(online.weights, [[0.5, 0.5], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]])
    np.testing.assert_allclose(labeled("final").soft_labels, [1.0, 0.58, 0.58])
    np.testing.assert_allclose(labeled("final").stated, online.soft_labels)
    np.testing.assert_allclose(labeled("reweighted").soft_labels, [0.58] * 3)
    recalibrated = recalibrate(
        [0.58] * 3, outcomes, held_out=[0.5, NAN, NAN]
    )  # without its outcome the weights are 1/2
    np.testing.assert_allclose(labeled("recalibrated").soft_labels, recalibrated)
    np.testing.assert_allclose(labeled("final", topics=["x", "y", "x"]).soft_labels, [1.0, 0.5, 0.58])
    np.testing.assert_allclose(
        labeled("final", topics=["x", "y", "x"]).last_weights, [(2 * 0.6 + 0.5) / 3, (2 * 0.4 + 0.5) / 3]
    )


def test_a_pair_that_nobody_judged_has_no_label() -> None:
    reports, outcomes = np.array([[0.9, 0.1], [NAN, NAN], [NAN, NAN]]), [NAN, 1.0, NAN]
    for kind in ("online", "final", "reweighted", "recalibrated", "stacked"):
        labeled = label_campaign(reports, outcomes, kind=kind)  # type: ignore[arg-type]
        assert np.isnan(labeled.soft_labels).tolist() == [False, True, True]
        assert labeled.stated.tolist() == [0.5] * 3


@pytest.mark.parametrize("rule", sorted(set(AGGREGATORS) - {"examined"}))
def test_it_equals_the_rule_itself(rule: str) -> None:
    reports, outcomes = campaign()
    aggregator = make_aggregator(rule, 5)
    run = run_online(aggregator, reports, outcomes)
    labeled = label_campaign(reports, outcomes, rule)
    np.testing.assert_allclose(labeled.stated, run.soft_labels, rtol=0, atol=1e-12)
    assert labeled.weights is not None
    np.testing.assert_allclose(labeled.weights[:-1], run.weights, rtol=0, atol=1e-12)
    final = final_labels(aggregator, reports, outcomes)
    if fits_all_at_once(rule):  # the posteriors of the fit, not those of its labelers on pairs of mean difficulty
        final = np.where(np.isnan(outcomes), run.soft_labels, outcomes)
    judged = ~np.isnan(reports).all(axis=1)
    np.testing.assert_allclose(labeled.soft_labels[judged], final[judged], rtol=0, atol=1e-12)


# --- in pieces, by topic ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [*ONLINE, "dawid_skene"])
def test_pieces_equal_one_matrix(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reports, outcomes = campaign()
    topics = ["x" if t % 3 else "y" for t in range(len(reports))]
    secret = {"secret": b"the owner's"} if draws_from_a_secret(rule, {}) else {}  # by default the whole input is read
    whole = label_campaign(reports, outcomes, rule, topics=topics, **secret)
    monkeypatch.setattr(mechanism_module, "_PIECE_BYTES", 8 * 5 * 17)  # pieces of 17 rounds
    seen: list[Piece] = []
    table = Table(reports)
    parts = label_campaign(table, outcomes, rule, topics=topics, watch=seen.append, **secret)
    np.testing.assert_allclose(parts.soft_labels, whole.soft_labels, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=0, atol=1e-12)  # type: ignore[arg-type]
    assert sorted(np.concatenate([piece.rounds for piece in seen])) == list(range(len(reports)))
    assert (table.largest <= 80) if fits_all_at_once(rule) else (table.largest <= 17)
    assert whole.weights is not None
    for piece in seen:
        np.testing.assert_allclose(piece.weights, whole.weights[piece.rounds], rtol=0, atol=1e-12)


def test_topics_keep_a_topic_liar_out_where_it_lies() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(2000) < 0.5).astype(np.float64)
    topics = np.where(rng.random(2000) < 0.1, "politics", "code")
    noisy = np.where(rng.random((2000, 3)) < 0.7, truth[:, None], 1.0 - truth[:, None])
    liar = np.where(topics == "politics", 1.0 - truth, truth)
    reports = np.column_stack([liar, noisy])
    split = label_campaign(reports, truth, kind="online", topics=topics.tolist())
    joint = label_campaign(reports, truth, kind="online")
    on_politics = topics == "politics"
    assert split.weights is not None
    assert split.weights[np.flatnonzero(topics == "code")[-1], 0] > 0.9
    assert split.weights[np.flatnonzero(on_politics)[-1], 0] < 0.01
    assert accuracy(joint.stated[on_politics], truth[on_politics]) < 0.4  # negative control: one global weight
    assert accuracy(split.stated[on_politics], truth[on_politics]) > 0.6
    for topic in ("politics", "code"):  # each is the rule alone on its own rounds
        own = topics == topic
        np.testing.assert_array_equal(
            split.stated[own], run_online(OnlineWeighted(4), reports[own], truth[own]).soft_labels
        )


# --- outcomes that come later -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_late_outcomes_are_learnt_from_when_they_arrive_and_not_before(seed: int) -> None:
    reports, outcomes = campaign(seed, 40)
    rng = np.random.default_rng(seed)
    after = np.arange(1, 41) + rng.integers(0, 12, 40) * (rng.random(40) < 0.6)
    rule, stated = OnlineWeighted(5), []
    for t in range(41):  # the loop that a live campaign would run
        for s in np.lexsort((np.arange(40), after > np.arange(1, 41), after)):  # of those at once, the prompt one first
            if after[s] == t and not np.isnan(outcomes[s]):
                rule.learn_one(reports[s], outcomes[s])
        if t < 40:
            stated.append(rule.predict_one(reports[t]))
    labeled = label_campaign(reports, outcomes, outcome_after=after)
    np.testing.assert_allclose(labeled.stated, stated, rtol=0, atol=1e-12)
    np.testing.assert_allclose(labeled.last_weights, rule.weights_, rtol=0, atol=1e-12)
    never = after > 40
    assert labeled.soft_labels[never & ~np.isnan(reports).all(axis=1)] == pytest.approx(
        rule.predict_many(reports[never & ~np.isnan(reports).all(axis=1)])
    )


def test_an_outcome_cannot_arrive_before_its_pair_was_stated() -> None:
    reports, outcomes = campaign(0, 10)
    outcomes[3] = 1.0
    with pytest.raises(ValueError, match="the outcome of round 3 cannot arrive before 4 rounds were stated"):
        label_campaign(reports, outcomes, outcome_after=[*range(1, 4), 3, *range(5, 11)])
    with pytest.raises(ValueError, match="10 whole numbers"):
        label_campaign(reports, outcomes, outcome_after=[1.5] * 10)


# --- labels of audited pairs have not seen their outcome -------------------------------------------------------------


@pytest.mark.parametrize("rule", ["online_weighted", "logistic", "gold_vote", "dawid_skene", "mean"])
@pytest.mark.parametrize("kind", ["online", "recalibrated", "stacked"])
def test_coin_votes_teach_nothing(rule: str, kind: Any) -> None:
    """What is stated of audited pairs is right half of the time; a control that has seen them is always right."""
    if kind == "stacked" and rule != "online_weighted":
        with pytest.raises(ValueError, match="stacked labels are a step from the weights of online_weighted"):
            label_campaign([[0.5]], [1.0], rule, kind)
        return
    rng = np.random.default_rng(0)
    reports, outcomes = (rng.random((400, 6)) < 0.5).astype(float), (rng.random(400) < 0.5).astype(float)
    labeled = label_campaign(reports, outcomes, rule, kind)
    assert abs(accuracy(labeled.stated, outcomes) - 0.5) < 3 * 0.5 / np.sqrt(400)
    if kind == "stacked":
        assert accuracy(labeled.soft_labels, outcomes) == 1.0  # the control: final labels are the outcomes


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["quantile", "drawn"])
def test_the_default_secret_is_the_input(label: str) -> None:
    reports, outcomes = campaign()
    ids = [f"pair-{t}" for t in range(len(reports))]
    first = label_campaign(reports, outcomes, kind="online", pair_ids=ids, label=label)
    again = label_campaign(Table(reports), outcomes, kind="online", pair_ids=ids, label=label)
    assert first.stated.tobytes() == again.stated.tobytes()
    changed = reports.copy()
    changed[-1] = 1.0 - changed[-1]
    other = label_campaign(changed, outcomes, kind="online", pair_ids=ids, label=label)
    assert not np.array_equal(first.stated[:-1], other.stated[:-1])  # nobody could tell beforehand
    fixed = [
        label_campaign(r, outcomes, kind="online", pair_ids=ids, label=label, secret=b"the owner's").stated[:-1]
        for r in (reports, changed)
    ]
    np.testing.assert_array_equal(*fixed)
    np.testing.assert_array_equal(first.weights, label_campaign(reports, outcomes).weights)  # type: ignore[arg-type]


def test_traits_of_rules() -> None:
    assert {name for name in AGGREGATORS if fits_all_at_once(name)} == {"dawid_skene", "glad", "mace"}
    assert {name for name in AGGREGATORS if not learns_online(name)} >= {"mean", "median", "majority", "dawid_skene"}
    assert draws_from_a_secret("online_weighted", {"label": "quantile"})
    assert not draws_from_a_secret("online_weighted", {"label": "median"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "finl"}, "did you mean 'final'"),
        ({"rule": "meen"}, "did you mean 'mean'"),
        ({"etta": 1}, "did you mean 'eta'"),
        ({"topics": ["x"]}, "2 pairs, 1 topics"),
        ({"pair_ids": ["x"]}, "2 pairs, 1 ids"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_campaign([[0.5, 0.5]] * 2, [NAN, NAN], **arguments)


def test_a_rule_that_fits_all_at_once_refuses_what_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanism_module, "_MAX_AT_ONCE_BYTES", 8 * 5 * 119)
    reports, outcomes = campaign()
    with pytest.raises(ValueError, match="GladRule reads all reports at once: 120 pairs x 5 labelers"):
        label_campaign(reports, outcomes, "glad")
    label_campaign(reports, outcomes, "online_weighted")
