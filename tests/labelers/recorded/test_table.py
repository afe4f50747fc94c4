"""The annotation table: what is merged, refused, dropped and kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations

DATA = Path(__file__).parents[4] / "shared" / "data"


def row(pair: Any, labeler: Any, report: Any, **other: Any) -> dict[str, Any]:
    texts = {"prompt": f"prompt {pair}", "response_a": f"first {pair}", "response_b": f"second {pair}"}
    return {"pair_id": pair, **texts, "labeler_id": labeler, "report": report, **other}


def swapped(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "response_a": record["response_b"], "response_b": record["response_a"]}


def table(annotations: Annotations) -> dict[tuple[str, str], float]:
    reports = zip(annotations.round_of_report, annotations.labeler, annotations.report, strict=True)
    return {(annotations.pair_ids[t], annotations.labeler_ids[i]): float(r) for t, i, r in reports}


def test_reports_votes_ties_and_abstentions() -> None:
    values = [0.3, "0.3", "A", " b ", "Tie", True, 1, None, "", "NaN", float("nan"), "tie (bothbad)", "model_a"]
    annotations = read_annotations([row("p", f"l{k}", value) for k, value in enumerate(values)])
    expected = {"l0": 0.3, "l1": 0.3, "l2": 1.0, "l3": 0.0, "l4": 0.5, "l5": 1.0, "l6": 1.0, "l11": 0.5, "l12": 1.0}
    assert table(annotations) == {("p", name): value for name, value in expected.items()}
    assert annotations.reading.abstained == 4
    assert annotations.n_labelers == len(values), "someone who abstains is still a labeler"


@pytest.mark.parametrize("value", [1.7, -0.01, "1.7", float("inf"), "-inf", "maybe", [0.5], {"a": 1}, "1e999", 10**400])
def test_an_impossible_report_names_its_row_labeler_and_pair(value: Any) -> None:
    with pytest.raises(AnnotationError, match=r"<table>: row 2: report \(labeler 'bob', pair 'p'\): .*(\[0, 1\])"):
        read_annotations([row("p", "ann", 0.5), row("p", "bob", value)])


def test_a_pair_shown_the_other_way_round_is_merged_and_flipped() -> None:
    rows = [row("p", "ann", 0.9, outcome=1), swapped(row("p", "bob", 0.2, outcome=0)), row("q", "ann", 0.1)]
    for pairs_by_text in (False, True):
        annotations = read_annotations(rows, pairs_by_text=pairs_by_text)
        assert annotations.n_pairs == 2
        np.testing.assert_allclose(annotations.report, [0.9, 0.8, 0.1])
        assert annotations.swapped.tolist() == [False, True, False]
        np.testing.assert_array_equal(annotations.outcome, [1.0, np.nan])
        assert annotations.reading.swapped == 1


def test_without_pair_ids_the_texts_identify_the_pair_in_either_order() -> None:
    rows = [row("p", "ann", 0.9), swapped(row("p", "bob", 0.2)), row("q", "ann", 0.1)]
    bare = [{key: value for key, value in record.items() if key != "pair_id"} for record in rows]
    annotations = read_annotations(bare)
    np.testing.assert_allclose(annotations.report, [0.9, 0.8, 0.1])
    assert read_annotations(bare[::-1]).pair_ids == annotations.pair_ids[::-1], (
        "the made-up ids depend on the text only"
    )
    with pytest.raises(AnnotationError, match="row 1: a pair needs pair_id, or response_a and response_b"):
        read_annotations([{"labeler_id": "ann", "report": 1}])


def test_different_ids_are_different_pairs_even_with_equal_texts() -> None:
    same = {"prompt": "x", "response_a": "a", "response_b": "b"}
    rows = [row("p", "ann", 0.9) | same, row("q", "ann", 0.8) | same]
    assert read_annotations(rows).n_pairs == 2
    with pytest.raises(AnnotationError, match="already judged"):
        read_annotations(rows, pairs_by_text=True)


def test_duplicates_are_refused_or_the_last_one_wins() -> None:
    rows = [row("p", "ann", 0.1), row("p", "bob", 0.2), row("p", "ann", 0.9), row("p", "ann", None)]
    with pytest.raises(AnnotationError, match=r"row 3: labeler 'ann' already judged pair 'p' in row 1 \(1 such"):
        read_annotations(rows)
    assert table(read_annotations(rows[:3], duplicates="last")) == {("p", "ann"): 0.9, ("p", "bob"): 0.2}
    last = read_annotations(rows, duplicates="last")
    assert table(last) == {("p", "ann"): 0.9, ("p", "bob"): 0.2}, "an empty report replaces nothing"
    assert last.reading.replaced == 1
    mean = read_annotations(rows, duplicates="mean")
    assert table(mean) == pytest.approx({("p", "ann"): 0.5, ("p", "bob"): 0.2})
    assert (mean.reading.averaged, mean.reading.replaced) == (2, 0)


def test_a_judge_of_both_orders_is_averaged_and_leans_to_no_side() -> None:
    """0.9 for the first shown and, turned, 0.9 for the first shown again: no opinion, all position."""
    rows = [row("p", "judge", 0.9), swapped(row("p", "judge", 0.9)), row("q", "judge", 0.2), row("q", "judge", None)]
    with pytest.raises(AnnotationError, match=r"the responses were shown in both orders(.|\n)*--duplicates mean"):
        read_annotations(rows)
    annotations = read_annotations(rows, duplicates="mean")
    assert table(annotations) == pytest.approx({("p", "judge"): 0.5, ("q", "judge"): 0.2})
    assert annotations.swapped.tolist() == [False, False]
    assert (annotations.reading.swapped, annotations.reading.averaged) == (1, 2)


def test_last_goes_by_time_where_there_is_one() -> None:
    rows = [row("p", "ann", 0.9, when="2024-02-02"), row("p", "ann", 0.1, when="2024-01-01")]
    assert table(read_annotations(rows, duplicates="last")) == {("p", "ann"): 0.1}, "the file's order"
    by_time = read_annotations(rows, duplicates="last", columns={"round": "when"})
    assert table(by_time) == {("p", "ann"): 0.9}
    assert by_time.reading.replaced == 1


def test_contradictions_about_a_pair_are_refused() -> None:
    with pytest.raises(AnnotationError, match="row 2: outcome of pair 'p' contradicts row 1"):
        read_annotations([row("p", "ann", 0.5, outcome=1), row("p", "bob", 0.5, outcome=0)])
    with pytest.raises(AnnotationError, match=r"contradicts row 1 \(its responses are shown the other way"):
        read_annotations([row("p", "ann", 0.5, outcome=1), swapped(row("p", "bob", 0.5, outcome=1))])
    with pytest.raises(AnnotationError, match="row 2: pair 'p' has another prompt or other responses"):
        read_annotations([row("p", "ann", 0.5), row("p", "bob", 0.5) | {"prompt": "another"}])
    with pytest.raises(AnnotationError, match="row 2: topic of pair 'p' is 'maths' here and 'law' before"):
        read_annotations([row("p", "ann", 0.5, topic="law"), row("p", "bob", 0.5, topic="maths")])
    with pytest.raises(AnnotationError, match=r"row 1: outcome \(pair 'p'\): 0.7 is not an outcome"):
        read_annotations([row("p", "ann", 0.5, outcome=0.7)])


def test_an_outcome_that_is_a_tie_or_missing_is_not_revealed() -> None:
    values = [0.5, None, "", "tie", float("nan"), 0, "B"]
    annotations = read_annotations([row(f"p{k}", "ann", 0.5, outcome=value) for k, value in enumerate(values)])
    np.testing.assert_array_equal(annotations.outcome, [np.nan] * 5 + [0.0, 0.0])


def test_rounds_follow_the_last_report_of_each_pair() -> None:
    times = {("p", "ann"): 5, ("q", "ann"): 1, ("q", "bob"): 2, ("r", "ann"): 3, ("p", "bob"): 1}
    rows = [row(pair, labeler, 0.5, when=time) for (pair, labeler), time in times.items()]
    assert read_annotations(rows, columns={"round": "when"}).pair_ids == ["q", "r", "p"]
    iso = [{**record, "when": f"2024-05-0{record['when']}T10:00:00Z"} for record in rows]
    assert read_annotations(iso, columns={"round": "when"}).pair_ids == ["q", "r", "p"]
    assert read_annotations(rows).pair_ids == ["p", "q", "r"], "without a time column: the file's order"
    with pytest.raises(AnnotationError, match="row 1: 'yesterday' is neither a number nor an ISO 8601 time"):
        read_annotations([row("p", "ann", 0.5, round="yesterday")])


def test_matrix_and_sparse_reports_agree() -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((30, 7)) < 0.3, rng.random((30, 7)).round(3), np.nan)
    dense[:, 0] = 0.25  # no pair without a report
    cells = [(t, i) for t, i in itertools.product(range(30), range(7)) if not np.isnan(dense[t, i])]
    cells.sort(key=lambda cell: (cell[0] > 0, rng.random()) if cell[0] == 0 else (True, rng.random()))
    rows = [row(f"p{t:02}", f"l{i}", float(dense[t, i]), round=t) for t, i in cells]
    annotations = read_annotations(rows)
    columns = [annotations.labeler_ids.index(f"l{i}") for i in range(7)]
    assert annotations.pair_ids == [f"p{t:02}" for t in range(30)]
    np.testing.assert_array_equal(annotations.matrix()[:, columns], dense)
    np.testing.assert_array_equal(annotations.matrix(np.array([20, 3, 20]))[:, columns], dense[[20, 3, 20]])


def test_ids_may_be_numbers_and_unknown_columns_are_listed_not_kept() -> None:
    rows = [row(7, 1, 0.5, mood="good"), row("7", "2", 0.6, mood="bad"), row(7.0, 2.0, 0.7) | {"pair_id": 8.0}]
    rows[1] |= {key: rows[0][key] for key in ("prompt", "response_a", "response_b")}
    annotations = read_annotations(rows)
    assert annotations.pair_ids == ["7", "8"]
    assert annotations.labeler_ids == ["1", "2"]
    assert annotations.reading.ignored_columns == ("mood",)


def test_wrong_names_are_answered_with_the_nearest_right_one() -> None:
    rows = [{"pair_id": "p", "labeller": "ann", "reports": 0.5}]
    missing = r"'labeler_id' is missing .did you mean 'labeller'\?. and 'report' is missing"
    with pytest.raises(AnnotationError, match=missing):
        read_annotations(rows)
    good = {"labeler_id": "labeller", "report": "reports"}
    assert read_annotations(rows, columns=good).labeler_ids == ["ann"]
    with pytest.raises(AnnotationError, match=r"no column 'golds' .for outcome. .did you mean 'gold'"):
        read_annotations([rows[0] | {"gold": 1}], columns=good | {"outcome": "golds"})
    with pytest.raises(AnnotationError, match=r"--column repot=...: no such column .did you mean 'report'"):
        read_annotations(rows, columns={"repot": "reports"})
    with pytest.raises(AnnotationError, match=r"format 'crowd-kit': not known .did you mean 'crowdkit'"):
        read_annotations(rows, format="crowd-kit")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"labeler_id": ""}, "labeler_id is empty"),
        ({"prompt": ["a", "list"]}, "prompt and responses must be texts"),
        ({"response_a": "\ud800"}, "half of a surrogate pair"),
        ({"pair_id": ["a", "list"]}, "expected a text"),
    ],
)
def test_what_cannot_be_text_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=f"row 2: .*{message}"):
        read_annotations([row("p", "ann", 0.5), row("q", "bob", 0.5) | bad])


def test_nothing_to_aggregate_is_an_error() -> None:
    with pytest.raises(AnnotationError, match="there are no reports"):
        read_annotations([])
    with pytest.raises(AnnotationError, match="every report is an abstention"):
        read_annotations([row("p", "ann", None)])


def test_many_texts_go_to_disk_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("truthful_rlhf.labelers.recorded.texts._FLUSH_CHARACTERS", 1000)
    annotations = read_annotations([row(f"p{k}", "ann", 0.5, round=-k) for k in range(200)])
    assert annotations.has_texts
    table = annotations.texts.take(annotations.text_row)
    assert table.column("prompt").to_pylist() == [f"prompt p{k}" for k in range(199, -1, -1)]


def test_real_files() -> None:
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    mtbench = read_annotations(DATA / "mtbench_human.jsonl")
    assert (mtbench.n_pairs, mtbench.n_labelers, len(mtbench.report)) == (1633, 59, 4301)
    assert int((~np.isnan(mtbench.outcome)).sum()) == 285
    with pytest.raises(AnnotationError, match="row 203: labeler 'Lulu Lemonade' already judged"):
        read_annotations(DATA / "nyu_debate.jsonl")
    debate = read_annotations(DATA / "nyu_debate.jsonl", duplicates="last", columns={"round": "time_ms"})
    assert (debate.n_pairs, debate.n_labelers, debate.reading.replaced) == (305, 20, 2)
