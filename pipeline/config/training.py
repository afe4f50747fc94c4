"""The settings of each way to train a policy: the section ``policy`` of a config, chosen by its key ``method``.

Kept free of heavy imports, so that a config is validated without loading torch. Defaults are those that were tried with
SmolLM2-135M on two CPU cores.
"""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.reward_model.losses import LOSSES

SoftLabelLoss = Literal["soft_bce", "hard", "robust"]
assert set(SoftLabelLoss.__args__) == set(LOSSES)  # type: ignore[attr-defined]


NAME = r"^[A-Za-z0-9_][A-Za-z0-9_=+. -]*$"
"""What an entry of a config may be called: it becomes the name of a folder."""


class SamplingSettings(Section):
    """How responses are sampled; the same for the training pairs and for the evaluation."""

    max_new_tokens: int = Field(24, ge=1, description="longest response, in tokens")
    temperature: float = Field(1.0, gt=0, description="1 samples from the policy itself")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off, as PPO needs it")
    batch_size: int = Field(224, ge=1, description="sequences generated at once")
    engine: Literal["transformers", "vllm"] = Field("transformers", description="vllm: for GPUs, where it is installed")


class MethodSettings(Section):
    """What every method shares."""

    method: str
    called: str | None = Field(None, pattern=NAME, description="name in tables and folders; default: the method")

    @property
    def title(self) -> str:
        """Return the name that tells this entry from the config's others."""
        return self.called or self.method


MICRO_BATCH = "most examples computed at once, per process; null: all of its share. Gradients are accumulated"
OWN_ARGUMENTS = "more arguments of TRL's config class, such as {warmup_ratio: 0.1}"
CHECKPOINTING = "compute activations again in the backward pass: less memory, about a third more time"


class LoRASettings(MethodSettings):
    """What every policy training shares: a LoRA adapter on all linear layers."""

    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        [], description="trackers that TRL logs the training to; they must be installed"
    )

    @field_validator("report_to")
    @classmethod
    def _is_installed(cls, value: list[str]) -> list[str]:
        missing = [tracker for tracker in value if importlib.util.find_spec(tracker) is None]
        if missing:
            raise ValueError(f"{missing[0]} is not installed; pip install {missing[0]}")
        return value

    learning_rate: float = Field(3e-4, gt=0)
    lora_rank: int = Field(16, ge=1, description="LoRA rank on all linear layers (alpha is twice the rank)")
    micro_batch_size: int | None = Field(None, ge=1, description=MICRO_BATCH)
    gradient_checkpointing: bool = Field(False, description=CHECKPOINTING)
    trl: dict[str, Any] = Field({}, description=OWN_ARGUMENTS)


class DPOSettings(LoRASettings):
    """Direct preference optimisation on soft labels."""

    method: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull to the base policy")
    batch_size: int = Field(16, ge=1, description="pairs per update, over all processes")
    epochs: float = Field(1.0, gt=0)
    max_length: int = Field(512, ge=2, description="longest prompt + response in tokens; what is beyond is cut off")
    loss: SoftLabelLoss = "soft_bce"


class OnlineDPOSettings(DPOSettings):
    """The online loop: the policy writes the next pairs, the panel judges them, the rule goes on with its weights."""

    method: Literal["online_dpo"] = "online_dpo"  # type: ignore[assignment]
    iterations: int = Field(3, ge=1, description="rounds of new pairs and training; the first is plain DPO")
    replay: float = Field(0.25, ge=0, description="old pairs trained on beside the new ones, per new pair")


class RewardModelSettings(Section):
    """The reward model that is trained on the soft labels, for the methods that need one."""

    learning_rate: float = Field(3e-3, gt=0, description="3e-3 ranks held-out pairs better than 1e-3 and 3e-4")
    batch_size: int = Field(16, ge=1, description="pairs per update, over all processes")
    epochs: float = Field(2.0, gt=0)
    lora_rank: int | None = Field(16, ge=1, description="LoRA rank on all linear layers; null trains all weights")
    max_length: int = Field(512, ge=2, description="pairs with a longer text are left out")
    micro_batch_size: int | None = Field(None, ge=1, description=MICRO_BATCH)
    gradient_checkpointing: bool = Field(False, description=CHECKPOINTING)
    trl: dict[str, Any] = Field({}, description=OWN_ARGUMENTS)
    held_out: float = Field(0.125, gt=0, lt=1, description="share of the prompts kept to measure calibration on")
    loss: SoftLabelLoss = "soft_bce"


class PPOSettings(LoRASettings):
    """Proximal policy optimisation on a reward model trained on the soft labels."""

    method: Literal["ppo"] = "ppo"
    learning_rate: float = Field(5e-4, gt=0)
    kl_coef: float = Field(0.05, ge=0, description="strength of the pull to the base policy, as DPO's beta")
    updates: int = Field(12, ge=1, description="batches of responses")
    batch_size: int = Field(64, ge=2, description="responses per update, over all processes")
    micro_batch_size: int | None = Field(32, ge=1, description=MICRO_BATCH)
    ppo_epochs: int = Field(1, ge=1, description="passes over each batch, one optimiser step each")
    max_kl: float = Field(30.0, gt=0, description="stop when the KL to the base policy exceeds this, in nats")
    max_clip_fraction: float = Field(0.6, gt=0, le=1, description="stop when more of the ratios are clipped")
    reward_model: RewardModelSettings = RewardModelSettings()


class RLOOSettings(LoRASettings):
    """REINFORCE with a leave-one-out baseline, on a reward model trained on the soft labels."""

    method: Literal["rloo"] = "rloo"
    learning_rate: float = Field(5e-4, gt=0)
    kl_coef: float = Field(0.05, ge=0, description="strength of the pull to the base policy, as DPO's beta")
    updates: int = Field(12, ge=1, description="batches of responses, one optimiser step each")
    batch_size: int = Field(64, ge=2, description="responses per update, over all processes")
    micro_batch_size: int | None = Field(32, ge=1, description=MICRO_BATCH)
    responses_per_prompt: int = Field(4, ge=2, description="responses that are each other's baseline")
    max_kl: float = Field(30.0, gt=0, description="stop when the KL to the base policy exceeds this, in nats")
    reward_model: RewardModelSettings = RewardModelSettings()

    @model_validator(mode="after")
    def _groups_fit(self) -> RLOOSettings:
        if self.batch_size % self.responses_per_prompt:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of responses_per_prompt {self.responses_per_prompt}"
            )
        return self


class BestOfNSettings(MethodSettings):
    """No training of the policy: the best of n responses of the base policy, as judged by the reward model."""

    method: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, description="responses per prompt; the KL to the base policy is log n - (n - 1)/n")
    reward_model: RewardModelSettings = RewardModelSettings()


PolicySettings = Annotated[
    DPOSettings | OnlineDPOSettings | PPOSettings | RLOOSettings | BestOfNSettings, Field(discriminator="method")
]
