"""Training defaults by device, where TRL's are for large GPUs: bfloat16 and gradient checkpointing are off on a CPU."""

from __future__ import annotations

from typing import Any


def training_arguments(batch_size: int, world_size: int | None = None) -> dict[str, Any]:
    """Return arguments for TRL's configs that suit the device at hand and split a global batch over the processes.

    On a CPU, float32 without gradient checkpointing: this processor computes bfloat16 no faster, and recomputing the
    forward pass costs a third of the time to save memory that a small model does not need. On a GPU, bfloat16 where the
    hardware has it.

    Args:
        batch_size: examples per update over all processes.
        world_size: number of processes, by default those of the running launch.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    import torch
    from accelerate import PartialState

    processes = PartialState().num_processes if world_size is None else world_size
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} is not a multiple of the {processes} processes")
    on_gpu = torch.cuda.is_available()
    return {
        "per_device_train_batch_size": batch_size // processes,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,  # the stage shows a bar of its own: see pipeline.training_log
        "dataloader_pin_memory": on_gpu,
    }
