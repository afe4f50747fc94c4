"""``truthful-rlhf audit``: controls gain, the mechanism's next share does not, and recorded labelers are audited."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from truthful_rlhf.aggregation.game.adaptive_lies import SmallGame, best_adaptive_lie
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.rule import Rule
from truthful_rlhf.pipeline.game.adaptive_audit import can_be_solved
from truthful_rlhf.pipeline.game.incentive_audit import best_by_search

SMALL = [
    "rules=[online_weighted, linear_weighted, mean]",
    "panels={trio: [{name: expert, count: 3, persona: {noise: 0.5}}, {name: leaning, persona: first_seen},"
    " {name: loud, persona: expert, strategy: exaggerate}]}",
    "strategies=[scale, flip]",
    "rounds=120",
    "search=6",
    "fresh=12",
    "exact_rounds=6",
]


def audit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("audit")
    return folder, audit(*SMALL, "--out", str(folder))


def test_it_prints_and_writes_tables_and_figure(run: tuple[Path, Result]) -> None:
    folder, result = run
    assert result.exit_code == 0, result.output
    for text in ("expected share after one round", "gain in taste", "gain in influence", "fresh campaigns"):
        assert text in result.output
    assert (folder / "gains.png").read_bytes().startswith(b"\x89PNG")
    gains = pd.read_csv(folder / "gains.csv")
    assert len(gains) == 3 * 2 * (3 * 2 + 1)  # rules, objectives, entries x classes and what the loud declare
    assert "gain in taste against mean, by strategy class" in (folder / "audit.md").read_text(encoding="utf-8")


def test_exact_zero_for_the_mechanism_and_gains_for_the_controls(run: tuple[Path, Result]) -> None:
    folder, _ = run
    largest = pd.read_csv(folder / "next_share.csv").groupby("rule")["largest"].max()
    assert largest["online_weighted"] < 1e-12
    assert largest["linear_weighted"] > 1e-5
    gains = pd.read_csv(folder / "gains.csv").set_index(["rule", "objective", "entry", "strategy"])
    assert gains.loc[("mean", "taste", "expert", "scale"), "low"] > 0.0
    assert gains.loc[("online_weighted", "influence", "expert", "flip"), "high"] < 0.0
    assert (gains["low"] <= gains["gain"]).all()
    assert (gains["gain"] <= gains["high"]).all()


def test_exact_games_of_two_labelers_stand_beside_the_search(run: tuple[Path, Result]) -> None:
    """The next share is exact under the mechanism; the mean leaves a fifth of taste in every round."""
    folder, result = run
    found = pd.read_csv(folder / "adaptive.csv").set_index(["rule", "objective"])["gain"]
    assert abs(found["online_weighted", "next_share"]) < 1e-12
    assert found["linear_weighted", "next_share"] > 1e-6  # control
    assert found["mean", "taste"] == pytest.approx(best_adaptive_lie("mean", "taste", SmallGame(6)).gain)
    assert found["mean", "taste"] > found["online_weighted", "taste"] > 0.01
    assert "gain of the best adaptive lie" in result.output
    assert "gain of the best adaptive lie" in (folder / "audit.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "solved"),
    [
        ({"name": "online_weighted", "options": {"label": "median", "eta": 0.2}}, True),
        ({"name": "examined"}, True),
        ({"name": "online_weighted", "options": {"fixed_share": 0.1}}, False),
        ({"name": "examined", "options": {"label": "median"}}, False),
        ({"name": "majority"}, False),
    ],
)
def test_only_rules_that_are_known_are_solved(rule: dict[str, object], solved: bool) -> None:
    assert can_be_solved(Rule.model_validate(rule)) is solved


def test_it_goes_on_without_doing_anything_twice(run: tuple[Path, Result]) -> None:
    folder, _ = run
    finished = {path: path.stat().st_mtime_ns for path in (folder / "gains").rglob("*.json")}
    assert audit(*SMALL, "--out", str(folder)).exit_code == 0
    assert finished == {path: path.stat().st_mtime_ns for path in (folder / "gains").rglob("*.json")}


def test_the_class_shown_is_chosen_where_it_was_searched() -> None:
    """The class with the greatest measured gain is not shown unless it looked best in the search."""
    place = {"panel": "p", "rule": "r", "entry": "e", "objective": "taste"}
    gains = pd.DataFrame(
        [
            {**place, "strategy": "scale", "search_gain": 0.1, "gain": 0.0},
            {**place, "strategy": "shift", "search_gain": 0.0, "gain": 0.1},
            {**place, "strategy": "declared", "search_gain": 0.5, "gain": 0.5},
        ]
    )
    assert best_by_search(gains)["strategy"].tolist() == ["scale"]


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recorded campaign of 300 pairs: three sincere people, one who flips, one who judged four pairs."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 1.5, 300)
    outcomes = (rng.random(300) < sigmoid(log_odds)).astype(int)
    views = {name: calibrated_beliefs(log_odds, 1.0, rng) for name in ("ann", "bob", "cid", "flip", "rare")}
    views["flip"] = 1.0 - views["flip"]
    path = tmp_path_factory.mktemp("annotations") / "people.jsonl"
    rows = (
        {
            "pair_id": f"p{t}",
            "prompt": f"prompt {t}",
            "response_a": "a",
            "response_b": "b",
            "labeler_id": name,
            "report": float(view[t]),
            "outcome": int(outcomes[t]),
        }
        for t in range(300)
        for name, view in views.items()
        if name != "rare" or t < 4
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_recorded_people_could_have_gained(annotations: Path, tmp_path: Path) -> None:
    result = audit(str(annotations), "rules=[online_weighted, mean]", "splits=2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "1 labelers have fewer than 8 reports" in result.output
    gains = pd.read_csv(tmp_path / "gains.csv").set_index(["rule", "objective", "labeler_id"])
    assert gains.loc[("online_weighted", "influence", "flip"), "low"] > 0.5
    assert gains.loc[("online_weighted", "influence", "ann"), "gain"] < 0.2  # control
    assert gains.loc[("mean", "influence", "flip"), "gain"] == 0.0
    assert np.isnan(gains.loc[("mean", "taste", "rare"), "gain"])
    assert "flip" in (tmp_path / "audit.md").read_text(encoding="utf-8")


def test_a_file_in_other_codes_is_read_as_by_aggregate(annotations: Path, tmp_path: Path) -> None:
    """Codes and names of columns are said by the options of aggregate; the best misreports are the same."""
    table = pd.read_json(annotations, lines=True, dtype={"report": float})
    table["report"] = (table["report"] > 0.5).astype(int)
    table.to_csv(tmp_path / "plain.csv", index=False)
    coded = table.assign(vote=2 - table["report"], expert=2 - table["outcome"]).drop(columns=["report", "outcome"])
    pd.concat([coded.assign(vote=9)[:3], coded]).to_csv(tmp_path / "coded.csv", index=False)
    options = ["rules=[online_weighted]", "objectives=[influence]", "splits=1", "--out"]
    assert audit(str(tmp_path / "plain.csv"), *options, str(tmp_path / "a")).exit_code == 0
    command = [str(tmp_path / "coded.csv"), *options, str(tmp_path / "b"), "--column", "report=vote"]
    command += ["--gold-column", "expert", "--outcome-vote", "1=A", "--outcome-vote", "2=B"]
    refused = audit(*command)
    assert refused.exit_code == 2
    assert not (tmp_path / "b").exists()
    command += ["--vote", "1=A", "--vote", "2=B", "--vote", "9=none"]
    result = audit(*command)
    assert result.exit_code == 0, result.output
    assert "did not judge" in result.output
    assert "response A better" in (tmp_path / "b" / "audit.md").read_text(encoding="utf-8")
    columns = ["labeler_id", "gain", "hindsight", "n_audited"]
    plain, read = (pd.read_csv(tmp_path / name / "gains.csv")[columns] for name in ("a", "b"))
    # the halves are drawn by the file's name; what does not depend on them is the same
    pd.testing.assert_frame_equal(plain.drop(columns="gain"), read.drop(columns="gain"))


def test_repeated_judgments_are_refused_with_the_ways_on(annotations: Path, tmp_path: Path) -> None:
    rows = annotations.read_text(encoding="utf-8").splitlines(keepends=True)
    twice = tmp_path / "twice.jsonl"
    twice.write_text("".join([*rows, rows[0]]), encoding="utf-8")
    command = [str(twice), "rules=[mean]", "objectives=[taste]", "splits=1", "--out", str(tmp_path / "out")]
    refused = audit(*command)
    assert refused.exit_code == 2
    assert "    --duplicates last" in refused.output.splitlines()
    result = audit(*command, "--duplicates", "last")
    assert result.exit_code == 0, result.output
    assert "1 replaced by a later one" in result.output


def test_without_outcomes_there_is_nothing_to_audit(annotations: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in annotations.read_text(encoding="utf-8").splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({**row, "outcome": None}) + "\n" for row in rows), encoding="utf-8")
    result = audit(str(bare), "rules=[mean]", "splits=1", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "nothing to audit" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objectives=[tast]"], "Input should be"),
        (["strategies=[scales]"], "did you mean 'scale'"),
        (["outcome_model=real"], "Input should be"),
        (["missing.jsonl"], "no such file"),
        (["fresh=1"], "greater than or equal to 2"),
        (["rules=[mean]", "--vote", "1=A"], "audit is a config, and votes say how an annotation file is read"),
        (["people.jsonl", "--panel", "honest"], "the labelers of people.jsonl are recorded: leave one out"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = audit(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
