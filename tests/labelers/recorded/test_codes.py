"""What codes, words and scales mean: the formula, what is refused, and what is printed to go on."""

from __future__ import annotations

import math
import shlex
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truthful_rlhf.labelers.recorded.codes import Codebook, graded, parse_pairs, word_report
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.options import ReadOptions
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations
from truthful_rlhf.pipeline.aggregate import aggregate_table


def table(*values: Any, name: str = "report") -> list[dict[str, Any]]:
    return [{"pair_id": "p", "labeler_id": f"w{k}", name: value} for k, value in enumerate(values)]


def read(*values: Any, name: str = "report", **options: Any) -> Annotations:
    return read_annotations(table(*values, name=name), columns={"report": name}, **options)


def refusal(*values: Any, name: str = "report", **options: Any) -> tuple[str, list[list[str]]]:
    with pytest.raises(AnnotationError) as error:
        read(*values, name=name, **options)
    text = str(error.value)
    return text, [shlex.split(line) for line in text.splitlines() if line.startswith("    --")]


# ---- the graded scale


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_scale_is_monotone_symmetric_and_never_sure(x: float, y: float) -> None:
    assert graded(x) + graded(-x) == pytest.approx(1.0, abs=1e-15)
    assert 0.05 - 1e-12 <= graded(x) <= 0.95 + 1e-12
    if x < y:
        assert graded(x) <= graded(y)


def test_equal_steps_of_a_scale_are_equal_steps_of_log_odds() -> None:
    """On 1..7, A first: the odds fall by the same factor from step to step, from 19 to 1/19: 19^(1/3) per step."""
    reports = read(1, 2, 3, 4, 5, 6, 7, scale="1:7", low="A").report
    odds = reports / (1 - reports)
    assert odds[0] == pytest.approx(19)
    assert odds[3] == pytest.approx(1)
    assert (odds[:-1] / odds[1:]) == pytest.approx([19 ** (1 / 3)] * 6)
    turned = read(1, 2, 3, 4, 5, 6, 7, scale="1:7", low="B").report
    assert turned == pytest.approx(1 - reports)


def test_slightly_is_never_certain_in_words_either() -> None:
    slight = ["A>B", "A-is-slightly-better", "slightly prefer A", "Response A is slightly better", "a slightly better"]
    assert {word_report(word) for word in slight} == {graded(1 / 3)}
    strong = ["A>>B", "A-is-clearly-better", "strongly prefer A", "[[A>>B]]", "Assistant A is significantly better"]
    assert {word_report(word) for word in strong} == {graded(1.0)}
    assert {word_report(word) for word in ("A is better", "[[A]]", "Model A", "prefer A")} == {1.0}
    assert {word_report(word) for word in ("tie", "A=B", "[[C]]", "both_bad", "Tie (bothbad)")} == {0.5}
    for word in ("C", "first", "A and B", "better", "A>A", "AB", "neither", "1", "response 1"):
        assert word_report(word) is None, word


# ---- codes


def test_codes_are_numbers_or_words_and_split_at_the_last_equals_sign() -> None:
    assert parse_pairs(["A=B=tie", "1=A", "=none"], "--vote", "", at_last=True) == {"A=B": "tie", "1": "A", "": "none"}
    reports = read("1", 1.0, 2, "x=y", "", votes={"1": "A", "2.0": "B", "x=y": "tie"}).report
    assert reports.tolist() == [1.0, 1.0, 0.0, 0.5]
    assert read(True, "FALSE", votes={"true": "B", "False": "A"}).report.tolist() == [0.0, 1.0]
    assert read("left", "A", votes={"left": "B"}).report.tolist() == [0.0, 1.0], "what the user says comes first"


def test_with_numeric_codes_no_other_number_is_guessed() -> None:
    text, _ = refusal(1, 2, 0, votes={"1": "A", "2": "B"})
    assert "0 is none of the codes that were given with --vote" in text
    assert "1 (1 rows)" in text


def test_a_refusal_lists_every_value_with_its_count() -> None:
    text, ways = refusal("yes", "no", "yes", "A")
    assert "row 1: report (labeler 'w0', pair 'p'): 'yes' is neither a number" in text
    assert "Values of 'report': yes (2 rows), A (1 rows), no (1 rows)" in text
    assert ways == [["--vote", "yes=A", "--vote", "no=B"], ["--vote", "no=A", "--vote", "yes=B"]]
    text, ways = refusal("it's A", "$(rm -rf /)", "`x`")
    assert ways == [["--vote", "it's A=?", "--vote", "$(rm -rf /)=?", "--vote", "`x`=?"]], "quoted for the shell"
    text, _ = refusal(*[f"code {k}" for k in range(100)])
    assert "and 60 others" in text
    assert len(text) < 3000


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 0.5), (True, False), ("true", ""), ("1", "1"), (0.0, 0.0)])
def test_the_side_of_a_bare_number_is_asked_for(values: tuple[Any, ...]) -> None:
    text, ways = refusal(*values, name="preferred")
    assert "is not guessed" in text
    assert len(ways) == 2
    assert [way[:2] for way in ways] == [["--vote", "1=A"], ["--vote", "0=A"]]
    numbers = read(*values, name="report").report
    assert set(numbers.tolist()) <= {0.0, 0.5, 1.0}, "in a column of that name the documentation says it"


def test_other_numbers_of_other_columns_are_probabilities() -> None:
    annotations = read(0, 1, 0.7, name="score")
    assert annotations.report.tolist() == [0.0, 1.0, 0.7]
    assert read(0, 1, name="preferred", votes={0: "A", 1: "B"}).report.tolist() == [1.0, 0.0]


def test_scales_and_their_ends() -> None:
    text, ways = refusal(1, 7, 4, 2)
    assert ways == [["--scale", "1:7", "--low", "A"], ["--scale", "1:7", "--low", "B"]]
    text, ways = refusal(1, 9, scale="1:7", low="A")
    assert "9 is outside the scale 1:7" in text
    assert ways == [["--vote", "9=none"]]
    assert read(1, 9, scale="1:7", low="A", votes={9: "none"}).reading.abstained == 1
    assert refusal(-3, 2, 0, 1)[1][0] == ["--scale", "-3:3", "--low", "A"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"votes": {"1": "first"}}, "--vote 1=first: a code means one of A, B, tie, none"),
        ({"outcome_votes": {"1": "tie"}}, "--outcome-vote 1=tie: a code means one of A, B, none"),
        ({"scale": "1:7"}, "say which response the low end prefers: --low A"),
        ({"scale": "7:1", "low": "A"}, "LOW must be below HIGH"),
        ({"scale": "1-7", "low": "A"}, "write LOW:HIGH, for example --scale 1:7"),
        ({"low": "A"}, "it needs --scale LOW:HIGH"),
        ({"one_hot": {"A": "x"}}, "needs a column for A and one for B"),
        ({"one_hot": {"C": "x"}}, "write A=COLUMN, B=COLUMN or tie=COLUMN"),
        ({"duplicates": "first"}, "valid are error, last and mean"),
        ({"columns": {"labeller": "x"}}, "did you mean 'labeler_id'"),
        ({"sclae": "1:7"}, "sclae"),
    ],
)
def test_wrong_options_say_what_is_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError) as error:
        ReadOptions.make(**options)
    assert message in str(error.value)


def test_codes_that_never_occur_are_noted() -> None:
    assert read(1, 2, votes={1: "A", 2: "B", 3: "tie"}).reading.notes == ("--vote 3=...: no row has that value",)


def test_percents_and_decimal_commas() -> None:
    assert read("70%", "5 %", name="score").report.tolist() == pytest.approx([0.7, 0.05])
    book = Codebook("report", decimal_comma=True)
    assert book.read("0,7", 1) == 0.7
    assert math.isnan(Codebook("report").read("0,7", 1)), "only where semicolons separate the columns"


# ---- one column per option, and the text that won


def test_one_column_per_option() -> None:
    rows = [
        {"pair_id": "p", "labeler_id": f"w{k}", "a": a, "b": b, "t": t}
        for k, (a, b, t) in enumerate([(1, 0, 0), ("false", "true", ""), (0, 0, "x"), ("", None, 0)])
    ]
    annotations = read_annotations(rows, one_hot={"A": "a", "B": "b", "tie": "t"})
    assert annotations.report.tolist() == [1.0, 0.0, 0.5]
    assert annotations.reading.abstained == 1
    assert [value.value for value in annotations.reading.values] == ["(empty)", "a", "b", "t"]
    with pytest.raises(AnnotationError, match="row 1: a and b are both chosen"):
        read_annotations([rows[0] | {"b": 1}], one_hot={"A": "a", "B": "b"})
    with pytest.raises(AnnotationError, match="row 1: column 'a' of --one-hot holds 2, neither 0 or 1 nor"):
        read_annotations([rows[0] | {"a": 2}], one_hot={"A": "a", "B": "b"})
    with pytest.raises(AnnotationError, match="row 1: no 'x'"):
        read_annotations(rows, one_hot={"A": "x", "B": "b"})


def test_the_winner_may_be_the_text_itself() -> None:
    rows = table("Paris", "Rome", "tie", "0.5")
    rows = [row | {"prompt": "?", "response_a": "Paris", "response_b": "Rome"} for row in rows]
    assert read_annotations(rows).report.tolist() == [1.0, 0.0, 0.5, 0.5]
    numbers = [row | {"report": 1, "response_a": "0", "response_b": "1"} for row in rows[:1]]
    assert read_annotations(numbers).report.tolist() == [1.0], "a number is never taken for a text"


def test_a_code_that_means_both_sides_is_two_rows_of_the_table() -> None:
    """``y chosen`` is the second of one pair and the first of another."""
    options = [{"id": name, "text": name} for name in "xyz"]
    record = {"text": "?", "options": options, "accept": ["y"], "answer": "accept", "_annotator_id": "w"}
    record |= {"_task_hash": 1}
    values = read_annotations([record]).reading.values
    assert sorted((v.value, v.meaning) for v in values) == [
        ("y accepted", "response A better"),
        ("y accepted", "response B better"),
    ]


# ---- what was read, as data and in Python


def test_the_reading_is_data() -> None:
    rows = table("A", "b", "tie", "", "A")
    rows += [rows[0] | {"labeler_id": "w5", "pair_id": "q"}]
    reading = aggregate_table(rows).reading
    assert (reading.pairs, reading.labelers, reading.rows, reading.reports, reading.abstained) == (2, 6, 6, 5, 1)
    assert {(v.value, v.rows, v.meaning) for v in reading.values} == {
        ("A", 3, "response A better"),
        ("b", 1, "response B better"),
        ("tie", 1, "a tie"),
        ("(empty)", 1, "did not judge"),
    }
    assert reading.as_dict()["values"][0]["value"] == "A"
    assert "w0 on pair p: A is better than B." in str(reading)


def test_python_takes_the_same_options() -> None:
    frame = pd.DataFrame(table(1, 2, 0, name="vote")).assign(aspect="overall")
    frame = pd.concat([frame, frame.assign(aspect="style", vote=2)])
    result = aggregate_table(
        frame, columns={"report": "vote"}, votes={1: "A", 2: "B", 0: "tie"}, only={"aspect": "overall"}, rule="mean"
    )
    assert result.soft_labels["soft_label"].tolist() == [0.5]
    assert result.reading.left_out == 3


def test_only_is_checked() -> None:
    with pytest.raises(AnnotationError, match=r"no column 'aspct' .for --only. .did you mean 'aspect'"):
        read_annotations([row | {"aspect": "x"} for row in table("A")], only={"aspct": "x"})
    with pytest.raises(AnnotationError, match="there are no reports in it: --only left out all 1 records"):
        read_annotations([row | {"aspect": "x"} for row in table("A")], only={"aspect": "y"})


# ---- notes


def test_all_below_chance_is_noted_and_one_good_labeler_is_enough_to_stay_silent() -> None:
    def rows(good: bool) -> list[dict[str, Any]]:
        return [
            {"pair_id": f"p{t}", "labeler_id": who, "report": "A" if right == (t % 2) else "B", "outcome": t % 2}
            for t in range(12)
            for who, right in (("ann", 0), ("bob", 1 if good else 0))
        ]

    assert any("every labeler is below chance" in note for note in read_annotations(rows(False)).reading.notes)
    assert not read_annotations(rows(True)).reading.notes


def test_notes_on_pairs() -> None:
    texts = {"prompt": "?", "response_a": "x", "response_b": "y"}
    rows = [row | texts | {"pair_id": f"{row['labeler_id']}-p"} for row in table("A", "B", "A")]
    notes = read_annotations(rows).reading.notes
    assert "stand under several ids 2 times (w0-p and w1-p)" in notes[0]
    assert "no pair has two reports" in notes[1]
    assert read_annotations(rows, pairs_by_text=True).reading.notes == ()


def test_a_column_found_in_another_case_is_noted() -> None:
    rows = [{"Pair_ID": "p", "Labeler_id": "w", "vote": "A"}]
    annotations = read_annotations(rows, columns={"report": "Vote"})
    assert annotations.report.tolist() == [1.0]
    assert len([note for note in annotations.reading.notes if "differs in case only" in note]) == 3
