"""Arrays, options, data sets and judge replies that the Python API has to refuse, or to survive, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from tests.hostile.tables import good_rows
from tests.rules import make_aggregator
from truthful_rlhf.aggregation import (
    AGGREGATORS,
    best_labeler,
    final_labels,
    label_campaign,
    regret,
    run_online,
)
from truthful_rlhf.aggregation.game.campaigns import Objective, draw_nature
from truthful_rlhf.aggregation.game.recorded_gains import gains_on_recorded
from truthful_rlhf.aggregation.statistics import (
    accuracy,
    brier,
    krippendorff_alpha,
    log_log_slope,
    log_loss,
    mean_by_group,
    mean_squared_error,
    payouts,
    reliability,
)
from truthful_rlhf.labelers.judges.replies import letter_probability, parse_letter, parse_verdict, plain_reply
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.pipeline.aggregate import aggregate_table
from truthful_rlhf.reward_model.calibration import calibrate
from truthful_rlhf.reward_model.losses import make_term
from truthful_rlhf.reward_model.soft_labels import SoftLabelCollator, check_soft_labels, split_soft_labels

NAN, INF = float("nan"), float("inf")
REPORTS = [[0.9, 0.2], [0.8, NAN], [0.1, 0.4]]
OUTCOMES = [1, NAN, 0]

# What is no campaign for two labelers: (reports, outcomes, text of the message)
CAMPAIGNS: list[tuple[Any, Any, str]] = [
    ([0.5, 0.5], [1, 0], "reports must have shape (rounds, labelers), got shape (2,)"),
    (0.5, [1], "reports must have shape (rounds, labelers), got shape ()"),
    ([[[0.5, 0.5]]], [1], "reports must have shape (rounds, labelers), got shape (1, 1, 2)"),
    ([[0.5, 0.5, 0.5]], [1], "made for 2 labelers, the reports have 3 columns"),
    ([[0.5]], [1], "made for 2 labelers, the reports have 1 columns"),
    (np.empty((3, 0)), [1, 0, 1], "the reports have no columns"),
    ([[0.5, 0.5], [0.5]], [1, 0], "inhomogeneous"),
    ([[0.5, 1.0001]], [1], "round 0, labeler 1 reports 1.0001"),
    ([[0.5, 0.5], [-1e-300, 0.5]], [1, 0], "round 1, labeler 0 reports -1e-300"),
    ([[INF, 0.5]], [1], "round 0, labeler 0 reports inf"),
    ([[0.5, -INF]], [1], "round 0, labeler 1 reports -inf"),
    ([["half", 0.5]], [1], "could not convert string to float"),
    ([[None, "x"]], [1], "could not convert string to float"),
    (REPORTS, [1, 0], "outcomes must have shape (3,)"),
    (REPORTS, [[1], [0], [1]], "outcomes must have shape (3,)"),
    (REPORTS, 1, "outcomes must have shape (3,)"),
    (REPORTS, [1, 0, 0.5], "outcomes must be 0, 1 or NaN: round 2 has 0.5"),
    (REPORTS, [1, -1, 0], "round 1 has -1.0"),
    (REPORTS, [INF, 1, 0], "round 0 has inf"),
    (REPORTS, ["A", "B", "A"], "could not convert string to float"),
]


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize(("reports", "outcomes", "text"), CAMPAIGNS)
def test_no_rule_takes_a_bad_campaign(name: str, reports: Any, outcomes: Any, text: str) -> None:
    for call in (run_online, final_labels):
        aggregator = make_aggregator(name, 2)
        before = aggregator.weights_.copy()
        with pytest.raises(ValueError, match=re.escape(text)):
            call(aggregator, reports, outcomes)
        np.testing.assert_array_equal(aggregator.weights_, before)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_no_rule_takes_a_bad_round_or_option(name: str) -> None:
    aggregator = make_aggregator(name, 2)
    for reports in ([0.5], [0.5, 2.0], [[0.5, 0.5]], [0.5, INF], 0.5, ["x", 0.5], []):
        for call in (aggregator.predict_one, lambda row: aggregator.learn_one(row, 1.0)):
            with pytest.raises(ValueError, match=r"report|string|shape"):
                call(reports)  # type: ignore[arg-type]
    for outcome in (0.5, 2, -1, INF, "A"):
        with pytest.raises(ValueError, match=r"outcome|string"):
            aggregator.learn_one(np.array([0.5, 0.5]), outcome)  # type: ignore[arg-type]
    for n_labelers in (0, -1, 1.5, "2", None, True, NAN):
        with pytest.raises((ValueError, TypeError), match=r"n_labelers|labeler"):
            make_aggregator(name, n_labelers)  # type: ignore[arg-type]
    for option in inspect.signature(AGGREGATORS[name]).parameters.keys() - {"n_labelers"}:
        for value in ("x", [], {}, NAN, INF, -1, object()):
            with pytest.raises(ValueError, match=option):
                make_aggregator(name, 2, **{option: value})
        with pytest.raises(ValueError, match=f"unknown option of rule '{name}': '{option}x'"):
            make_aggregator(name, 2, **{option + "x": 1})


LABELS = [0.5, 0.5, 0.5]
RNG = np.random.default_rng(0)

CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "rule": (lambda: make_aggregator("onlin_weighted", 2), "did you mean 'online_weighted'"),
    "rule with a path": (lambda: make_aggregator("../mean", 2), "unknown rule '../mean'"),
    "regret: labels": (lambda: regret([2.0, 0.5, 0.5], REPORTS, OUTCOMES), "soft label"),
    "regret: shape": (lambda: regret([0.5], REPORTS, OUTCOMES), "soft_labels must have shape (3,)"),
    "regret: nan": (lambda: regret([NAN] * 3, REPORTS, OUTCOMES), "soft label"),
    "regret: reports": (lambda: regret(LABELS, [[2.0, 0]] * 3, OUTCOMES), "reports must be in [0, 1]"),
    "regret: outcomes": (lambda: regret(LABELS, REPORTS, [1, 2, 0]), "outcomes must be 0, 1 or NaN: round 1"),
    "best labeler": (lambda: best_labeler(REPORTS, [1]), "outcomes must have shape (3,)"),
    "brier": (lambda: brier([0.5, 1.5], [1, 0]), "soft label"),
    "log loss": (lambda: log_loss([0.5], [1, 0]), "soft_labels must have shape (2,)"),
    "accuracy": (lambda: accuracy([0.5], [0.5]), "outcomes must be 0, 1 or NaN"),
    "accuracy of a matrix": (lambda: accuracy([[0.5]], [[1]]), "shape"),
    "bins": (lambda: reliability([0.5], [1], n_bins=0), "n_bins must be >= 1"),
    "squared error": (lambda: mean_squared_error([0.5], [-1.0]), "targets must be probabilities in [0, 1] or NaN"),
    "squared error of a matrix": (lambda: mean_squared_error([0.5], [[0.5]]), "targets must have shape (rounds,)"),
    "weights": (lambda: brier([0.5], [1], [INF]), "weights must be finite and >= 0: observation 0 has inf"),
    "groups": (lambda: mean_by_group([0.5], [-1], 3), "groups must be 0 to 2: observation 0 has -1"),
    "stakes": (lambda: payouts([[0.5]], [1], [INF]), "stakes must be finite and >= 0"),
    "alpha": (lambda: krippendorff_alpha([0.5, INF], [0, 0], 1, RNG), "reports must be finite: report 1 is not"),
    "slope: one horizon": (lambda: log_log_slope([10, 10], [[1, 2]], RNG), "two different horizons"),
    "slope: zero": (lambda: log_log_slope([0, 10], [[1, 2]], RNG), "horizons > 0"),
    "slope: negative regret": (lambda: log_log_slope([1, 10], [[1, -2]], RNG), "mean regrets must be > 0"),
    "slope: shape": (lambda: log_log_slope([1, 10], [[1]], RNG), "one column per horizon"),
    "topics": (lambda: label_campaign(REPORTS, OUTCOMES, topics=["a"]), "one entry per pair"),
    "step size of hedge": (lambda: make_aggregator("hedge", 2, eta=10**400), "eta must be a finite number > 0"),
    "objective": (lambda: Objective("tase"), "did you mean 'taste'"),
    "discount": (lambda: Objective("taste", NAN), "discount must be in [0, 1]"),
    "nature": (lambda: draw_nature(0, RNG), "at least one pair"),
    "audit rate": (lambda: draw_nature(1, RNG, audit_rate=NAN), "audit_rate must be in [0, 1]"),
    "spread": (lambda: draw_nature(1, RNG, spread=INF), "spread must be >= 0 and finite"),
    "recorded gains": (
        lambda: gains_on_recorded(REPORTS, OUTCOMES, AGGREGATORS["mean"], Objective("taste"), rng=RNG, labelers=[2]),
        "labeler 2 does not exist",
    ),
    "pairs": (lambda: Pairs(["p"], ["?"], ["x"], []), "column 'response_b' has 0 entries"),
    "calibrate: shapes": (lambda: calibrate(np.array([0.5]), np.array([0.5, 0.5])), "vectors of one length"),
    "calibrate: nothing": (lambda: calibrate(np.array([]), np.array([])), "vectors of one length >= 1"),
    "calibrate: range": (lambda: calibrate(np.array([NAN]), np.array([0.5])), "predicted must be probabilities"),
    "loss": (lambda: make_term("soft_bec"), "did you mean 'soft_bce'"),
    # tables and data sets
    "table of no dicts": (lambda: aggregate_table([1, 2]), "<table>: row 1: expected a dict, found int"),
    "a number": (lambda: aggregate_table(5), "<table>: expected a DataFrame, a data set or an iterable of dicts"),
    "None": (lambda: aggregate_table(None), "<table>: expected a DataFrame, a data set or an iterable of dicts"),
    "a dict": (lambda: aggregate_table({"report": [1]}), "row 1: expected a dict, found str"),
    "bytes": (lambda: aggregate_table(b"votes"), "row 1: expected a dict, found int"),
    "array": (lambda: aggregate_table(np.eye(2)), "row 1: expected a dict, found ndarray"),
    "empty frame": (lambda: aggregate_table(pd.DataFrame()), "there are no reports in it"),
    "frame with two columns of one name": (
        lambda: aggregate_table(
            pd.DataFrame([["p", "a", 0.1, 0.9]], columns=["pair_id", "labeler_id", *["report"] * 2])
        ),
        "two columns have the same name: 'report'",
    ),
    "frame with an array in a cell": (
        lambda: aggregate_table([good_rows()[0] | {"labeler_id": np.array(["a"])}]),
        "row 1: labeler_id: expected a text",
    ),
    "bytes as a name": (lambda: aggregate_table([good_rows()[0] | {"pair_id": b"p"}]), "pair_id: expected a text"),
    "rule of a table": (lambda: aggregate_table(good_rows(), rule="mena"), "did you mean 'mean'"),
    "rate of a table": (lambda: aggregate_table(good_rows(), audit_rate=NAN), "audit rate must be in (0, 1]"),
    "seed of a table": (lambda: aggregate_table(good_rows(), seed=-1), "seed must be >= 0, got -1"),
    "labels of a table": (
        lambda: aggregate_table(good_rows(), labels="fianl"),
        "labels 'fianl': valid are final, online, reweighted, recalibrated, stacked",
    ),  # type: ignore[arg-type]
    "duplicates of a table": (
        lambda: aggregate_table(good_rows(), duplicates="frist"),  # type: ignore[arg-type]
        "duplicates 'frist': valid are error, last and mean",
    ),
    "topics of a table": (lambda: aggregate_table(good_rows(), per_topic=True), "need a topic column"),
    "data set without labels": (
        lambda: check_soft_labels(Dataset.from_dict({"soft_labels": [0.5]}), "train"),
        "the train data set has no column 'soft_label'; rename 'soft_labels'?",
    ),
    "data set without columns": (lambda: check_soft_labels(Dataset.from_dict({}), "train"), "no column 'soft_label'"),
    **{
        f"soft label {value!r}": (
            lambda value=value: check_soft_labels(Dataset.from_dict({"soft_label": [0.5, value]}), "train"),  # type: ignore[misc]
            "train data set, row 1: soft_label must be a probability in [0, 1]",
        )
        for value in (1.5, -0.1, NAN, INF, None)
    },
    "soft labels as texts": (
        lambda: check_soft_labels(Dataset.from_dict({"soft_label": ["0.5"]}), "train"),
        "row 0: soft_label must be a probability in [0, 1], got '0.5'",
    ),
    "a batch without labels": (lambda: SoftLabelCollator(dict)([{"prompt": "x"}]), "without 'soft_label'"),
    "a dropped column": (lambda: split_soft_labels({"input_ids": 1}), "has dropped the column"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call(case: str) -> None:
    call, text = CALLS[case]
    with pytest.raises(ValueError, match=re.escape(text)):
        call()


# Columns of a Parquet file of reports: (columns, text of the message)
COLUMNS: list[tuple[dict[str, Any], str]] = [
    ({"ann": [0.5], "bob": [0.5]}, "no column 'outcome'"),
    ({"ann": [0.5], "outcome": [1.0]}, "made for 2 labelers, the reports have 1 columns"),
    ({"ann": [0.5], "bob": [1.5], "outcome": [1.0]}, "round 0, labeler 1 reports 1.5"),
    ({"ann": [0.5], "bob": [0.5], "outcome": [0.5]}, "round 0 has 0.5"),
    ({"ann": [0.5], "bob": ["x"], "outcome": [1.0]}, "column 'bob'"),
    ({"ann": [0.5], "bob": [[0.5]], "outcome": [1.0]}, "column 'bob'"),
    ({"ann": [0.5], "bob": [{"p": 0.5}], "outcome": [1.0]}, "column 'bob'"),
    ({"ann": [0.5], "bob": [0.5], "outcome": ["A"]}, "column 'outcome'"),
]


def reply(**choice: Any) -> SimpleNamespace:
    message = SimpleNamespace(content=choice.pop("content", None))
    return SimpleNamespace(choices=[SimpleNamespace(message=message, **choice)], usage=choice.pop("usage", None))


def top(*entries: tuple[Any, Any]) -> SimpleNamespace:
    named = [SimpleNamespace(token=token, logprob=logprob) for token, logprob in entries]
    return SimpleNamespace(content=[SimpleNamespace(top_logprobs=named, token="A", logprob=-1.0)])


USAGE = {"prompt_tokens": "many", "completion_tokens": [5]}
REPLIES: list[Any] = [
    *(None, "text", 5, {}, [], SimpleNamespace(), SimpleNamespace(choices=None), SimpleNamespace(choices=[])),
    *(SimpleNamespace(choices="abc"), SimpleNamespace(choices=[None]), SimpleNamespace(choices={"a": 1})),
    *(SimpleNamespace(choices=5), SimpleNamespace(choices=[], usage=SimpleNamespace(**USAGE))),
    SimpleNamespace(choices=[], usage=SimpleNamespace(prompt_tokens=-5, completion_tokens=NAN)),
    *(reply(content=text) for text in ("", "C", "Apple", "A" * 10**6, "</s><script>", ["A"], {"text": "A"}, 5)),
    *(reply(logprobs=value) for value in ([], "x", 5, {}, SimpleNamespace(content=None), SimpleNamespace(content=5))),
    reply(logprobs=SimpleNamespace(content=[None])),
    reply(logprobs=SimpleNamespace(content=[SimpleNamespace(top_logprobs=5)])),
    *(reply(logprobs=top(("A", value))) for value in (None, "x", NAN, INF, -INF, [1], 10**400, 1e6, 5.0)),
    *(reply(logprobs=top((token, -1.0))) for token in (None, 5, b"A", "", "\x00", ["A"])),
    reply(logprobs=top(("A", 800.0), ("B", 801.0))),
]


@pytest.mark.parametrize("number", range(len(REPLIES)))
def test_a_judge_may_reply_what_it_likes(number: int) -> None:
    """Whatever a server sends is read as a probability, or as no answer."""
    kept = plain_reply(REPLIES[number])
    assert isinstance(kept.text, str)
    assert kept.prompt_tokens >= 0
    assert kept.completion_tokens >= 0
    assert parse_letter(kept.text) in ("A", "B", None)
    for answer in (letter_probability(kept.logprobs), parse_verdict(kept.text)):
        assert np.isnan(answer.first) or 0.0 <= answer.first <= 1.0


def test_a_table_error_is_an_annotation_error() -> None:
    with pytest.raises(AnnotationError):
        aggregate_table(None)
