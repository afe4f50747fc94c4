"""A grid of two panels, rules and methods on a tiny model; Ray gives what the plain loop gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.experiment import Config, load_config
from truthful_rlhf.pipeline.experiment.conditions import GRID
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import build_labels
from truthful_rlhf.pipeline.experiment.evaluation import train_policy
from truthful_rlhf.pipeline.experiment.grid import cells, groups
from truthful_rlhf.pipeline.storage.artifacts import RunFolder

REWARD_MODEL = {"epochs": 1, "lora_rank": 4}
CONTENT = {
    "seeds": [0, 1],
    "prompts": {"n_train": 8, "n_held_out": 4},
    "sampling": {"max_new_tokens": 4},
    "pairs": {"responses_per_prompt": 2},
    "audit_rate": 0.5,
    "panels": {
        "honest": [{"name": "honest", "count": 3, "persona": "noisy"}],
        "bloc": [
            {"name": "bloc", "count": 2, "persona": "contrarian", "strategy": {"name": "exaggerate", "scale": 3}},
            {"name": "expert", "count": 1, "persona": "expert"},
        ],
    },
    "rules": [
        {"name": "mean", "labels": "online"},
        {"name": "mean", "labels": "online", "loss": "robust", "called": "robust mean"},
    ],
    "policy": [
        {"method": "dpo", "batch_size": 4},
        {"method": "best_of_n", "n": 2, "reward_model": REWARD_MODEL},
    ],
}


def write_grid(folder: Path, model: Path, **changes: Any) -> Path:
    """Write the config of a tiny grid and return its path."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(CONTENT | {"model": {"name_or_path": str(model)}} | changes))
    return path


def compare(config: Path, out: Path, *overrides: str) -> Path:
    """Run a grid to its end and return its run folder."""
    result = CliRunner().invoke(app, ["compare", str(config), *overrides, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def config_file(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("grid"), tiny_model_folder)


@pytest.fixture(scope="module")
def finished(config_file: Path) -> Path:
    return compare(config_file, config_file.parent / "run")


def test_the_table_is_the_whole_grid(finished: Path) -> None:
    table = pd.read_csv(finished / "results.csv")
    assert len(table) == 1 + 2 + 2 * 2 * 2  # base, truth with each method, panels x rules x methods
    assert not table.duplicated(["panel", "rule", "method"]).any()
    truth = table[table["rule"] == "truth"].set_index("method")
    assert (truth["gap"] == 0).all()
    for row in table[table["panel"] != "shared"].to_dict("records"):  # each method is held to its own truth
        assert row["gap"] == pytest.approx(truth.loc[row["method"], "gold"] - row["gold"])


def test_methods_of_a_cell_share_its_labels_and_reward_model(finished: Path) -> None:
    cell = finished / "seed-1" / "bloc" / "robust mean"
    assert len(list(finished.glob("seed-*/*/*/soft_labels.parquet"))) == 2 * (1 + 2 * 2)
    assert {path.parent.name for path in cell.glob("*/samples.parquet")} == {"dpo", "best_of_n"}
    assert (cell / "reward_model" / "model.safetensors").exists()
    assert not list(cell.glob("dpo*/reward_model"))


def test_the_statistics_of_the_mechanism_are_those_of_the_written_reports(finished: Path) -> None:
    cell = finished / "seed-0" / "bloc" / "mean"
    stated = json.loads((cell / "labels.json").read_text())
    reports = pd.read_parquet(cell / "reports.parquet").pivot(index="round", columns="labeler_id", values="report")
    outcomes = pd.read_parquet(finished / "seed-0" / "outcomes.parquet")["outcome"]
    losses = reports.sub(outcomes, axis=0).pow(2).sum()
    of_the_mean = (reports.mean(axis=1) - outcomes).pow(2).sum()
    assert stated["regret"] == pytest.approx(of_the_mean - losses.min())
    assert stated["best_weight"] == pytest.approx(1 / 3)
    lone = [  # of three labelers, the one on the other side than the two others
        (round_, name)
        for round_, row in reports.iterrows()
        for name in row.index
        if ((row.drop(name) > 0.5) != (row[name] > 0.5)).all()
    ]
    far = [(reports.loc[round_, name] - reports.loc[round_].mean()) ** 2 for round_, name in lone]
    assert stated["minority_loss"] == pytest.approx(sum(far) / len(far))


def test_hard_and_robust_losses_train_other_policies_on_the_same_labels(finished: Path) -> None:
    mean, robust = (finished / "seed-0" / "bloc" / name for name in ("mean", "robust mean"))
    assert (mean / "soft_labels.parquet").read_bytes() == (robust / "soft_labels.parquet").read_bytes()
    adapters = [folder / "dpo" / "policy" / "adapter_model.safetensors" for folder in (mean, robust)]
    assert adapters[0].read_bytes() != adapters[1].read_bytes()


def test_the_report_shows_every_method(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for text in ("after (robust mean, best_of_n)", "minority loss", "Best of n."):
        assert text.lower() in page.lower(), text
    for name in ("kl_frontier", "best_of_n_bloc"):
        assert (finished / "figures" / f"{name}.png").exists(), name


def test_ray_gives_the_same_numbers_and_goes_on_from_the_loop(finished: Path, config_file: Path) -> None:
    """A local Ray runs one seed from nothing; then it is given the loop's folder, and builds nothing."""
    pytest.importorskip("ray")
    out = config_file.parent / "ray"
    arguments = ["compare", str(config_file), "--seed", "1", "--engine", "ray", "--cpus-per-cell", "1"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    compared = list((finished / "seed-1").rglob("*.parquet")) + list((finished / "seed-1").rglob("evaluation.json"))
    assert len(compared) > 30
    for path in compared:
        assert (out / path.relative_to(finished)).read_bytes() == path.read_bytes(), path
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("samples.parquet")}
    assert CliRunner().invoke(app, [*arguments, "--out", str(finished)]).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("samples.parquet")} == before


def test_a_cell_that_fails_on_ray_says_why_as_the_loop_does(config_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    broken = tmp_path / "prompts.jsonl"
    broken.write_text(json.dumps({"prompt": "The film was"}) + "\n")
    arguments = ["compare", str(config_file), f"prompts.source={broken}", "--out", str(tmp_path / "run")]
    messages = []
    for engine in ("local", "ray"):
        result = CliRunner().invoke(app, [*arguments, "--engine", engine])
        assert result.exit_code not in (0, None)
        messages.append(" ".join(result.output.split()))
    assert "Traceback" not in messages[1]
    assert messages[0].split("Error:")[-1] in messages[1]


def test_cells_cover_the_grid_once(config_file: Path) -> None:
    config = load_config(str(config_file))
    in_cells = [condition for seed in config.seeds for cell in cells(config, seed) for condition in cell]
    in_groups = [condition for group in groups(config)[1:] for condition in group.conditions]
    assert len(in_cells) == len(in_groups) == 2 * (2 + 8)
    assert all(condition in in_groups for condition in in_cells)


def test_a_rule_with_its_own_audit_rate_has_the_labels_of_a_run_with_that_rate(
    config_file: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(config_file.read_text())

    def labels(of_all: float, **rule: float) -> pd.DataFrame:
        rules = [{"name": "online_weighted", **rule}]
        config = Config.model_validate(content | {"audit_rate": of_all, "rules": rules, "seeds": [0]})
        folder = RunFolder(tmp_path / f"{of_all} {rule}")
        folder.root.mkdir()
        condition = cells(config, 0)[-1][0]
        build_labels(Experiment(config, folder, GRID), condition)
        return pd.read_parquet(folder.root / GRID.of_labels(condition, "soft_labels.parquet"))

    own, whole = labels(0.5, audit_rate=0.25), labels(0.25)
    assert own["audited"].sum() == 2
    pd.testing.assert_frame_equal(own, whole)
    assert not own.equals(labels(0.5)), "the control: twice the audits are other labels"
    title = Config.model_validate(content | {"rules": [{"name": "mean", "audit_rate": 0.25}]}).rules[0].title
    assert title == "mean audit_rate=0.25"


def test_trackers_pass_through_to_trl(config_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    content = Config.model_validate(yaml.safe_load(config_file.read_text()) | {"seeds": [0]})
    tracked = content.policy[0].model_copy(update={"report_to": ["tensorboard"]})
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    plain = Experiment(content, run, GRID)
    condition = cells(content, 0)[0][0]
    train_policy(plain, condition)
    events = list(run.root.rglob("events.out.tfevents.*"))
    assert not events
    (run.root / "stages" / "seed-0" / "shared" / "truth" / "dpo" / "policy.json").unlink()
    logged = Experiment(content.model_copy(update={"policy": [tracked]}), run, GRID)
    train_policy(logged, cells(logged.config, 0)[0][0])
    assert list(run.root.rglob("events.out.tfevents.*"))
