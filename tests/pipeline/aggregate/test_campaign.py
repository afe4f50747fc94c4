"""Aggregating a recorded campaign: sparse equals dense, the log is append-only, only what was asked for is revealed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.pipeline.aggregate.campaigns import annotations_of, rows_of, votes
from truthful_rlhf.aggregation import AGGREGATORS, label_campaign, mechanism
from truthful_rlhf.aggregation.rules import fits_all_at_once
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.accuracy import accuracy_table, measured_pairs
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, run_campaign
from truthful_rlhf.pipeline.config.rule import RuleSection


@pytest.fixture
def sparse() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    reports, outcomes = votes(120, [0.9, 0.6, 0.7, 0.8, 0.55], rng)
    reports[rng.random(reports.shape) < 0.4] = np.nan
    reports[:, 0] = np.where(np.isnan(reports).all(axis=1), 1.0, reports[:, 0])
    return reports, np.where(rng.random(120) < 0.5, outcomes, np.nan)


def columns(annotations: Any) -> list[int]:
    return [annotations.labeler_ids.index(f"l{i:02}") for i in range(annotations.n_labelers)]


@pytest.mark.parametrize("rule", ["online_weighted", "mean", "logistic", "dawid_skene"])
def test_it_equals_the_rule_on_the_dense_matrix(
    rule: str, sparse: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mechanism, "_PIECE_BYTES", 8 * 5 * 17)  # many pieces of 17 rounds
    reports, outcomes = sparse
    annotations = annotations_of(reports, outcomes)
    result = run_campaign(annotations, AggregationSettings(rule=rule))
    dense = reports[:, [int(name[1:]) for name in annotations.labeler_ids]]
    labeled = label_campaign(dense, outcomes, rule, pair_ids=annotations.pair_ids)
    np.testing.assert_allclose(result.stated, labeled.stated, atol=1e-12)
    np.testing.assert_allclose(result.history, labeled.weights, atol=1e-12)
    np.testing.assert_allclose(result.soft_labels, labeled.soft_labels, atol=1e-12)


def test_compare_and_aggregate_give_the_same_labels_of_every_kind(sparse: tuple[Any, Any]) -> None:
    reports, outcomes = sparse
    annotations = annotations_of(reports, outcomes)
    dense = reports[:, [int(name[1:]) for name in annotations.labeler_ids]]
    for name, kind in (("glad", "final"), ("glad", "reweighted"), ("online_weighted", "stacked"), ("mace", "online")):
        rule = RuleSection(name=name, labels=kind)  # type: ignore[arg-type]
        compared = rule.label(dense, outcomes, [""] * len(dense)).soft_labels
        result = run_campaign(annotations, AggregationSettings(rule=name, labels=kind))  # type: ignore[arg-type]
        np.testing.assert_array_equal(result.soft_labels, compared)


def test_every_option_reaches_its_rule(sparse: tuple[Any, Any]) -> None:
    annotations = annotations_of(*sparse)
    plain = run_campaign(annotations, AggregationSettings())
    for options in ({"initial_weights": [1, 1, 1, 1, 9]}, {"fixed_share": 0.2}, {"eta": 0.5}, {"label": "median"}):
        other = run_campaign(annotations, AggregationSettings(options=options))
        assert not np.array_equal(other.stated, plain.stated), options
    with pytest.raises(AnnotationError, match="did you mean 'trim'"):
        run_campaign(annotations, AggregationSettings(rule="trimmed_mean", options={"trims": 0.1}))


def test_the_log_is_append_only(sparse: tuple[Any, Any]) -> None:
    """Labels that were stated once stay when more pairs arrive: weights are a function of the log so far."""
    reports, outcomes = sparse
    rows = rows_of(reports, outcomes)
    k = next(n for n, row in enumerate(rows) if row["pair_id"] == "p0070")
    before = run_campaign(read_annotations(rows[:k]), AggregationSettings(labels="online"))
    after = run_campaign(read_annotations(rows), AggregationSettings(labels="online"))
    np.testing.assert_allclose(after.stated[:70], before.stated, atol=1e-12)


def test_the_seed_is_no_secret_of_a_rule(sparse: tuple[Any, Any]) -> None:
    """Lotteries are drawn from the whole input: another seed changes nothing, another report changes them."""
    annotations = annotations_of(*sparse)
    first, again = (run_campaign(annotations, AggregationSettings(rule="examined", seed=s)).history for s in (0, 1))
    np.testing.assert_array_equal(first, again)
    reports, outcomes = sparse[0].copy(), sparse[1]
    reports[-1, 0] = 1.0 - np.nan_to_num(reports[-1, 0])
    other = run_campaign(annotations_of(reports, outcomes), AggregationSettings(rule="examined")).history
    assert not np.array_equal(first[:-2], other[:-2])


def test_the_default_rule_needs_an_outcome(sparse: tuple[Any, Any]) -> None:
    reports, outcomes = sparse
    assert run_campaign(annotations_of(reports, outcomes), AggregationSettings()).rule.name == "online_weighted"
    assert run_campaign(annotations_of(reports), AggregationSettings()).rule.name == "mean"


def test_the_audit_rate_reveals_that_share_and_changes_with_the_seed(sparse: tuple[Any, Any]) -> None:
    annotations = annotations_of(*sparse)
    known = ~np.isnan(annotations.outcome)
    revealed = {
        seed: run_campaign(annotations, AggregationSettings(audit_rate=0.25, seed=seed)).revealed for seed in (0, 1)
    }
    for values in revealed.values():
        shown = ~np.isnan(values)
        assert shown.sum() == round(0.25 * known.sum())
        np.testing.assert_array_equal(values[shown], annotations.outcome[shown])
    assert (np.isnan(revealed[0]) != np.isnan(revealed[1])).any()


def test_final_labels_of_audited_pairs_are_their_outcomes(sparse: tuple[Any, Any]) -> None:
    result = run_campaign(annotations_of(*sparse), AggregationSettings(audit_rate=0.5))
    audited = ~np.isnan(result.revealed)
    np.testing.assert_array_equal(result.soft_labels[audited], result.revealed[audited])
    online = run_campaign(annotations_of(*sparse), AggregationSettings(audit_rate=0.5, labels="online"))
    np.testing.assert_array_equal(online.soft_labels, online.stated)
    assert (online.soft_labels[audited] != online.revealed[audited]).any()


@pytest.mark.parametrize("rule", ["online_weighted", "dawid_skene"])
def test_reweighted_labels_differ_from_final_ones_on_audited_pairs_only(sparse: tuple[Any, Any], rule: str) -> None:
    settings = AggregationSettings(rule=rule, audit_rate=0.5)
    final = run_campaign(annotations_of(*sparse), settings)
    reweighted = run_campaign(annotations_of(*sparse), replace(settings, labels="reweighted"))
    audited = ~np.isnan(final.revealed)
    np.testing.assert_array_equal(reweighted.soft_labels[~audited], final.soft_labels[~audited])
    assert (reweighted.soft_labels[audited] != final.revealed[audited]).mean() > 0.5
    np.testing.assert_array_equal(reweighted.weights, final.weights)
    recalibrated = run_campaign(annotations_of(*sparse), replace(settings, labels="recalibrated"))
    judged = ~np.isnan(reweighted.soft_labels)
    sides, changed = (np.sign(labels[judged] - 0.5) for labels in (reweighted.soft_labels, recalibrated.soft_labels))
    np.testing.assert_array_equal(changed, sides)  # one factor on the log-odds: surer or less sure, on the same side
    assert not np.array_equal(recalibrated.soft_labels[judged], reweighted.soft_labels[judged])
    np.testing.assert_array_equal(recalibrated.weights, final.weights)


def test_weights_per_topic_catch_a_labeler_who_lies_on_one_topic() -> None:
    rng = np.random.default_rng(4)
    reports, outcomes = votes(400, [0.97, 0.7, 0.7], rng)
    topics = ["politics" if t % 4 == 0 else "other" for t in range(400)]
    lies = np.array(topics) == "politics"
    reports[lies, 0] = 1.0 - reports[lies, 0]
    annotations = annotations_of(reports, outcomes, topics=topics)
    rate = 0.5
    split = run_campaign(annotations, AggregationSettings(audit_rate=rate, per_topic=True))
    joint = run_campaign(annotations, AggregationSettings(audit_rate=rate))
    rest = lies & np.isnan(split.revealed)

    def accuracy(labels: Any) -> float:
        return float(((labels[rest] > 0.5) == (outcomes[rest] > 0.5)).mean())

    assert accuracy(split.soft_labels) > accuracy(joint.soft_labels) + 0.1
    np.testing.assert_allclose(split.weights.sum(), 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AggregationSettings(rule="online_weigthed"), r"not known .did you mean 'online_weighted'\?.; valid: "),
        (AggregationSettings(audit_rate=0.0), r"audit rate must be in \(0, 1\]"),
        (AggregationSettings(audit_rate=1.5), r"audit rate must be in \(0, 1\]"),
        (
            AggregationSettings(audit_rate=1e-4),
            r"reveals none of the \d+ known outcomes; the smallest that reveals one is 0.0",
        ),
        (AggregationSettings(per_topic=True), "weights per topic need a topic column"),
        (AggregationSettings(options={"eta": 0.7}), r"eta must be .* in \(0, 0.5\]"),
        (AggregationSettings(rule="mean", options={"eta": 0.1}), r"option of rule 'mean': 'eta'"),
    ],
)
def test_wrong_settings_are_answered(settings: AggregationSettings, message: str, sparse: tuple[Any, Any]) -> None:
    with pytest.raises(AnnotationError, match=message):
        run_campaign(annotations_of(*sparse), settings)


def test_a_batch_rule_that_does_not_fit_says_how_much_it_needs(
    sparse: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mechanism, "_MAX_AT_ONCE_BYTES", 1000)
    for rule in filter(fits_all_at_once, AGGREGATORS):
        with pytest.raises(AnnotationError, match=r"120 pairs x 5 labelers need .* work in pieces"):
            run_campaign(annotations_of(*sparse), AggregationSettings(rule=rule))
    assert (
        run_campaign(annotations_of(*sparse), AggregationSettings(rule="online_weighted")).rule.name
        == "online_weighted"
    )


def test_a_pair_that_nobody_judged_gets_no_label() -> None:
    rows = rows_of(np.array([[0.9, 0.8]]))
    rows.append({**rows[0], "pair_id": "q", "report": None})
    result = run_campaign(read_annotations(rows), AggregationSettings())
    np.testing.assert_allclose(result.soft_labels, [0.85, np.nan])


@pytest.mark.parametrize("rule", ["mean", "dawid_skene", "online_weighted"])
def test_the_chosen_row_of_the_accuracy_table_is_what_is_exported(sparse: tuple[Any, Any], rule: str) -> None:
    result = run_campaign(
        annotations_of(*sparse), AggregationSettings(rule=rule, audit_rate=0.5, labels="recalibrated")
    )
    (chosen,) = [row for row in accuracy_table(result) if row.chosen]
    pairs = measured_pairs(result)
    exported, outcomes = result.soft_labels[pairs], result.annotations.outcome[pairs]
    assert chosen.name == f"{rule}, recalibrated"
    assert chosen.brier == pytest.approx(np.mean((exported - outcomes) ** 2))
