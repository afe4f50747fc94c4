"""PPO on a tiny model: it climbs a reward that is easy to climb, repeats itself, and stops when it diverges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.ppo import needs_ppo
from tests.precision import float32_error
from truthful_rlhf.pipeline.config.training import PPOSettings, SamplingSettings
from truthful_rlhf.pipeline.models.load import load_tokenizer
from truthful_rlhf.pipeline.models.tokens import Encoder, TrainingPrompts
from truthful_rlhf.pipeline.training.guards import DivergenceGuard, Limit, PolicyDivergedError
from truthful_rlhf.pipeline.training.ppo import train_ppo

pytestmark = needs_ppo
PROMPTS = ["The film was", "My dog is", "A", "I bought this phone"]
SAMPLING = SamplingSettings(max_new_tokens=1)  # a bandit with 400 arms: learnable in seconds


class LetterShare:
    """A gold reward for tests: how many of a text's characters are letters."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return np.array([sum(c.isalpha() for c in r) / max(1, len(r)) for r in responses])


def prompts(policy: Path) -> TrainingPrompts:
    return TrainingPrompts.of_texts(PROMPTS, Encoder(load_tokenizer(str(policy))))


@pytest.fixture(scope="module")
def policy_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy whose output head is scaled up, so that a small adapter can change what it says."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("policy")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reward_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier, its head scaled up so that some last tokens are clearly better than others."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("reward")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
        torch.nn.init.normal_(model.score.weight, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder


def run(policy: Path, reward: Path, out: Path, settings: PPOSettings, seed: int = 0) -> list[dict[str, float]]:
    train_ppo(policy, reward, prompts(policy), settings, SAMPLING, out, seed, LetterShare())
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def learning(kl_coef: float) -> PPOSettings:
    return PPOSettings(
        updates=12, batch_size=64, micro_batch_size=64, ppo_epochs=3, learning_rate=3e-3, kl_coef=kl_coef
    )


def test_it_raises_the_reward_and_logs_every_update(
    policy_folder: Path, reward_model_folder: Path, tmp_path: Path
) -> None:
    logs = run(policy_folder, reward_model_folder, tmp_path, learning(kl_coef=0.0))
    assert [entry["step"] for entry in logs] == list(range(1, 13))
    scores = [entry["objective/scores"] for entry in logs]
    assert np.mean(scores[-4:]) > np.mean(scores[:4]) + 0.2  # with the seeds 0 to 4 it gains 0.43 to 0.84
    # The first responses are the base policy's own: one log-probability minus the same, the head's logits below 10.
    assert abs(logs[0]["objective/kl"]) < 2 * float32_error(hidden_size=32, largest_logit=10.0)
    assert logs[-1]["objective/kl"] > 0.5
    assert all(0 <= entry["gold"] <= 1 for entry in logs)
    assert len({entry["gold"] for entry in logs}) > 1


def test_a_strong_pull_to_the_base_policy_keeps_it_there(
    policy_folder: Path, reward_model_folder: Path, tmp_path: Path
) -> None:
    """Negative control: what was learnt above is the reward's doing, since a large price on the KL prevents it."""
    logs = run(policy_folder, reward_model_folder, tmp_path, learning(kl_coef=10.0))
    assert abs(np.mean([entry["objective/kl"] for entry in logs[-4:]])) < 0.2


def test_the_adapter_loads_and_the_same_seed_repeats(
    policy_folder: Path, reward_model_folder: Path, tmp_path: Path
) -> None:
    from truthful_rlhf.pipeline.models.load import load_model

    settings = PPOSettings(updates=2, batch_size=8, micro_batch_size=4)
    logs = [
        run(policy_folder, reward_model_folder, tmp_path / name, settings, seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    scores = [[entry["objective/scores"] for entry in log] for log in logs]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]
    assert load_model(str(policy_folder), tmp_path / "a").peft_config["default"].r == 16


def test_it_stops_and_explains_when_the_policy_runs_away(
    policy_folder: Path, reward_model_folder: Path, tmp_path: Path
) -> None:
    settings = PPOSettings(updates=12, batch_size=16, learning_rate=5e-2, kl_coef=0.0, max_kl=0.5, max_clip_fraction=1)
    with pytest.raises(PolicyDivergedError, match=r"the KL is .* the limit is 0\.5.*policy\.learning_rate"):
        run(policy_folder, reward_model_folder, tmp_path, settings)


@pytest.mark.parametrize(("value", "stops"), [(0.2, False), (0.5, False), (0.51, True), (float("nan"), True)])
def test_the_guard_stops_above_its_limit_and_at_no_number(value: float, stops: bool) -> None:
    from transformers import TrainerState

    guard = DivergenceGuard(Limit("KL", lambda logs: logs.get("kl"), 0.5, "policy.kl_coef"))
    guard.on_log(None, TrainerState(), None, {"other": 9.0})
    if stops:
        with pytest.raises(PolicyDivergedError, match=r"policy\.kl_coef"):
            guard.on_log(None, TrainerState(), None, {"kl": value})
    else:
        guard.on_log(None, TrainerState(), None, {"kl": value})


def test_a_classifier_with_several_outputs_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=2).save_pretrained(
        tmp_path / "two"
    )
    with pytest.raises(ValueError, match="has 2 outputs"):
        run(tiny_model_folder, tmp_path / "two", tmp_path, PPOSettings(updates=1, batch_size=2))
