"""On what models run: one place decides device and precision, of judging, sampling, scoring and training.

Precision follows what was measured. On CPUs models compute in float32: bfloat16 was no faster in sampling or training
where the processor has instructions for it (AMX, AVX512_BF16), and 30 times slower where it has none. A GPU computes in
bfloat16 if it can. Trained weights are float32 everywhere; on a GPU with bfloat16 TRL computes in that.
"""

from __future__ import annotations

from dataclasses import dataclass

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
