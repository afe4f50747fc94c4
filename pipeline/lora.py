"""The adapter that every policy training shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(rank: int, task: str = "CAUSAL_LM") -> LoraConfig:
    """Return LoRA of a rank on all linear layers (but the output head), with alpha twice the rank."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task)


def save_adapter(trainer: Any, out: Path) -> None:
    """Save a trainer's adapter (safetensors) and tokenizer from the first process."""
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        model.save_pretrained(str(out), safe_serialization=True)
        trainer.processing_class.save_pretrained(str(out))
    trainer.accelerator.wait_for_everyone()
