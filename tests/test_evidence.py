"""A grid run in pieces and collected gives the tables of the grid that was run at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks.evidence import ahead_table, finished, firmness_table, main, merged, summary
from benchmarks.evidence_figures import QUESTIONS
from tests.pipeline.experiment.test_grid import compare, write_grid

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("evidence"), tiny_model_folder, policy={"method": "dpo"})


@pytest.fixture(scope="module")
def run(config: Path) -> Path:
    return compare(config, config.parent / "run")


def test_pieces_give_the_table_of_the_whole(config: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second seed comes from a folder of its own, as from another machine; the first is collected twice."""
    whole = pd.read_csv(run / "results.csv")
    csv = config.parent / "grid.csv"
    other = compare(config, config.parent / "other", "seeds=[1]")
    rows = finished(str(config), run)
    rows[rows["seed"] == 0].to_csv(csv, index=False)
    for _ in range(2):
        main(["collect", str(config), str(other), str(csv)])
    assert len(pd.read_csv(csv)) == 2 * len(whole)
    table = pd.DataFrame([row.record() for row in summary(pd.read_csv(csv))])
    assert table[["panel", "rule"]].equals(whole[["panel", "rule"]])
    for name in ("gold", "gold_se", "kl", "win_rate", "label_accuracy", "brier", "gap"):
        assert table[name].tolist() == pytest.approx(whole[name].tolist(), abs=1e-4, nan_ok=True), name
    ends = table["gap_interval"].tolist()
    assert [end for interval in ends for end in interval] == pytest.approx(
        [float(end) for interval in whole["gap_interval"] for end in interval.strip("[]").split(",")], abs=1e-4
    )
    capsys.readouterr()
    main(["show", str(csv)])
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


def test_one_method_of_several_is_collected(config: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second method with another learning rate in the same folder: each is collected by its name."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    several, folder = config.with_name("several.yaml"), config.parent / "several"
    methods = [{"method": "dpo"}, {"method": "dpo", "called": "faster", "learning_rate": 0.05}]
    several.write_text(yaml.safe_dump(content | {"policy": methods}), encoding="utf-8")
    shutil.copytree(run, folder)
    compare(several, folder, "seeds=[0]")
    dpo, faster = (finished(str(several), folder, method, ["seeds=[0]"]) for method in ("dpo", "faster"))
    first = finished(str(config), run)
    assert dpo.equals(first[first["seed"] == 0].reset_index(drop=True))
    assert faster[["panel", "rule"]].equals(dpo[["panel", "rule"]])
    assert faster["kl"][1:].gt(dpo["kl"][1:]).all(), "it moves further"
    for more, wanted in (([], "dpo, faster: say which"), (["--method", "ppo"], "dpo, faster: say which")):
        with pytest.raises(SystemExit):
            main(["collect", str(several), str(folder), str(config.parent / "none.csv"), *more])
        assert wanted in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["collect", str(several), str(folder), str(config.parent / "none.csv"), "seeds=[7]", "--method", "dpo"])
    assert "no seed has all of its conditions" in capsys.readouterr().err


def test_a_condition_without_its_pair_is_refused(config: Path, run: Path) -> None:
    rows = finished(str(config), run)
    assert len(merged(rows, rows)) == len(rows)
    with pytest.raises(ValueError, match=r"bloc.*mean.*has seeds \[1\]"):
        summary(rows.drop(rows[(rows["seed"] == 0) & (rows["panel"] == "bloc") & (rows["rule"] == "mean")].index))


def _table(gold: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """Three prompts with the same gold reward, by condition and seed."""
    rows = [
        {"seed": seed, "panel": panel, "rule": rule, "firmness": 0.5 + value / 4}
        | {f"gold on prompt {k}": value for k in range(3)}
        for (panel, rule), by_seed in gold.items()
        for seed, value in enumerate(by_seed)
    ]
    return pd.DataFrame(rows)


def test_ahead_is_the_difference_of_two_gaps_in_shares_of_the_truths_gain() -> None:
    shared = {("shared", "base"): [0.0, 0.2], ("shared", "truth"): [1.0, 1.2]}
    judged = {("crowd", "mean"): [0.3, 0.5], ("crowd", "other"): [0.8, 1.0], ("crowd", "unsteady"): [0.3, 1.5]}
    text = ahead_table(_table(shared | judged), "mean")
    assert "| crowd | 0.50 [0.50, 0.50] | 0.50 [0.00, 1.00] |" in text  # by hand: (.9 - .4) / 1; seeds 0 and 1
    assert "| crowd | 0.60 | 0.72 | 0.72 |" in firmness_table(_table(shared | judged))
    with pytest.raises(ValueError, match="no rule 'most'; it has mean, other, unsteady"):
        ahead_table(_table(shared | judged), "most")


def test_nothing_is_said_where_the_truth_gained_nothing() -> None:
    gold = {("shared", "base"): [0.4, 0.4], ("shared", "truth"): [0.4, 0.3]}
    gold |= {("crowd", "mean"): [0.3, 0.5], ("crowd", "other"): [0.1, 0.2]}
    assert "crowd" not in ahead_table(_table(gold), "mean")


def test_the_results_page_shows_the_tables_of_the_csvs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = ROOT / "docs" / "evidence"
    for csv in evidence.glob("*.csv"):
        shutil.copy(csv, tmp_path)
    main(["figures", str(tmp_path)])
    printed = capsys.readouterr().out
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) > 40
    assert rows == [line for line in page if line.startswith("|")]
    assert {path.name for path in tmp_path.glob("*.png")} == {path.name for path in evidence.glob("*.png")}
    assert {line.split("](evidence/")[1] for line in page if line.startswith("![")} == {
        f"{name}.png)" for name in QUESTIONS
    }
