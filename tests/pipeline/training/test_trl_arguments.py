"""A user's own arguments reach TRL, and what cannot work is refused before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.ppo import marked
from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.training import (
    BestOfNSettings,
    DPOSettings,
    PPOSettings,
    RewardModelSettings,
    RLOOSettings,
    SamplingSettings,
)
from truthful_rlhf.pipeline.training import dpo, ppo, reward, rloo
from truthful_rlhf.pipeline.training.check import check_own_arguments

CPU, SAMPLING, OWN = Hardware("cpu", "float32"), SamplingSettings(), {"warmup_steps": 3, "max_grad_norm": 0.5}


def made(method: str, own: dict[str, Any]) -> Any:
    if method == "dpo":
        return dpo.trl_config(DPOSettings(trl=own), CPU, "out", 0, True)
    if method == "ppo":
        return ppo.trl_config(PPOSettings(trl=own), SAMPLING, CPU, "out", 0)
    if method == "rloo":
        return rloo.trl_config(RLOOSettings(trl=own), SAMPLING, CPU, "out", 0, [1.0])
    return reward.trl_config(RewardModelSettings(trl=own), CPU, "out", 0)


@pytest.mark.parametrize("method", marked(["dpo", "ppo", "rloo", "reward"]))
def test_they_reach_trl(method: str) -> None:
    config, without = made(method, OWN), made(method, {})
    assert (config.warmup_steps, config.max_grad_norm) == (3, 0.5)
    assert (without.warmup_steps, without.max_grad_norm) != (3, 0.5), "the control"
    assert config.learning_rate == without.learning_rate


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (
            DPOSettings(trl={"warmup_step": 3}),
            r"policy.trl.warmup_step: DPOConfig has no such argument \(did you mean 'w",
        ),
        (DPOSettings(trl={"beta": 0.5}), "policy.trl.beta: this argument follows from the config's other keys"),
        (DPOSettings(trl={"bf16": True}), "policy.trl.bf16: this argument follows"),
        (DPOSettings(trl={"loss_type": ["ipo"]}), "policy.trl: loss_type=.* cannot be used with soft labels"),
        (DPOSettings(trl={"lr_scheduler_type": "zigzag"}), "policy.trl: DPOConfig refuses it: .*zigzag"),
        (RLOOSettings(trl={"num_generations": 3}), "policy.trl.num_generations: this argument follows"),
        (
            BestOfNSettings(reward_model=RewardModelSettings(trl={"seed": 1})),
            "policy.reward_model.trl.seed: this argument follows",
        ),
    ],
)
def test_what_cannot_work_is_refused(policy: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check_own_arguments([policy], SAMPLING, CPU)


def test_before_any_work(tmp_path: Path) -> None:
    for command in (["validate", "quickstart"], ["compare", "quickstart", "--out", str(tmp_path / "run")]):
        result = CliRunner().invoke(app, [*command, "policy.trl={beta: 0.3}"])
        assert result.exit_code == 2, "the config is wrong"
        assert "policy.trl.beta: this argument follows" in " ".join(result.output.split())
    assert not (tmp_path / "run" / "seed-0").exists()
    check_own_arguments([DPOSettings(trl=OWN), RLOOSettings(trl=OWN)], SAMPLING, CPU)
