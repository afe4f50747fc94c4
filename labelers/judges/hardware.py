"""On what models run: one place decides device and precision, of judging, sampling, scoring and training.

Precision follows what was measured. On CPUs models are float32: bfloat16 is 30 times slower where the processor has no
instructions for it. Where it has AMX, whole sequences are read (in training and for the KL) with matrix products that
round their factors to bfloat16 and sum in float32; everything else stays as it is. Sampling, a token at a time, was
three times slower that way. A GPU computes in bfloat16 if it can. Trained weights are float32 everywhere; on a GPU with
bfloat16 TRL computes in that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")

PLAIN_ATTENTION = 256
"""Tokens up to which plain attention was faster than fused attention with rounded factors."""


class HardwareError(ValueError):
    """The machine cannot do what the config asks for; the message names the key."""


@dataclass(frozen=True)
class Hardware:
    """Where models run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``, as torch calls them.
        dtype: precision of models that are not trained: ``float32``, ``bfloat16`` or ``float16``.
        rounds_products: multiply matrices of float32 in bfloat16 where whole sequences are read.
    """

    device: str
    dtype: str
    rounds_products: bool = False

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> Hardware:
        """Return what is asked for if the machine has it, and its best for ``auto``.

        Args:
            device: one of `DEVICES`; ``auto`` takes a GPU if there is one.
            dtype: one of `DTYPES`; ``auto`` is bfloat16 on a GPU that has it, float32 elsewhere, with products in
                bfloat16 on a CPU with AMX; ``float32`` is float32 throughout.

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
            return cls(device, "bfloat16" if device == "cuda" and can else "float32", device == "cpu" and has_amx())
        if dtype == "bfloat16" and not can:
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

    @contextmanager
    def reading(self, longest: int) -> Iterator[None]:
        """Compute as whole sequences are read fastest, until the block ends.

        Args:
            longest: tokens of the longest sequence. Torch's fused attention rounds its factors block by block, which
                takes longer than all else in short sequences: these are attended to in plain products.
        """
        if not self.rounds_products:
            yield
            return
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            with sdpa_kernel(SDPBackend.MATH) if longest <= PLAIN_ATTENTION else nullcontext():
                yield
        finally:
            torch.set_float32_matmul_precision(before)


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16 with instructions of its own."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


def has_amx() -> bool:
    """Return whether this processor multiplies matrices of bfloat16, and torch and oneDNN are allowed to use that."""
    import torch

    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    held_back = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")
    there = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    return there and not held_back and (allowed in ("ALL", "DEFAULT") or "AMX" in allowed)
