"""How TRL trains on the device at hand, which `labelers.judges.hardware` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.judges.hardware import Hardware


def training_arguments(
    folder: str,
    hardware: Hardware,
    batch_size: int,
    micro_batch_size: int | None = None,
    gradient_checkpointing: bool = False,
    report_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Return arguments for TRL's configs that suit the device at hand and split a global batch over the processes.

    TRL's defaults are for large GPUs: bfloat16 with gradient checkpointing. On a CPU with bfloat16 instructions that is
    about as fast as float32 without, in a third less memory, but its loss was another one after eight updates
    (``python -m benchmarks training``). What those instructions are used for is `Hardware.reading`.

    Args:
        folder: where the trainer writes; its last parts (panel, rule, method) name the run in a tracker.
        hardware: where it trains.
        batch_size: examples per update over all processes.
        micro_batch_size: most examples that a process computes at once, by default its whole share; the gradients of
            the parts are accumulated.
        gradient_checkpointing: compute activations again in the backward pass: less memory, about a third more time.
        report_to: trackers that TRL logs to.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    from accelerate import PartialState

    processes = PartialState(cpu=hardware.device == "cpu").num_processes
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
        "use_cpu": hardware.device == "cpu",
        "bf16": hardware.trains_in_bfloat16,
        "gradient_checkpointing": gradient_checkpointing,
        "report_to": list(report_to) or "none",
        "run_name": "/".join(Path(folder).parts[-4:-1]),
        "save_strategy": "no",
        "disable_tqdm": True,  # the stage shows a bar of its own: see truthful_rlhf.pipeline.training.log
        "dataloader_pin_memory": hardware.device == "cuda",
    }


def longest_sequence(dataset: Any, *columns: str) -> int:
    """Return the most tokens that columns of token ids have together in a row of a data set, 0 without rows.

    Args:
        dataset: of the ``datasets`` library, with token ids.
        columns: that stand one after the other in a sequence.
    """
    rows = zip(*(dataset[column] for column in columns), strict=True)
    return max((sum(map(len, parts)) for parts in rows), default=0)
