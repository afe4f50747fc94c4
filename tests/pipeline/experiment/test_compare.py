"""``truthful-rlhf compare`` from the command line to the report, on a tiny model; killed and started again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from truthful_rlhf.aggregation.rules.step_size import regret_bound
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.storage.environment import write_environment

ROOT = Path(__file__).resolve().parents[3]
SMALL = [
    *("prompts.n_train=8", "prompts.n_held_out=6", "pairs.responses_per_prompt=2", "sampling.max_new_tokens=4"),
    *("evaluation.n_samples=2", "audit_rate=0.5"),
]


def command(model: Path, out: Path, *overrides: str) -> list[str]:
    return [
        *("compare", str(ROOT / "configs" / "quickstart.yaml"), f"model.name_or_path={model}", *SMALL, *overrides),
        *("--out", str(out)),
    ]


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed comparison."""
    out = tmp_path_factory.mktemp("compare") / "run"
    result = CliRunner().invoke(app, command(tiny_model_folder, out))
    assert result.exit_code == 0, result.output
    return out


def test_the_table_has_every_rule_and_the_references(finished: Path) -> None:
    table = pd.read_csv(finished / "results.csv").set_index("rule")
    assert list(table.index) == ["base", "truth", "mean", "median", "online_weighted"]
    assert table.loc["truth", "gap"] == 0.0
    np.testing.assert_allclose(table["gap"], table.loc["truth", "gold"] - table["gold"])
    assert table.loc["base", "kl"] == 0.0
    assert (table.loc["truth":, "kl"] != 0.0).all()


def test_label_accuracy_is_that_of_the_reports(finished: Path) -> None:
    """The mean of the written reports, measured here against the written true preferences."""
    reports = pd.read_parquet(finished / "seed-0/biased_majority/mean/reports.parquet")
    outcomes = pd.read_parquet(finished / "seed-0/outcomes.parquet")
    mean = reports.groupby("round")["report"].mean().to_numpy()
    right = (mean > 0.5) == (outcomes["p_truth"].to_numpy() > 0.5)
    measured = ~outcomes["audited"].to_numpy() & (outcomes["p_truth"].to_numpy() != 0.5)
    expected = right[measured].mean()
    table = pd.read_csv(finished / "results.csv").set_index("rule")
    assert table.loc["mean", "label_accuracy_unaudited"] == pytest.approx(expected)


def test_the_report_stands_alone(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", page)
    assert "<script" not in page
    for name in ("gold_reward", "weights_biased_majority_online_weighted", "regret_revealed_biased_majority"):
        assert (finished / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") >= 3
    assert "online_weighted" in page
    assert (finished / "results.md").read_text(encoding="utf-8").count("\n") == 7 + 1 + 5  # two tables


def test_the_drawn_regret_is_on_what_the_rules_saw_and_so_is_its_bound(
    finished: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition, written out: the audited pairs of the written reports, and the labels as stated."""
    drawn: dict[str, Any] = {}
    draw = figures.cumulative_regret

    def listen(curves: dict[str, Any], bounds: dict[str, Any]) -> bytes:
        drawn.update(curves=curves, bounds=bounds)
        return draw(curves, bounds)

    monkeypatch.setattr(figures, "cumulative_regret", listen)
    assert CliRunner().invoke(app, command(tiny_model_folder, finished)).exit_code == 0
    outcomes = pd.read_parquet(finished / "seed-0/outcomes.parquet")
    audited = outcomes["outcome"].where(outcomes["audited"])
    assert 0 < audited.notna().sum() < len(audited)
    for rule, curve in drawn["curves"].items():
        folder = finished / "seed-0/biased_majority" / rule
        reports = pd.read_parquet(folder / "reports.parquet").pivot(
            index="round", columns="labeler_id", values="report"
        )
        stated = pd.Series(json.loads((folder / "labels.json").read_text())["stated"])
        own = (stated - audited).pow(2).fillna(0).cumsum()
        others = reports.sub(audited, axis=0).pow(2).fillna(0).cumsum()
        np.testing.assert_allclose(curve, own - others.min(axis=1), atol=1e-12)
    assert [rule for rule, bound in drawn["bounds"].items() if bound is not None] == ["online_weighted"]
    assert (drawn["curves"]["online_weighted"] <= drawn["bounds"]["online_weighted"]).all()
    assert drawn["bounds"]["online_weighted"][-1] == pytest.approx(regret_bound(10, int(audited.notna().sum())))


def test_a_second_start_builds_nothing(finished: Path, tiny_model_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    result = CliRunner().invoke(app, command(tiny_model_folder, finished))
    assert result.exit_code == 0
    assert "▶" not in result.output
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")} == before


def test_another_audit_rate_keeps_pairs_and_base_only(finished: Path, tiny_model_folder: Path) -> None:
    result = CliRunner().invoke(app, command(tiny_model_folder, finished, "audit_rate=1.0"))
    assert "✓ seed-0/pairs" in result.output
    assert "▶ seed-0/biased_majority/mean/labels" in result.output
    result = CliRunner().invoke(app, command(tiny_model_folder, finished))  # the folder of the other tests, as it was
    assert result.exit_code == 0


def test_a_continued_run_names_the_commits_that_it_was_begun_with(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    write_environment(path, 1)
    here = json.loads(path.read_text())
    assert here["earlier_commits"] == []
    path.write_text(json.dumps(here | {"earlier_commits": ["first"], "commit": "second"}))
    write_environment(path, 1)
    again = json.loads(path.read_text())
    assert again["earlier_commits"] == ["first", "second"]
    assert again["commit"] == here["commit"]
