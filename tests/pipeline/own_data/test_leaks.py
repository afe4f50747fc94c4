"""No verdict that is held out or hidden reaches a label or a policy; one that is audited does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.own_data import made_up
from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.pipeline.experiment.conditions import GRID
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import build_labels, build_outcomes
from truthful_rlhf.pipeline.experiment.evaluation import train_policy
from truthful_rlhf.pipeline.experiment.folds import held_out_verdicts
from truthful_rlhf.pipeline.own_data.cells import conditions, make_grid
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.pipeline.storage.tables import read_table

RULES = "rules=[mean, logistic, gold_vote, {name: online_weighted, labels: stacked}]"


def trained(folder: Path, rows: list[dict[str, Any]], model: Path) -> tuple[Experiment, dict[str, bytes]]:
    """Train fold 0 on a file; return its experiment, and the bytes of every rule's labels and of two policies."""
    file = made_up.write(folder / "mine.jsonl", rows)
    changes = [f"pairs.file={file}", f"model.name_or_path={model}", "audit_rate=0.5", RULES, "policy.epochs=0.5"]
    config = load_config("own_annotations", changes)
    (folder / "run").mkdir()
    experiment = Experiment(config, RunFolder(folder / "run"), GRID).in_fold(0)
    found = {}
    for condition in conditions(config, make_grid(config, all_known=False), 0):
        build_labels(experiment, condition)
        labels = experiment.path(experiment.layout.of_labels(condition, "soft_labels.parquet"))
        found[f"labels {condition.title}"] = labels.read_bytes()
        if condition.title in ("audits", "logistic"):
            train_policy(experiment, condition)
            policy = experiment.path(experiment.layout.of_condition(condition, "policy"))
            found[f"policy {condition.title}"] = (policy / "adapter_model.safetensors").read_bytes()
    return experiment, found


def with_other_verdict(pair_id: str) -> list[dict[str, Any]]:
    rows = made_up.rows()
    return [row | {"outcome": 1 - row["outcome"]} if row["pair_id"] == pair_id else row for row in rows]


@pytest.fixture(scope="module")
def first(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, dict[str, bytes]]:
    return trained(tmp_path_factory.mktemp("first"), made_up.rows(), tiny_model_folder)


def pair_of(experiment: Experiment, kind: str) -> str:
    """Return a pair whose verdict is held out in fold 0, hidden there, or audited."""
    build_outcomes(experiment, 0)
    held_out = held_out_verdicts(experiment, 0)["pair_id"].tolist()
    if kind == "held out":
        return str(held_out[0])
    table = read_table(experiment.path("seed-0/fold-0/outcomes.parquet"), ["pair_id", "outcome", "audited"])
    assert not set(table["pair_id"]) & set(held_out)
    table = table[table["outcome"].notna()]
    return str(table["pair_id"][table["audited"] == (kind == "audited")].iloc[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["held out", "hidden"])
def test_a_verdict_that_is_not_shown_changes_no_byte(
    kind: str, first: tuple[Experiment, dict[str, bytes]], tiny_model_folder: Path, tmp_path: Path
) -> None:
    experiment, before = first
    _, after = trained(tmp_path, with_other_verdict(pair_of(experiment, kind)), tiny_model_folder)
    assert {name for name in before if before[name] != after[name]} == set()
    assert len(before) == 7  # labels of audits and four rules, two policies


@pytest.mark.slow
def test_an_audited_verdict_changes_them(
    first: tuple[Experiment, dict[str, bytes]], tiny_model_folder: Path, tmp_path: Path
) -> None:
    """The control of the test above: every label and policy depends on the verdicts that are shown."""
    experiment, before = first
    _, after = trained(tmp_path, with_other_verdict(pair_of(experiment, "audited")), tiny_model_folder)
    assert {name for name in before if before[name] != after[name]} == set(before)


@pytest.mark.slow
def test_the_folds_do_not_look_at_verdicts(
    first: tuple[Experiment, dict[str, bytes]], tiny_model_folder: Path, tmp_path: Path
) -> None:
    experiment, _ = first
    rows = [row | ({"outcome": 1 - row["outcome"]} if "outcome" in row else {}) for row in made_up.rows()]
    other, _ = trained(tmp_path, rows, tiny_model_folder)
    assert held_out_verdicts(other, 0)["pair_id"].tolist() == held_out_verdicts(experiment, 0)["pair_id"].tolist()
