"""The other formats, each by a hand-made export whose reports are known; and that none is taken for another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.formats import FORMATS, Sample
from truthful_rlhf.labelers.recorded.options import ReadOptions
from truthful_rlhf.labelers.recorded.table import Annotations, detect_format, read_annotations


def reports(annotations: Annotations) -> dict[tuple[str, str], float]:
    rows = zip(annotations.round_of_report, annotations.labeler, annotations.report, strict=True)
    return {(annotations.pair_ids[t], annotations.labeler_ids[i]): float(r) for t, i, r in rows}


def texts(annotations: Annotations, pair: int) -> tuple[str, str, str]:
    row = annotations.texts.take(annotations.text_row[[pair]]).to_pylist()[0]
    return row["prompt"], row["response_a"], row["response_b"]


ARGILLA = {
    "id": "r1",
    "fields": {"instruction": "2+2?", "response1": "4", "response2": "5"},
    "metadata": {"area": "maths"},
    "suggestions": {},
    "responses": {
        "better": [
            {"value": "response1", "user_id": "u1"},
            {"value": "B", "user_id": "u2"},
            {"value": "tie", "user_id": "u3", "status": "submitted"},
            {"value": "A", "user_id": "u4", "status": "discarded"},
        ]
    },
    "vectors": {},
    "status": "completed",
}
ARGILLA_FLAT = {
    "id": "r1",
    "instruction": "2+2?",
    "response1": "4",
    "response2": "5",
    "better.responses": ["response1", "B", "tie", "A"],
    "better.responses.users": ["u1", "u2", "u3", "u4"],
    "better.responses.status": ["submitted", "submitted", "submitted", "discarded"],
}
LABEL_STUDIO = {
    "id": 12,
    "data": {"prompt": "2+2?", "text1": "4", "text2": "5"},
    "annotations": [
        {"completed_by": 3, "result": [{"type": "pairwise", "value": {"selected": "left"}}], "was_cancelled": False},
        {
            "completed_by": {"id": 4, "email": "d@x.org"},
            "result": [{"type": "choices", "value": {"choices": ["text2"]}}],
        },
        {"completed_by": 5, "result": [], "was_cancelled": True},
        {"completed_by": 9, "ground_truth": True, "result": [{"type": "pairwise", "value": {"selected": "right"}}]},
    ],
}
MTBENCH = {"question_id": 81, "turn": 1, "model_a": "m1", "model_b": "m2", "winner": "model_a", "judge": "expert_0"}
CROWDKIT = {"task": "t1", "worker": "w1", "label": "A"}
LONG = {"pair_id": "p", "labeler_id": "ann", "report": 0.5}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("argilla", ARGILLA),
        ("argilla", ARGILLA_FLAT),
        ("labelstudio", LABEL_STUDIO),
        ("mtbench", MTBENCH),
        ("crowdkit", CROWDKIT),
        ("crowdkit", {"worker": "w", "left": "x", "right": "y", "label": "x"}),
        ("long", LONG),
    ],
)
def test_formats_are_told_apart(name: str, record: dict[str, Any]) -> None:
    assert detect_format(Sample.of("file", [record]), ReadOptions()) == name
    assert name in FORMATS


@pytest.mark.parametrize("record", [ARGILLA, ARGILLA_FLAT])
def test_argilla(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record, record | {"id": "r2"}], indent=2))
    annotations = read_annotations(path)
    expected = {"u1": 1.0, "u2": 0.0, "u3": 0.5}
    assert reports(annotations) == {(pair, who): value for pair in ("r1", "r2") for who, value in expected.items()}
    assert annotations.reading.abstained == 2
    assert texts(annotations, 0) == ("2+2?", "4", "5")


def test_argilla_rankings_topics_and_several_questions() -> None:
    ranking = [{"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}]
    record = ARGILLA | {"responses": {"better": [{"value": ranking, "user_id": "u1"}], "tone": []}}
    with pytest.raises(AnnotationError, match=r"row 1: several questions: better, tone. Say which one with --column"):
        read_annotations([record])
    with pytest.raises(AnnotationError, match=r"no question 'beter' .did you mean 'better'"):
        read_annotations([record], format="argilla", columns={"report": "beter"})
    annotations = read_annotations([record], format="argilla", columns={"report": "better", "topic": "area"})
    assert reports(annotations) == {("r1", "u1"): 0.0}
    assert annotations.topic == ["maths"]


def test_an_unknown_field_is_answered_with_the_nearest() -> None:
    record = ARGILLA | {"fields": {"q": "2+2?", "answer_one": "4", "answer_two": "5"}}
    with pytest.raises(AnnotationError, match=r"row 1: no field 'response_a'.*Say --column response_a=FIELD"):
        read_annotations([record])
    columns = {"prompt": "q", "response_a": "answer_one", "response_b": "answer_two"}
    record |= {"responses": {"better": [{"value": "answer_two", "user_id": "u1"}]}}
    assert texts(read_annotations([record], columns=columns), 0) == ("2+2?", "4", "5")


def test_label_studio() -> None:
    annotations = read_annotations([LABEL_STUDIO])
    assert reports(annotations) == {("12", "3"): 1.0, ("12", "d@x.org"): 0.0}
    assert annotations.reading.abstained == 1
    np.testing.assert_array_equal(annotations.outcome, [0.0])
    assert "9" not in annotations.labeler_ids, "the ground truth is no labeler"


def ground_truth(who: int, side: str | None) -> dict[str, Any]:
    result = [] if side is None else [{"type": "pairwise", "value": {"selected": side}}]
    return {"completed_by": who, "ground_truth": True, "result": result}


def test_no_ground_truth_of_label_studio_is_a_report() -> None:
    """Two people's annotations are marked as the truth: an outcome, and no vote of anybody."""
    annotations = read_annotations(
        [LABEL_STUDIO | {"annotations": [*LABEL_STUDIO["annotations"], ground_truth(8, "right")]}]
    )
    assert reports(annotations) == {("12", "3"): 1.0, ("12", "d@x.org"): 0.0}
    np.testing.assert_array_equal(annotations.outcome, [0.0])
    silent = LABEL_STUDIO | {"annotations": [ground_truth(8, None), *LABEL_STUDIO["annotations"]]}
    np.testing.assert_array_equal(read_annotations([silent]).outcome, [0.0])  # the other one says it
    contradicted = LABEL_STUDIO | {"annotations": [*LABEL_STUDIO["annotations"], ground_truth(8, "left")]}
    with pytest.raises(AnnotationError, match=r"row 1: two annotations are marked as ground truth and contradict"):
        read_annotations([contradicted])


def test_mtbench_merges_both_orders() -> None:
    def chat(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": answer}]

    first = MTBENCH | {"conversation_a": chat("4"), "conversation_b": chat("5")}
    second = first | {"model_a": "m2", "model_b": "m1", "judge": "expert_1"}
    second |= {"conversation_a": chat("5"), "conversation_b": chat("4"), "winner": "model_b"}
    third = first | {"judge": "expert_2", "winner": "tie (inconsistent)"}
    annotations = read_annotations([first, second, third])
    pair = "81-t1-m1-vs-m2"
    assert reports(annotations) == {(pair, "expert_0"): 1.0, (pair, "expert_1"): 1.0, (pair, "expert_2"): 0.5}
    assert texts(annotations, 0) == ("2+2?", "4", "5")
    later = first | {"turn": 2, "conversation_a": chat("4") + chat("four"), "conversation_b": chat("5") + chat("five")}
    assert texts(read_annotations([later]), 0) == ("[turn 1] 2+2?\n\n[turn 2] 2+2?", "four", "five")


def test_crowdkit(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    pd.DataFrame({"task": [1, 1, 2], "worker": ["w1", "w2", "w1"], "label": ["A", "B", "tie"]}).to_csv(
        path, index=False
    )
    annotations = read_annotations(path)
    assert reports(annotations) == {("1", "w1"): 1.0, ("1", "w2"): 0.0, ("2", "w1"): 0.5}
    assert not annotations.has_texts
    pairwise = [
        {"worker": "w1", "left": "x", "right": "y", "label": "x"},
        {"worker": "w2", "left": "y", "right": "x", "label": "x"},
    ]
    assert reports(read_annotations(pairwise)) == {("x | y", "w1"): 1.0, ("x | y", "w2"): 1.0}


def test_a_missing_key_in_a_later_row_is_named() -> None:
    with pytest.raises(AnnotationError, match=r"row 2: no 'worker' .did you mean 'workers'"):
        read_annotations([CROWDKIT, {"task": "t2", "workers": "w", "label": "A"}])
    with pytest.raises(AnnotationError, match="this is none of the formats long, crowdkit"):
        read_annotations([{"a": 1}])


@pytest.mark.parametrize(
    "record",
    [
        LABEL_STUDIO | {"annotations": [3]},
        LABEL_STUDIO | {"data": "text"},
        ARGILLA | {"responses": {"better": ["u1"]}},
        MTBENCH | {"conversation_a": [{"role": "user"}], "conversation_b": []},
        MTBENCH | {"conversation_a": "text", "conversation_b": "text"},
        ARGILLA_FLAT | {"better.responses.users": ["u1"]},
    ],
)
def test_a_record_of_the_wrong_shape_names_its_row(record: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match="row 1: "):
        read_annotations([record])
