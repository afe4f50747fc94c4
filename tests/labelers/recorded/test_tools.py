"""Exports of annotation tools; Label Studio's and Argilla's were written by their own software.

See `make_tool_fixtures`: three people judged three pairs: A, A, B; B, B; A, B. On the first pair user 3 changed a
vote for A into one for B, and two ground truths say A; on the second user 3 skipped (Label Studio) or left a draft
for A (Argilla).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations

TOOLS = Path(__file__).parent / "tools"


def reports(annotations: Annotations) -> dict[tuple[str, str], float]:
    rows = zip(annotations.round_of_report, annotations.labeler, annotations.report, strict=True)
    return {(annotations.pair_ids[t], annotations.labeler_ids[i]): float(r) for t, i, r in rows}


def texts(annotations: Annotations) -> list[tuple[str, str, str]]:
    rows = annotations.texts.take(annotations.text_row).to_pylist()
    return [(row["prompt"], row["response_a"], row["response_b"]) for row in rows]


PAIRS = [("Name a colour", "Blue", "Table"), ("Two plus two", "Five", "Four"), ("Say hi", "Hi", "Hello")]
VOTES = {("1", "1"): 1, ("1", "2"): 1, ("1", "3"): 0, ("2", "1"): 0, ("2", "2"): 0, ("3", "1"): 1, ("3", "2"): 0}


@pytest.mark.parametrize("control", ["pairwise", "choices", "ranker"])
def test_label_studio_json(control: str) -> None:
    path = TOOLS / f"labelstudio_{control}.json"
    with pytest.raises(AnnotationError, match=r"labeler '3' already judged pair '1'(.|\n)*to keep the latest by time"):
        read_annotations(path)
    annotations = read_annotations(path, duplicates="last")
    assert reports(annotations) == VOTES, "the vote that was updated last counts, though it stands first"
    assert texts(annotations) == PAIRS
    np.testing.assert_array_equal(annotations.outcome, [1.0, np.nan, np.nan])
    assert (annotations.reading.replaced, annotations.reading.abstained) == (1, 1)


def test_label_studio_choices_of_two_controls_are_asked_for() -> None:
    tasks = json.loads((TOOLS / "labelstudio_choices.json").read_text())
    for task in tasks:
        for annotation in task["annotations"]:
            for result in annotation["result"]:
                if result["from_name"] == "pref":
                    result["value"]["choices"] = ["left" if result["value"]["choices"] == ["answer1"] else "right"]
    with pytest.raises(AnnotationError, match=r"several controls: harm, pref.*--column report=CONTROL"):
        read_annotations(tasks, duplicates="last")
    assert reports(read_annotations(tasks, columns={"report": "pref"}, duplicates="last")) == VOTES


@pytest.mark.parametrize("control", ["pairwise", "choices", "ranker"])
@pytest.mark.parametrize("suffix", ["min.json", "csv"])
def test_label_studio_min_and_csv(control: str, suffix: str) -> None:
    annotations = read_annotations(TOOLS / f"labelstudio_{control}.{suffix}", duplicates="last")
    assert reports(annotations) == VOTES | {("1", "8"): 1, ("1", "9"): 1}, "these exports lose the ground truth"
    assert "does not say which annotations are ground truth" in annotations.reading.notes[0]
    assert texts(annotations) == PAIRS


def test_ground_truths_of_label_studio_that_contradict_each_other_are_refused() -> None:
    """Before, the second ground truth counted as the report of a labeler."""
    tasks = json.loads((TOOLS / "labelstudio_pairwise.json").read_text())
    truths = [a for a in tasks[0]["annotations"] if a["ground_truth"]]
    assert len(truths) == 2
    truths[1]["result"][0]["value"]["selected"] = "right"
    with pytest.raises(AnnotationError, match="row 1: two annotations are marked as ground truth and contradict"):
        read_annotations(tasks, duplicates="last")


@pytest.mark.parametrize("question", ["label", "rating", "ranking"])
def test_argilla_2(question: str) -> None:
    expected = {(f"p{pair}", str(UUID(int=int(user)))): vote for (pair, user), vote in VOTES.items()}
    options: dict[str, Any] = {"scale": "1:5", "low": "A"} if question == "rating" else {}
    flat = read_annotations(TOOLS / f"argilla_{question}_flat.json", **options)
    nested = read_annotations(TOOLS / f"argilla_{question}.json", **options)
    ends = {0: 0.05, 1: 0.95} if question == "rating" else {0: 0.0, 1: 1.0}
    expected = {key: ends[vote] for key, vote in expected.items()}
    assert reports(flat) == pytest.approx(expected)
    assert flat.reading.abstained == 1, "a draft is no vote"
    draft = ("p2", str(UUID(int=3)))
    assert reports(nested) == pytest.approx(expected | {draft: ends[1]}), "the nested export does not know drafts"
    assert "do not say which responses are drafts" in nested.reading.notes[0]
    assert texts(flat) == texts(nested) == PAIRS


def test_argilla_ratings_need_their_scale() -> None:
    with pytest.raises(AnnotationError, match=r"--scale 1:5 --low A(.|\n)*--scale 1:5 --low B"):
        read_annotations(TOOLS / "argilla_rating_flat.json")


def test_mt_bench_turns_are_cut_at_their_turn() -> None:
    """A vote on turn 1 must not label the answers of turn 2: the public rows hold both turns."""
    annotations = read_annotations(TOOLS / "mtbench.jsonl")
    assert texts(annotations) == [
        ("Name a colour", "Blue", "Table"),
        ("[turn 1] Name a colour\n\n[turn 2] And another", "Red", "Chair"),
    ]
    assert annotations.pair_ids == ["81-t1-m1-vs-m2", "81-t2-m1-vs-m2"]
    np.testing.assert_allclose(np.nanmean(annotations.matrix(), axis=1), [5 / 6, 1 / 3])


def test_arena_logs_whose_turn_is_their_length_are_whole() -> None:
    rows = [json.loads(line) for line in (TOOLS / "mtbench.jsonl").read_text().splitlines()]
    arena = [row for row in rows if row["turn"] == 2]
    assert texts(read_annotations(arena))[0][1:] == ("Red", "Chair")


def test_battles_with_columns_of_the_annotation_table() -> None:
    row = {"pair_id": "p", "labeler_id": "ann", "model_a": "m1", "model_b": "m2", "winner": "m2"}
    columns = {"report": "winner", "response_a": "model_a", "response_b": "model_b"}
    for mapping in ({}, columns):
        assert reports(read_annotations([row], columns=mapping)) == {("p", "ann"): 0.0}
    with pytest.raises(AnnotationError, match=r"'m3' is neither a number(.|\n)*Values of 'winner': m3 \(1 rows\)"):
        read_annotations([row | {"winner": "m3"}])
    with pytest.raises(AnnotationError, match=r"only 0(.|\n)*--vote 1=A --vote 0=B(.|\n)*--vote 0=A --vote 1=B"):
        read_annotations([row | {"winner": 0}])


def test_alpaca_eval() -> None:
    annotations = read_annotations(TOOLS / "alpaca_eval.json")
    np.testing.assert_allclose(annotations.matrix(), [[1.0, 0.98, 0.0], [0.0, 0.03, 0.5]], atol=1e-12)
    with pytest.raises(AnnotationError, match="row 1: preference 3 is not between 1"):
        read_annotations([json.loads((TOOLS / "alpaca_eval.json").read_text())[0] | {"preference": 3}])


def test_distilabel_ratings_become_all_pairs() -> None:
    annotations = read_annotations(TOOLS / "distilabel.jsonl")
    found = {pair[1:]: report for pair, report in zip(texts(annotations), annotations.report, strict=True)}
    assert found == {("Blue", "Table"): 1, ("Blue", "Sky"): 1, ("Table", "Sky"): 0, ("Five", "Four"): 0.5}
    assert annotations.labeler_ids == ["judge-x"]


def test_arena_hard_has_the_baseline_first_and_then_second() -> None:
    """The model is much better in both games; then slightly better and a tie; then one game has no verdict."""
    games = [("B>>A", "A>>B"), ("B>A", "A=B"), (None, "[[A>B]]")]
    records = [
        {"question_id": f"q{k}", "model": "new", "judge": "j", "games": [{"score": first}, {"score": second}]}
        for k, (first, second) in enumerate(games)
    ]
    slightly = 1 / (1 + 19 ** (1 / 3))  # for B
    annotations = read_annotations(records)
    np.testing.assert_allclose(annotations.report, [0.05, (slightly + 0.5) / 2, slightly])
    assert texts(annotations)[0][1:] == ("baseline", "new")
    with pytest.raises(AnnotationError, match="row 1: the score 'good' is none of A>>B"):
        read_annotations([records[0] | {"games": [{"score": "good"}]}])


def test_a_judge_of_two_games_is_read_as_their_mean() -> None:
    annotations = read_annotations(TOOLS / "judge_pair.jsonl")
    np.testing.assert_allclose(annotations.report, [1.0, 0.5, 0.25, 1.0])
    assert annotations.labeler_ids == ["judge-x pair-v2"]
    assert annotations.reading.averaged == 6


def test_prodigy_options_that_name_the_tie_and_more_than_two() -> None:
    def example(options: list[str], accept: list[str], answer: str = "accept") -> dict[str, Any]:
        shown = [{"id": name, "text": f"text {name}"} for name in options]
        return {"text": "?", "options": shown, "accept": accept, "answer": answer, "_annotator_id": "w"}

    tie = example(["A", "B", "tie"], ["tie"]) | {"_task_hash": 1}
    three = example(["x", "y", "z"], ["y"]) | {"_task_hash": 2}
    annotations = read_annotations([tie, three])
    found = dict(zip(texts(annotations), annotations.report, strict=False))
    assert reports(annotations)[("1", "w")] == 0.5
    assert reports(annotations)[("2:1-2", "w")] == 0.0, "the accepted one is better"
    assert reports(annotations)[("2:2-3", "w")] == 1.0
    assert ("2:1-3", "w") not in reports(annotations), "nothing is said about the other two"
    assert len(found) == 3
