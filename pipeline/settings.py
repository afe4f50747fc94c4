"""The settings of each way to train a policy: the section ``policy`` of a config, chosen by its key ``method``.

Kept free of heavy imports, so that a config is validated without loading torch. Defaults are those that were tried with
SmolLM2-135M on two CPU cores.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reward_model.losses import LOSSES

SoftLabelLoss = Literal["soft_bce", "gdpo", "redraw"]
assert set(SoftLabelLoss.__args__) == set(LOSSES)  # type: ignore[attr-defined]


class Settings(BaseModel):
    """Settings refuse keys that they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LoRASettings(Settings):
    """What every policy training shares: a LoRA adapter on all linear layers."""

    learning_rate: float = Field(3e-4, gt=0)
    lora_rank: int = Field(16, ge=1, description="LoRA rank on all linear layers (alpha is twice the rank)")
    max_length: int = Field(512, ge=2, description="longest prompt + response in tokens; what is beyond is cut off")


class DPOSettings(LoRASettings):
    """Direct preference optimisation on soft labels."""

    method: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull to the base policy")
    batch_size: int = Field(16, ge=1, description="pairs per update, over all processes")
    epochs: float = Field(1.0, gt=0)
    loss: SoftLabelLoss = "soft_bce"


PolicySettings = Annotated[DPOSettings, Field()]
