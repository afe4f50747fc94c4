"""``truthful-rlhf audit``: controls gain, the mechanism's next share does not, and recorded labelers are audited."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.game.incentive_audit import best_by_search

SMALL = [
    "rules=[online_weighted, linear_weighted, mean]",
    "panels={trio: [{name: expert, count: 3, persona: {noise: 0.5}}, {name: leaning, persona: first_seen},"
    " {name: loud, persona: expert, strategy: exaggerate}]}",
    "strategies=[scale, flip]",
    "rounds=120",
    "search=6",
    "fresh=12",
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
        (["world=real"], "Input should be"),
        (["missing.jsonl"], "no such file"),
        (["fresh=1"], "greater than or equal to 2"),
        (["people.jsonl", "--panel", "honest"], "the labelers of people.jsonl are recorded: leave one out"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = audit(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
