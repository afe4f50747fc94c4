"""A pair that was judged on several topics is one pair per topic, if the user names the topic's column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from truthful_rlhf import aggregate_table
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations


def row(pair: str, who: str, aspect: str | None, report: Any, **more: Any) -> dict[str, Any]:
    texts = {"prompt": "2+2?", "response_a": f"4 {pair}", "response_b": f"5 {pair}"}
    return {"pair_id": pair, "labeler_id": who, "aspect": aspect, "report": report, **texts, **more}


def turned(given: dict[str, Any]) -> dict[str, Any]:
    return given | {"response_a": given["response_b"], "response_b": given["response_a"]}


def reports(annotations: Annotations) -> dict[tuple[str, str], float]:
    pairs = [annotations.pair_ids[t] for t in annotations.round_of_report]
    names = [annotations.labeler_ids[k] for k in annotations.labeler]
    return dict(zip(zip(pairs, names, strict=True), annotations.report.tolist(), strict=True))


ASPECTS = [
    row("p", "ann", "overall", "A", outcome=1),
    row("p", "ann", "style", "B", outcome=0),
    turned(row("p", "bob", "style", "B", outcome=1)),  # shown the other way round: the same truth
    row("q", "ann", "style", "tie"),
]


def test_reports_outcomes_and_texts_stay_with_their_topic() -> None:
    annotations = read_annotations(ASPECTS, columns={"topic": "aspect"})
    assert reports(annotations) == {
        ("p:overall", "ann"): 1.0,
        ("p:style", "ann"): 0.0,
        ("p:style", "bob"): 1.0,
        ("q", "ann"): 0.5,  # one topic only: its name stays
    }
    assert annotations.topic == ["overall", "style", "style"]
    np.testing.assert_array_equal(annotations.outcome, [1.0, 0.0, np.nan])
    shown = annotations.texts.take(annotations.text_row).to_pylist()
    assert [(text["response_a"], text["response_b"]) for text in shown] == [("4 p", "5 p")] * 2 + [("4 q", "5 q")]


def test_the_first_report_of_a_topic_may_be_shown_the_other_way_round() -> None:
    rows = [row("p", "ann", "overall", "A"), turned(row("p", "ann", "style", "A"))]
    annotations = read_annotations(rows, columns={"topic": "aspect"})
    assert reports(annotations) == {("p:overall", "ann"): 1.0, ("p:style", "ann"): 0.0}
    assert annotations.swapped.tolist() == [False, True]
    assert annotations.texts.take(annotations.text_row).to_pylist()[1]["response_a"] == "4 p"


def test_the_reading_says_so_with_counts_and_an_example() -> None:
    reading = read_annotations(ASPECTS, columns={"topic": "aspect"}).reading
    assert reading.pairs == 3
    assert (
        "1 pair ids stand with several topics: each of them is one pair per topic, so there are 3 pairs "
        "(for example p:overall and p:style)"
    ) in reading.notes
    assert not any("several ids" in note for note in reading.notes)  # they are no pair that was uploaded twice
    plain = read_annotations(ASPECTS[:1], columns={"topic": "aspect"}).reading
    assert not any("topics" in note for note in plain.notes)


def test_large_tables_are_told_apart_as_well(tmp_path: Path) -> None:
    """Above a thousand rows plain tables are read by column, which has to leave such tables to the other road."""
    rows = [(f"p{k}", "ann", aspect, p) for k in range(800) for aspect, p in (("overall", 0.9), ("style", 0.2))]
    path = tmp_path / "large.csv"
    pd.DataFrame(rows, columns=["pair_id", "labeler_id", "aspect", "report"]).to_csv(path, index=False)
    annotations = read_annotations(path, columns={"topic": "aspect"})
    assert annotations.n_pairs == 1600
    assert annotations.report.tolist() == [0.9, 0.2] * 800
    assert annotations.pair_ids[:2] == ["p0:overall", "p0:style"]


def test_what_topics_do_not_settle_is_refused() -> None:
    columns = {"topic": "aspect"}
    with pytest.raises(AnnotationError, match=r"row 2: labeler 'ann' already judged pair 'p:overall' in row 1"):
        read_annotations([ASPECTS[0], row("p", "ann", "overall", "B"), ASPECTS[1]], columns=columns)
    with pytest.raises(AnnotationError, match=r"row 1: pair 'p' stands with several topics, and this row names none"):
        read_annotations([row("p", "bob", None, "A"), *ASPECTS], columns=columns)
    with pytest.raises(AnnotationError, match=r"would be called 'p:style', which another pair is called already"):
        read_annotations([row("p:style", "ann", "style", "A"), *ASPECTS], columns=columns)


def test_a_column_that_is_only_called_topic_is_not_taken_for_the_pairs_aspects() -> None:
    """Negative control: nobody said so, and it may be a slip in one row."""
    rows = [{("topic" if key == "aspect" else key): value for key, value in given.items()} for given in ASPECTS]
    with pytest.raises(
        AnnotationError, match=r"(?s)row 2: topic of pair 'p' is 'style' here.*    --topic-column topic"
    ):
        read_annotations(rows)
    assert read_annotations(rows, columns={"topic": "topic"}).n_pairs == 3


def test_weights_are_learnt_per_topic() -> None:
    """ann knows style and inverts the rest, bob the other way round: the label follows the one who is right.

    Negative control: under one set of weights, whichever they are, the two labels of a pair are P and 1 - P.
    """
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        for aspect, expert in (("style", "ann"), ("overall", "bob")):
            truth = int(rng.random() < 0.5)
            for who in ("ann", "bob"):
                report = 0.1 + 0.8 * (truth if who == expert else 1 - truth)
                rows.append(row(f"p{k}", who, aspect, report, outcome=truth))
    truths = {f"{given['pair_id']}:{given['aspect']}": given["outcome"] for given in rows}

    def on_the_true_side(per_topic: bool) -> np.ndarray[Any, Any]:
        table, columns = pd.DataFrame(rows), {"topic": "aspect"}
        labels = aggregate_table(table, columns=columns, labels="reweighted", per_topic=per_topic).soft_labels
        right = labels["chosen_is_a"] == labels["pair_id"].map(truths)
        return np.asarray(labels["soft_label"].where(right, 1.0 - labels["soft_label"]))

    assert on_the_true_side(per_topic=True).min() > 0.8
    assert on_the_true_side(per_topic=False).min() <= 0.5
