"""On what models run: one place decides device and precision, of judging, sampling, scoring and training.

Precision follows what was measured. On CPUs models are float32: bfloat16 is 30 times slower where the processor has no
instructions for it. Where it has AMX, whole sequences are read (in training and for the KL) with matrix products that
round their factors to bfloat16 and sum in float32; everything else stays as it is. Sampling, a token at a time, was
three times slower that way. Where it has bfloat16 instructions without AMX, rounding inside the products saves nothing:
there whole sequences are read in mixed precision (torch's autocast). A GPU computes in bfloat16 if it can. Trained
weights are float32 everywhere; on a GPU with bfloat16 TRL computes in that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")

EXACT, ROUNDED, MIXED = "exact", "rounded", "mixed"
"""How float32 models read whole sequences: as they are; with factors rounded to bfloat16; in mixed precision."""

PLAIN_ATTENTION = {ROUNDED: 256, MIXED: 128}
"""Tokens up to which plain attention was faster than fused attention."""


class HardwareError(ValueError):
    """The machine cannot do what the config asks for; the message names the key."""


@dataclass(frozen=True)
class Hardware:
    """Where models run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``, as torch calls them.
        dtype: precision of models that are not trained: ``float32``, ``bfloat16`` or ``float16``.
        products: how matrices of float32 are multiplied where whole sequences are read: `EXACT`, `ROUNDED` or `MIXED`.
    """

    device: str
    dtype: str
    products: str = EXACT

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> Hardware:
        """Return what is asked for if the machine has it, and its best for ``auto``.

        Args:
            device: one of `DEVICES`; ``auto`` takes a GPU if there is one.
            dtype: one of `DTYPES`; ``auto`` is bfloat16 on a GPU that has it, float32 elsewhere, with products in
                bfloat16 on a CPU that has it; ``float32`` is float32 throughout.

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
            return cls(device, "bfloat16" if device == "cuda" and can else "float32", _fastest_products(device))
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
            longest: tokens of the longest sequence. Torch's fused attention works block by block (rounding its factors,
                and slowly in the backward pass), which takes long in short sequences: these are attended to in plain
                products.
        """
        if self.products == EXACT:
            yield
            return
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel(SDPBackend.MATH) if longest <= PLAIN_ATTENTION[self.products] else nullcontext():
            if self.products == MIXED:
                with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # weights change in a training
                    yield
            else:
                with _rounded_products():
                    yield


@contextmanager
def _rounded_products() -> Iterator[None]:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
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


def _fastest_products(device: str) -> str:
    """Return how this processor reads whole sequences fastest, in what torch and oneDNN are allowed to use of it."""
    import torch

    if device != "cpu" or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2"):
        return EXACT
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)()) and _names(allowed, "AMX"):
        return ROUNDED
    return MIXED if has_bfloat16(device) and _names(allowed, "AMX", "FP16", "BF16", "AVX10") else EXACT


def _names(allowed: str, *instructions: str) -> bool:
    """Return whether oneDNN's limit admits one of the instructions."""
    return allowed in ("ALL", "DEFAULT") or any(name in allowed for name in instructions)
