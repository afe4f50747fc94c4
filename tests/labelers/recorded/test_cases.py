"""Annotation files as they are in the world: each is read right, or refused with options that, pasted, read it right.

The table says what an owner would type first, which of the printed lines of options is the right one for that file
(one per refusal), and P(A better) of every pair under the plain mean, worked out by hand from the file. A refusal is
answered as a user would: the line is taken from the message, split as a shell splits it, and added to the command.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from truthful_rlhf.pipeline.commands.aggregate import aggregate
from truthful_rlhf.pipeline.commands.audit_plan import audit_plan

CASES = Path(__file__).parent / "cases"

app = typer.Typer(pretty_exceptions_enable=False)
app.command("aggregate")(aggregate)
app.command("audit-plan")(audit_plan)

THREE = {"p1": 2 / 3, "p2": 1 / 6, "p3": 0.5}
"""w0, w1, w2 voted A, A, B on p1; B, B, tie on p2; A, B, tie on p3."""


def scale(x: float) -> float:
    """P(A better) at position x of a graded scale: 19 to 1 at its ends, equal steps of log-odds."""
    return 19**x / (1 + 19**x)


def graded(a: float, b: float) -> dict[str, float]:
    """The labels of `THREE` where a vote for A stands at position a, one for B at position b, and a tie at 0."""
    a, b = scale(a), scale(b)
    return {"p1": (2 * a + b) / 3, "p2": (2 * b + 0.5) / 3, "p3": (a + b + 0.5) / 3}


class Case(NamedTuple):
    """One file: what is typed, which printed options are pasted, and what is right."""

    file: str
    expected: dict[str, float] | list[float]
    """P(A better) by pair, or sorted where ids are made up from the texts."""
    typed: str = ""
    pasted: tuple[str, ...] = ()


EACH = {"p1": 1.0, "p2": 1.0, "p3": 1.0}
LONG = "--column labeler_id=annotator"
CASES_TABLE = [
    # 1. votes in other codes
    Case("codes_1_2_0.jsonl", THREE, pasted=("--vote 1=A --vote 2=B --vote 0=tie",)),
    Case("codes_1_2_3.jsonl", THREE, pasted=("--vote 1=A --vote 2=B --vote 3=tie",)),
    Case("codes_minus1_first.jsonl", THREE, pasted=("--vote -1=A --vote 1=B --vote 0=tie",)),
    Case("strength_minus3_first.jsonl", graded(1, -2 / 3), pasted=("--scale -3:3 --low A",)),
    Case("likert_1_7.jsonl", graded(1, -1), pasted=("--scale 1:7 --low A",)),
    Case("range_1_2.jsonl", graded(0.96, -0.94), pasted=("--scale 1:2 --low A",)),
    Case("words_arena_hard.jsonl", graded(1, -1 / 3)),
    Case("words_abc.jsonl", THREE),
    Case("words_answer.jsonl", THREE),
    Case("words_strength.jsonl", graded(1, -1 / 3)),
    Case(
        "index_0_first.jsonl",
        THREE,
        pasted=(
            "--column report=preferred --column labeler_id=annotator --column response_a=response_0 "
            "--column response_b=response_1",
            "--vote 0=A --vote 1=B --vote 0.5=tie",
        ),
    ),
    Case(
        "arena_both_bad.jsonl",
        {"b0": 1, "b1": 0.5, "b2": 0.5, "b3": 0},
        pasted=("--column labeler_id=evaluation_session_id",),
    ),
    # 2. Label Studio
    Case("labelstudio_two_controls.json", {"101": 2 / 3, "102": 0.0, "103": 0.5}),
    Case("labelstudio_two_pairwise.json", {"1": 1.0, "2": 1.0}, pasted=("--column report=helpful",)),
    Case("labelstudio_min.json", {"1": 2 / 3, "2": 0.0}),
    Case("labelstudio_min.csv", {"1": 2 / 3, "2": 0.0}),
    Case("labelstudio_ranker.json", {"1": 1.0}),
    # 3. one column per option; wide, nested, ranked
    Case(
        "lmsys_onehot.csv",
        THREE,
        pasted=(
            "--column labeler_id=annotator --column pair_id=id --one-hot A=winner_model_a --one-hot B=winner_model_b "
            "--one-hot tie=winner_tie",
        ),
    ),
    Case(
        "mturk_onehot.csv",
        THREE,
        pasted=(
            "--column labeler_id=WorkerId --column response_a=Input.first --column response_b=Input.second "
            "--column pair_id=HITId --column prompt=Input.prompt --one-hot A=Answer.choice.A "
            "--one-hot B=Answer.choice.B --one-hot tie=Answer.choice.tie",
        ),
    ),
    Case(
        "potato_onehot.tsv",
        THREE,
        pasted=(
            "--column labeler_id=user --column pair_id=instance_id --one-hot A=preference:::A "
            "--one-hot B=preference:::B --one-hot tie=preference:::tie",
        ),
    ),
    Case(
        "lmsys_onehot.csv",
        THREE,
        typed=f"{LONG} --column pair_id=id --column report=winner_model_a",
        pasted=("--one-hot A=winner_model_a --one-hot B=winner_model_b --one-hot tie=winner_tie",),
    ),
    Case(
        "mturk_onehot.csv",
        THREE,
        typed="--column report=Answer.choice.B",
        pasted=("--one-hot A=Answer.choice.A --one-hot B=Answer.choice.B --one-hot tie=Answer.choice.tie",),
    ),
    Case(
        "potato_onehot.tsv",
        THREE,
        typed="--column report=preference:::A",
        pasted=("--one-hot A=preference:::A --one-hot B=preference:::B --one-hot tie=preference:::tie",),
    ),
    Case(
        "index_0_first.jsonl",
        THREE,
        typed=f"{LONG} --column report=preferred",
        pasted=("--vote 0=A --vote 1=B --vote 0.5=tie",),
    ),
    Case(
        "wide_annotators.jsonl",
        {"0": 2 / 3, "1": 1 / 6, "2": 0.5},
        pasted=(
            "--column 'report=annotator*' --column response_a=response1 --column response_b=response2 "
            "--column pair_id=idx --column prompt=instruction",
            "--vote 1=A --vote 2=B --vote 0=tie",
        ),
    ),
    Case(
        "nested_annotations.jsonl",
        {p: (0.95 + 0.5) / 2 for p in ("p1", "p2", "p3")},
        pasted=(
            "--column labeler_id=annotations.evaluator --column report=annotations.overall_pref "
            "--column response_a=completion_a --column response_b=completion_b --column pair_id=comparison_id "
            "--column prompt=text",
        ),
    ),
    Case("chosen_rejected_by_annotator.jsonl", [2 / 3] * 3, pasted=(LONG,)),
    Case("ranking_lists.jsonl", [0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1], pasted=(LONG,)),
    Case("argilla2_three_responses.json", {"r1:1-2": 1.0, "r1:1-3": 0.0, "r1:2-3": 0.0}),
    Case("winner_is_a_name.jsonl", [0.5] * 3),
    Case("mtbench_gpt4_pair.jsonl", [0.25, 0.5, 1.0, 1.0]),
    # 4. the same labeler twice
    Case("both_orders_one_judge.jsonl", {"p1": 1.0, "p2": 0.5, "p3": 0.0}, pasted=("--duplicates mean",)),
    Case("corrected_vote_newest_first.jsonl", {"p1": 1.0}, typed="--order t", pasted=("--duplicates last",)),
    Case("aspect_rows.jsonl", EACH, pasted=("--only aspect=overall",)),
    Case(
        "aspect_rows.jsonl",
        {f"p{k}:{aspect}": p for k in (1, 2, 3) for aspect, p in (("overall", 1.0), ("style", 0.0))},
        pasted=("--topic-column aspect",),
    ),
    # 5. which pair is which
    Case(
        "swapped_responses_unmapped.jsonl",
        [1.0, 1.0, 1.0],
        pasted=(
            "--column report=vote --column labeler_id=judge --column response_a=first_id --column response_b=second_id "
            "--column prompt=question",
        ),
    ),
    Case(
        "swapped_responses_unmapped.jsonl",
        EACH,
        typed="--column pair_id=question --column labeler_id=judge --column report=vote",
        pasted=("--column response_a=first_id --column response_b=second_id",),
    ),
    Case(
        "three_responses_one_prompt_id.jsonl",
        [0, 0, 0, 1, 1, 1, 1, 1, 1],
        pasted=(
            "--column pair_id=prompt_id",
            "--column response_a=pick --column response_b=other --column prompt=prompt_id --pairs-by-text",
        ),
    ),
    Case("same_texts_other_ids.jsonl", [0.0, 2 / 3, 2 / 3]),
    Case(
        "battles_no_question_id.jsonl",
        {"1700000000": 1, "1700000001": 0, "1700000002": 1, "1700000003": 0.5, "1700000004": 1, "1700000005": 0},
        pasted=("--column pair_id=tstamp",),
    ),
    # 6. Argilla
    Case("argilla2_ranking.json", {"rec-p1": 2 / 3, "rec-p2": 0.0, "rec-p3": 2 / 3}),
    Case("argilla2_status_flat.json", {"rec-p1": 1.0, "rec-p2": 1.0, "rec-p3": 1.0}),
    Case("argilla1_records.json", [0.0, 2 / 3, 2 / 3]),
    Case("argilla1_hub.jsonl", [0.0, 2 / 3, 2 / 3]),
    # 7. names, times, encodings
    Case("ids_float.csv", {"1": 0.5, "2": 1.0}, pasted=("--only 'labeler_id=*'",)),
    Case(
        "column_case.csv",
        {p: 0.5 for p in ("p1", "p2", "p3")},
        pasted=("--column report=vote --column labeler_id=judgeId --column pair_id=segmentId",),
    ),
    Case(
        "column_case.csv",
        {p: 0.5 for p in ("p1", "p2", "p3")},
        typed="--column report=vote --column labeler_id=judgeID --column pair_id=segmentID",
    ),
    Case(
        "sparse_first_row.jsonl",
        {"p1": 1.0, "p2": 0.0},
        pasted=("--column report=pref --column labeler_id=annotator",),
    ),
    Case("sparse_first_row.jsonl", {"p1": 1.0, "p2": 0.0}, typed=f"{LONG} --column report=pref"),
    Case(
        "mturk_times.csv",
        {p: 0.5 for p in ("p1", "p2", "p3")},
        typed="--order SubmitTime",
        pasted=("--column report=vote --column labeler_id=WorkerId --column pair_id=HITId",),
    ),
    Case("mturk_times.csv", {p: 0.5 for p in ("p1", "p2", "p3")}, typed="--order SubmitTime --column report=vote"),
    Case("excel_eu.csv", {"p1": 0.45}),
    Case("excel_utf16.tsv", {"p1": 1.0}),
    Case("pandas_to_json.json", {"p1": 0.5}),
    Case("top_level_data.json", {"p1": 1.0}),
    Case("prodigy_choice.jsonl", [1.0, 1.0, 1.0]),
]


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing of reports, which takes most of the time and is tested elsewhere."""
    monkeypatch.setattr("truthful_rlhf.pipeline.aggregate.job.write_html", lambda *_: None)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", "NO_COLOR": "1"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def option_lines(output: str) -> list[list[str]]:
    """The printed options, split as a shell splits them."""
    return [shlex.split(line) for line in output.splitlines() if line.startswith("    --")]


def labels(out: Path) -> dict[str, float]:
    """P(A better) by pair."""
    table = pd.read_parquet(out / "soft_labels.parquet")
    p = table["soft_label"].where(table["chosen_is_a"], 1.0 - table["soft_label"])
    return dict(zip(table["pair_id"], p, strict=True))


@pytest.mark.parametrize("case", CASES_TABLE, ids=[f"{k}-{case.file}" for k, case in enumerate(CASES_TABLE)])
def test_a_file_is_read_right_or_its_refusal_says_how(case: Case, tmp_path: Path) -> None:
    command = ["aggregate", str(CASES / case.file), "--rule", "mean", "--out", str(tmp_path), *shlex.split(case.typed)]
    for line in case.pasted:
        refused = run(*command)
        assert refused.exit_code == 2, f"read without asking:\n{refused.output}"
        assert not (tmp_path / "soft_labels.parquet").exists()
        assert shlex.split(line) in option_lines(refused.output), refused.output
        command += shlex.split(line)
    result = run(*command)
    assert result.exit_code == 0, result.output
    found = labels(tmp_path)
    if isinstance(case.expected, dict):
        assert found == pytest.approx(case.expected)
    else:
        assert sorted(found.values()) == pytest.approx(sorted(case.expected))


def test_every_case_is_in_the_table() -> None:
    files = {path.name for path in CASES.iterdir() if path.name != "README.md"}
    special = {"gold_index_0_first.jsonl", "crowdkit_label_not_in_pair.csv"}
    assert files == {case.file for case in CASES_TABLE} | special
    assert len(files) == 49


def test_another_reading_gives_another_answer(tmp_path: Path) -> None:
    """Negative control: the other printed option, pasted, gives the other sides; the table above can fail."""
    file, out = str(CASES / "codes_1_2_0.jsonl"), str(tmp_path)
    refused = run("aggregate", file, "--out", out)
    other = shlex.split("--vote 2=A --vote 1=B --vote 0=tie")
    assert other in option_lines(refused.output)
    assert run("aggregate", file, "--out", out, *other).exit_code == 0
    assert labels(tmp_path) == pytest.approx({pair: 1 - p for pair, p in THREE.items()})


def test_a_label_that_is_neither_item_is_refused(tmp_path: Path) -> None:
    result = run("aggregate", str(CASES / "crowdkit_label_not_in_pair.csv"), "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "row 1: label 'A' is neither 'left' nor 'right' item: left is 'B', right is 'C'" in result.output


def test_an_outcome_of_the_wrong_side_is_noticed_and_can_be_turned(tmp_path: Path) -> None:
    command = [
        "aggregate",
        str(CASES / "gold_index_0_first.jsonl"),
        "--out",
        str(tmp_path),
        "--gold-column",
        "better_index",
    ]
    result = run(*command)
    assert "every labeler is below chance on the outcomes" in result.output
    turn = shlex.split("--outcome-vote 0=A --outcome-vote 1=B")
    assert turn in option_lines(result.output)
    turned = run(*command, *turn)
    assert turned.exit_code == 0
    assert "below chance" not in turned.output
    rows = pd.read_json(CASES / "gold_index_0_first.jsonl", lines=True).drop_duplicates("pair_id")
    assert labels(tmp_path) == pytest.approx(dict(zip(rows["pair_id"], 1.0 - rows["better_index"], strict=True)))
    assert "No labeler shows a suspicious pattern" in " ".join(turned.output.split())


def test_dry_run_says_what_was_read_and_writes_nothing(tmp_path: Path) -> None:
    options = ["--vote", "1=A", "--vote", "2=B", "--vote", "0=tie", "--dry-run", "--out", str(tmp_path / "out")]
    result = run("aggregate", str(CASES / "codes_1_2_0.jsonl"), *options)
    assert result.exit_code == 0
    assert "3 pairs, 3 labelers, 9 reports" in result.output
    for line in ("1 response A better 3", "2 response B better 4", "0 a tie 2"):
        assert f"report {line}" in [" ".join(text.split()) for text in result.output.splitlines()], result.output
    assert 'w0 on pair p1, "Name a colour": A ("Blue") is better than B ("Table").' in result.output
    assert not (tmp_path / "out").exists()


def test_audit_plan_reads_with_the_same_options(tmp_path: Path) -> None:
    file, plan = str(CASES / "codes_1_2_0.jsonl"), str(tmp_path / "plan.csv")
    assert run("audit-plan", file, "--budget", "1", "--out", plan).exit_code == 2
    votes = ["--vote", "1=A", "--vote", "2=B", "--vote", "0=tie"]
    assert run("audit-plan", file, "--budget", "1", "--out", plan, *votes).exit_code == 0
