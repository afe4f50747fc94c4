"""Every method of the section ``policy``, from prompts to an evaluated policy, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.ppo import marked
from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.pipeline.config.training import RLOOSettings
from truthful_rlhf.pipeline.experiment.conditions import SINGLE, Condition, choose_condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.evaluation import evaluate, train_policy
from truthful_rlhf.pipeline.experiment.methods import METHODS
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.pipeline.training.best_of_n import best_of_n_kl

REWARD_MODEL = {"epochs": 1, "lora_rank": 4}
POLICIES = {
    "dpo": {"method": "dpo", "batch_size": 8},
    "online_dpo": {"method": "online_dpo", "batch_size": 8, "iterations": 2},
    "ppo": {"method": "ppo", "updates": 2, "batch_size": 8, "reward_model": REWARD_MODEL},
    "rloo": {"method": "rloo", "updates": 2, "batch_size": 8, "reward_model": REWARD_MODEL},
    "best_of_n": {"method": "best_of_n", "n": 4, "reward_model": REWARD_MODEL},
}


def experiment(tiny_model_folder: Path, folder: Path, method: str) -> tuple[Experiment, list[tuple[str, bool]]]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"The film {k} was"}) + "\n" for k in range(24)))
    content = {
        "model": {"name_or_path": str(tiny_model_folder)},
        "prompts": {"source": str(prompts), "n_train": 16, "n_held_out": 8},
        "sampling": {"max_new_tokens": 4},
        "panels": {"all": [{"name": "honest", "count": 3, "persona": "noisy"}]},
        "rules": ["mean"],
        "policy": POLICIES[method],
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    seen: list[tuple[str, bool]] = []
    run = RunFolder(folder / "run", lambda name, skipped: seen.append((name, skipped)))
    (folder / "run").mkdir(exist_ok=True)
    return Experiment(load_config(str(config)), run, SINGLE), seen


def mean_of(one: Experiment) -> Condition:
    return choose_condition(one.config, None, None)


def test_every_method_is_tried() -> None:
    assert set(POLICIES) == set(METHODS)


@pytest.mark.parametrize("method", marked(METHODS))
def test_from_prompts_to_evaluation(method: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    one, _ = experiment(tiny_model_folder, tmp_path, method)
    condition = mean_of(one)
    evaluate(one, condition)
    measures = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(measures) == {"gold", "n_tokens", "kl", "win_rate"}
    samples = pd.read_parquet(tmp_path / "run" / "samples.parquet")
    assert len(samples) == 8
    if method == "best_of_n":
        check_that_the_best_was_chosen(tmp_path / "run", measures)
    if method in ("dpo", "online_dpo"):
        assert not (tmp_path / "run" / "reward_model").exists()
    else:
        calibration = pd.read_parquet(tmp_path / "run" / "calibration.parquet")
        assert calibration["target"].tolist() == ["soft labels", "truth"]
        assert (calibration["n_pairs"] > 0).all()
        assert (tmp_path / "run" / "reliability.png").stat().st_size > 1000

    again, seen = experiment(tiny_model_folder, tmp_path, method)
    evaluate(again, condition)
    assert all(skipped for _, skipped in seen)


def check_that_the_best_was_chosen(run: Path, measures: dict[str, dict[str, float]]) -> None:
    candidates, samples = pd.read_parquet(run / "candidates.parquet"), pd.read_parquet(run / "samples.parquet")
    rewards = pd.read_parquet(run / "candidate_rewards.parquet")["reward"].to_numpy().reshape(-1, 4)
    for row, reward in enumerate(rewards):
        assert candidates["prompt"][4 * row] == samples["prompt"][row]
        assert samples["response"][row] == candidates["response"][4 * row + int(reward.argmax())]
    assert np.ptp(rewards, axis=1).min() > 0
    curve = pd.read_parquet(run / "best_of_n.parquet")
    assert curve["n"].tolist() == [1, 2, 4]
    assert curve["gold"].iloc[0] == pytest.approx(candidates["gold"].mean())
    assert curve["gold"].iloc[2] == pytest.approx(measures["gold"]["mean"])
    assert measures["kl"]["mean"] == pytest.approx(best_of_n_kl(4))


def test_a_change_of_the_policy_keeps_the_reward_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    one, _ = experiment(tiny_model_folder, tmp_path, "rloo")
    train_policy(one, mean_of(one))
    for change, kept in (({"updates": 1}, True), ({"reward_model": {"epochs": 2, "lora_rank": 4}}, False)):
        other, seen = experiment(tiny_model_folder, tmp_path, "rloo")
        policy = RLOOSettings.model_validate(POLICIES["rloo"] | change)
        other.config = other.config.model_copy(update={"policy": [policy]})
        train_policy(other, mean_of(other))
        assert dict(seen)["reward_model"] is kept
        assert dict(seen)["policy"] is False
