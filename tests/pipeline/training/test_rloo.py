"""RLOO on a tiny model: it climbs the reward, a large KL price prevents it, and it stops when it diverges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from truthful_rlhf.pipeline.config.training import RLOOSettings, SamplingSettings
from truthful_rlhf.pipeline.models.load import load_tokenizer
from truthful_rlhf.pipeline.models.tokens import Encoder, TrainingPrompts
from truthful_rlhf.pipeline.training.guards import PolicyDivergedError
from truthful_rlhf.pipeline.training.rloo import sequence_kl, train_rloo

PROMPTS = ["The film was", "My dog is", "A", "I bought this phone"] * 4
SAMPLING = SamplingSettings(max_new_tokens=1)


class Constant:
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return np.full(len(prompts), 0.25)


def prompts(policy: Path) -> TrainingPrompts:
    return TrainingPrompts.of_texts(PROMPTS, Encoder(load_tokenizer(str(policy))))


@pytest.fixture(scope="module")
def folders(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy and a reward model with heads scaled up, so that a small adapter matters."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    policy, reward = tmp_path_factory.mktemp("policy"), tmp_path_factory.mktemp("reward")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
    model.save_pretrained(policy)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        classifier = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
        torch.nn.init.normal_(classifier.score.weight, std=0.3)
    classifier.save_pretrained(reward)
    for folder in (policy, reward):
        AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return policy, reward


def run(folders: tuple[Path, Path], out: Path, settings: RLOOSettings, seed: int = 0) -> list[dict[str, float]]:
    train_rloo(*folders, prompts(folders[0]), settings, SAMPLING, out, seed, Constant())
    return [entry for entry in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "reward" in entry]


def learning(kl_coef: float) -> RLOOSettings:
    return RLOOSettings(
        updates=20, batch_size=64, micro_batch_size=64, responses_per_prompt=16, learning_rate=5e-3, kl_coef=kl_coef
    )


def test_it_raises_the_reward_and_logs_gold_without_training_on_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from truthful_rlhf.pipeline.models.load import load_model

    logs = run(folders, tmp_path, learning(kl_coef=0.001))
    scores = [entry["rewards/reward_model/mean"] for entry in logs]
    assert len(logs) == 20
    assert np.mean(scores[-4:]) > np.mean(scores[:4]) + 0.2  # with the seeds 0 to 4 it gains 0.35 to 1.18
    assert all(entry["rewards/gold/mean"] == 0.25 for entry in logs)
    assert load_model(str(folders[0]), tmp_path).peft_config["default"].r == 16


def test_a_strong_pull_to_the_base_policy_keeps_it_there(folders: tuple[Path, Path], tmp_path: Path) -> None:
    logs = run(folders, tmp_path, learning(kl_coef=20.0))
    assert abs(np.mean([entry["kl"] for entry in logs[-4:]])) < 0.2


def test_it_stops_and_explains_when_the_policy_runs_away(folders: tuple[Path, Path], tmp_path: Path) -> None:
    settings = learning(kl_coef=0.001).model_copy(update={"learning_rate": 5e-2, "max_kl": 0.3})
    with pytest.raises(PolicyDivergedError, match=r"the KL is .* the limit is 0\.3"):
        run(folders, tmp_path, settings)


def test_the_kl_of_responses_is_the_kl_per_token_times_their_length() -> None:
    assert sequence_kl({"kl": 0.5, "completions/mean_length": 24.0}) == 12.0
    assert sequence_kl({"loss": 1.0}) is None


def test_a_batch_that_splits_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of responses_per_prompt"):
        RLOOSettings(batch_size=10, responses_per_prompt=4)
