"""A grid run in pieces and collected gives the tables of the grid that was run at once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.evidence import finished, main, merged, summary
from pipeline.cli import app
from tests.pipeline.test_grid import CONTENT


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evidence") / "grid.yaml"
    content = CONTENT | {"model": {"name_or_path": str(tiny_model_folder)}, "policy": {"method": "dpo"}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def run(config: Path) -> Path:
    out = config.parent / "run"
    result = CliRunner().invoke(app, ["compare", str(config), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


def test_pieces_give_the_table_of_the_whole(config: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second seed comes from a folder of its own, as from another machine; the first is collected twice."""
    whole = pd.read_csv(run / "results.csv")
    csv, other = config.parent / "grid.csv", config.parent / "other"
    arguments = ["compare", str(config), "seeds=[1]", "--out", str(other)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    rows = finished(str(config), run)
    rows[rows["seed"] == 0].to_csv(csv, index=False)
    for _ in range(2):
        main(["collect", str(config), str(other), str(csv)])
    assert len(pd.read_csv(csv)) == 2 * len(whole)
    table = pd.DataFrame(summary(pd.read_csv(csv)))
    assert table[["panel", "rule"]].equals(whole[["panel", "rule"]])
    for name in ("gold", "gold_se", "kl", "win_rate", "label_accuracy", "brier", "gap"):
        assert table[name].tolist() == pytest.approx(whole[name].tolist(), abs=1e-4, nan_ok=True), name
    ends = table["gap_interval"].tolist()
    assert [end for interval in ends for end in interval] == pytest.approx(
        [float(end) for interval in whole["gap_interval"] for end in interval.strip("[]").split(",")], abs=1e-4
    )
    capsys.readouterr()
    main(["show", str(csv), "--figures", str(config.parent / "figures")])
    shown = capsys.readouterr().out
    assert "| bloc |" in shown
    assert "robust mean" in shown


def test_a_seed_that_is_not_finished_is_left_out(config: Path, run: Path, tmp_path: Path) -> None:
    evaluation = run / "seed-1/bloc/mean/dpo/evaluation.json"
    content = evaluation.read_text()
    evaluation.unlink()
    try:
        assert set(finished(str(config), run)["seed"]) == {0}
    finally:
        evaluation.write_text(content)
    assert set(finished(str(config), run)["seed"]) == {0, 1}


def test_a_condition_without_its_pair_is_refused(config: Path, run: Path) -> None:
    rows = finished(str(config), run)
    assert len(merged(rows, rows)) == len(rows)
    with pytest.raises(ValueError, match=r"bloc.*mean.*has seeds \[1\]"):
        summary(rows.drop(rows[(rows["seed"] == 0) & (rows["panel"] == "bloc") & (rows["rule"] == "mean")].index))
