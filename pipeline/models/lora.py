"""The adapter that every policy training shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(rank: int, task: str = "CAUSAL_LM", modules_to_save: list[str] | None = None) -> LoraConfig:
    """Return LoRA of a rank on all linear layers (but the output head), with alpha twice the rank.

    Args:
        rank: of the two factors of every layer's change.
        task: PEFT's name of the kind of model.
        modules_to_save: layers that are trained whole, such as a new head.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task, modules_to_save=modules_to_save
    )


def save_adapter(trainer: Any, policy: Any, out: Path) -> None:
    """Save the adapter of ``policy`` (safetensors) and the trainer's tokenizer from the first process.

    Args:
        trainer: of TRL, with the tokenizer.
        policy: the PEFT model.
        out: folder, made if it is missing.
    """
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        policy.save_pretrained(str(out), safe_serialization=True, selected_adapters=["default"])
        _sort_layer_names(out / "adapter_config.json")
        trainer.processing_class.save_pretrained(str(out))
    trainer.accelerator.wait_for_everyone()


def _sort_layer_names(path: Path) -> None:
    """Write the names of the layers in order: PEFT holds a set, whose order is another one in every process."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
