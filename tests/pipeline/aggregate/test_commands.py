"""``truthful-rlhf aggregate`` and ``audit-plan`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.pipeline.aggregate.campaigns import rows_of, votes
from truthful_rlhf.pipeline.commands.aggregate import aggregate
from truthful_rlhf.pipeline.commands.audit_plan import audit_plan

app = typer.Typer(pretty_exceptions_enable=False)
app.command("aggregate")(aggregate)
app.command("audit-plan")(audit_plan)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "300", "NO_COLOR": "1"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    reports, outcomes = votes(80, [0.9, 0.8, 0.6], np.random.default_rng(0))
    path = tmp_path / "votes.jsonl"
    rows = rows_of(reports, outcomes, topics=["law" if t % 2 else "maths" for t in range(80)])
    for k, row in enumerate(rows):
        row |= {"gold": row.pop("outcome"), "at": 1000 - k}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_aggregate_with_every_option(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--rule", "online_weighted", "--labels", "online", "--gold-column", "gold", "--audit-rate", 0.5]
    options += ["--order", "at", "--topic-column", "topic", "--eta", 0.1, "--seed", 3, "--format", "long"]
    options += ["--column", "labeler_id=labeler_id", "--duplicates", "last", "--pairs-by-text"]
    result = call("aggregate", file, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "online_weighted" in result.output
    table = pd.read_parquet(out / "soft_labels.parquet")
    assert len(table) == 80
    assert table["audited"].sum() == 40
    assert table["prompt"].iloc[0] == "prompt 79", "ordered by time"
    assert (out / "report.html").exists()


def test_without_outcomes_it_says_so_and_suggests_what_to_do(file: Path, tmp_path: Path) -> None:
    result = call("aggregate", file, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "No outcome is known" in result.output
    assert "audit-plan" in result.output
    assert "dawid_skene" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "means"], "did you mean 'mean'"),
        (["--gold-column", "golf"], "did you mean 'gold'"),
        (["--column", "labeler_id"], "write NAME=SOURCE"),
        (["--column", "labeler=at"], "did you mean 'labeler_id'"),
        (["--labels", "last"], "valid are final, online, reweighted, recalibrated, stacked"),
        (["--duplicates", "first"], "valid are error, last and mean"),
        (["--format", "argila"], "did you mean 'argilla'"),
        (["--gold-column", "gold", "--audit-rate", "0"], "audit rate must be in"),
        (["--topic-column", "labeler_id"], "--topic-column labeler_id: it is the column labeler_id"),
        (["--topic-column", "report"], "--topic-column report: it is the column report"),
    ],
)
def test_a_wrong_option_gets_one_clear_line(options: list[str], message: str, file: Path, tmp_path: Path) -> None:
    result = call("aggregate", file, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists(), "nothing is written before the input is known to be good"


def test_a_missing_file_and_a_folder_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    assert "did you mean 'votes.jsonl'" in call("aggregate", tmp_path / "vote.jsonl").output
    result = call("aggregate", file, "--out", file / "below")
    assert result.exit_code == 2
    assert "votes.jsonl" in result.output


def test_audit_plan_and_back_again(file: Path, tmp_path: Path) -> None:
    """The loop of a campaign: plan, have the pairs checked, write the outcomes into the table, aggregate."""
    plan = tmp_path / "plan.jsonl"
    result = call("audit-plan", file, "--budget", 20, "--topic-column", "topic", "--out", plan, "--seed", 4)
    assert result.exit_code == 0, result.output
    assert "Secret seed: 4" in result.output
    drawn = pd.read_json(plan, lines=True)
    assert len(drawn) == 20
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    checked = set(drawn["pair_id"])
    told = drawn.set_index("pair_id")[["audit_probability", "audit_floor", "audit_wave"]].to_dict("index")
    for row in rows:
        row["outcome"] = row["gold"] if row["pair_id"] in checked else None
        row |= told.get(row["pair_id"], {})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("aggregate", file, "--out", tmp_path / "out").exit_code == 0
    table = pd.read_parquet(tmp_path / "out" / "soft_labels.parquet")
    assert set(table["pair_id"][table["audited"]]) == checked


def test_audit_plans_without_a_seed_differ(file: Path, tmp_path: Path) -> None:
    plans = []
    for name in ("a.csv", "b.csv"):
        assert call("audit-plan", file, "--budget", 20, "--out", tmp_path / name).exit_code == 0
        plans.append((tmp_path / name).read_text())
    assert plans[0] != plans[1]
    result = call("audit-plan", file, "--budget", 81, "--out", tmp_path / "c.csv")
    assert result.exit_code == 2
    assert "between 1 and the 80 pairs" in result.output


def test_a_planned_audit_is_weighted_in_the_report(file: Path, tmp_path: Path) -> None:
    """The same outcomes with and without their chances: the figures differ, and the report says on what they rest."""
    plan = tmp_path / "plan.jsonl"
    options = ["--budget", 20, "--design", "planned", "--seed", 4, "--out", plan]
    assert call("audit-plan", file, *options).exit_code == 0
    told = pd.read_json(plan, lines=True).set_index("pair_id")[["audit_probability", "audit_floor", "audit_wave"]]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["outcome"] = row["gold"] if row["pair_id"] in told.index else None
    figures = {}
    for name in ("plain", "weighted"):
        if name == "weighted":
            rows = [row | told.to_dict("index").get(row["pair_id"], {}) for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert call("aggregate", file, "--out", tmp_path / name).exit_code == 0
        figures[name] = json.loads((tmp_path / name / "labelers.json").read_text())
    plain, weighted = (figures[name]["accuracy"][0] for name in ("plain", "weighted"))
    assert weighted["n"] == plain["n"] == plain["n_effective"] > 1.1 * weighted["n_effective"]
    votes_of = pd.DataFrame(rows)
    losses = (votes_of.groupby("pair_id")["report"].mean() - votes_of.groupby("pair_id")["outcome"].first()) ** 2
    losses, inverse = losses[told.index], 1.0 / told["audit_probability"]
    assert plain["brier"] == pytest.approx(losses.mean())
    assert weighted["brier"] == pytest.approx((inverse * losses).sum() / inverse.sum())
    assert abs(weighted["brier"] - plain["brier"]) > 0.01, "disputed pairs are harder, and are drawn more often"
    assert "weighted by their chance" in (tmp_path / "weighted" / "report.html").read_text()
    assert "weighted by their chance" not in (tmp_path / "plain" / "report.html").read_text()


@pytest.mark.parametrize("command", ["aggregate", "audit-plan"])
def test_help_has_examples(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"truthful-rlhf {command} votes" in result.output


def test_how_many_more(file: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.csv"
    options = ["--gold-column", "gold", "--seed", 1, "--out", plan]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(json.dumps(row | {"gold": row["gold"] if k < 60 else None}) + "\n" for k, row in enumerate(rows))
    )
    result = call("audit-plan", file, "--labeler", "l00", "--accuracy-within", 0.1, *options)
    assert result.exit_code == 0, result.output
    assert "the accuracy of l00 is known to +-0.1: about" in result.output
    assert not plan.exists()
    for wrong, message in (
        (["--labeler", "l00"], "write both"),
        (["--labeler", "l0", "--accuracy-within", 0.1], "did you mean"),
        (["--labeler", "l00", "--accuracy-within", 0.9], "half-width"),
    ):
        result = call("audit-plan", file, *wrong, *options)
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.slow
def test_how_many_more_for_labels(file: Path) -> None:
    result = call("audit-plan", file, "--labels-within", 0.05)
    assert result.exit_code == 2
    assert "audit at least 5 pairs first" in result.output
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(json.dumps(row | {"gold": row["gold"] if k < 60 else None}) + "\n" for k, row in enumerate(rows))
    )
    result = call("audit-plan", file, "--labels-within", 0.05, "--gold-column", "gold", "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "95 % interval" in result.output
