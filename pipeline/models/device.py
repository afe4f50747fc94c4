"""On what models run: one place decides device and precision, of sampling, scoring and training.

Precision follows what was measured. On CPUs models compute in float32: bfloat16 was no faster in sampling or training
where the processor has instructions for it (AMX, AVX512_BF16), and 30 times slower where it has none. A GPU computes in
bfloat16 if it can. Trained weights are float32 everywhere; on a GPU with bfloat16 TRL computes in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")


class HardwareError(ValueError):
    """The machine cannot do what the config asks for; the message names the key."""


@dataclass(frozen=True)
class Hardware:
    """Where models run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``, as torch calls them.
        dtype: precision of models that are not trained: ``float32``, ``bfloat16`` or ``float16``.
    """

    device: str
    dtype: str

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> Hardware:
        """Return what is asked for if the machine has it, and its best for ``auto``.

        Args:
            device: one of `DEVICES`; ``auto`` takes a GPU if there is one.
            dtype: one of `DTYPES`; ``auto`` is bfloat16 on a GPU that has it, float32 elsewhere.

        Raises:
            HardwareError: no such device here, or a precision that it computes too slowly or not at all.
        """
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if device == "auto":
            device = next(name for name, is_there in there.items() if is_there)
        elif not there[device]:
            raise HardwareError(f"model.device: torch sees no {device} here; set model.device=auto")
        can = has_bfloat16(device)
        if dtype == "auto":
            dtype = "bfloat16" if device == "cuda" and can else "float32"
        elif dtype == "bfloat16" and not can:
            raise HardwareError(
                f"model.dtype: this {device} has no instructions for bfloat16, which would take many times as long;"
                " set model.dtype=auto"
            )
        elif dtype == "float16" and device == "cpu":
            raise HardwareError("model.dtype: float16 is for GPUs; set model.dtype=auto")
        return cls(device, dtype)

    @property
    def trains_in_bfloat16(self) -> bool:
        """Whether TRL trains in mixed precision."""
        return self.device == "cuda" and self.dtype == "bfloat16"


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16 with instructions of its own."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


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
    (``python -m benchmarks training``).

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
