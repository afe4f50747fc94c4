"""Training defaults by device, where TRL's are for large GPUs: bfloat16 and gradient checkpointing are off on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def training_arguments(
    folder: str, batch_size: int, micro_batch_size: int | None = None, report_to: Sequence[str] = ()
) -> dict[str, Any]:
    """Return arguments for TRL's configs that suit the device at hand and split a global batch over the processes.

    On a CPU, float32 without gradient checkpointing: full precision at the price of memory. TRL's default (bfloat16
    with checkpointing) is about as fast on a CPU with bfloat16 instructions, in a third less memory, but its loss was
    another one after eight updates (``python -m benchmarks training``). On a GPU, bfloat16 where it has it.

    Args:
        folder: where the trainer writes; its last parts (panel, rule, method) name the run in a tracker.
        batch_size: examples per update over all processes.
        micro_batch_size: most examples that a process computes at once, by default its whole share; the gradients of
            the parts are accumulated.
        report_to: trackers that TRL logs to.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    import torch
    from accelerate import PartialState

    on_gpu = torch.cuda.is_available()
    processes = PartialState(cpu=not on_gpu).num_processes
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} is not a multiple of the {processes} processes")
    share = batch_size // processes
    at_once = min(share, micro_batch_size or share)
    if share % at_once:
        raise ValueError(
            f"the share of each process, {share} examples, is not a multiple of micro_batch_size {at_once}"
        )
    return {
        "output_dir": folder,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": share // at_once,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "gradient_checkpointing": False,
        "report_to": list(report_to) or "none",
        "run_name": "/".join(Path(folder).parts[-4:-1]),
        "save_strategy": "no",
        "disable_tqdm": True,  # the stage shows a bar of its own: see truthful_rlhf.pipeline.training.log
        "dataloader_pin_memory": on_gpu,
    }
