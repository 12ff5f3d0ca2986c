"""In which number format a device trains: the fastest one that it computes natively."""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Precision:
    """Format of the network's activations; weights, losses and the optimizer stay float32."""

    device_type: str
    #: None = float32 throughout.
    activations: torch.dtype | None

    @classmethod
    def of(cls, device: torch.device) -> "Precision":
        """bfloat16 where the device has instructions for it, else float16 on CUDA and float32 on a CPU.

        A CPU without AVX-512 BF16 or AMX emulates bfloat16 and is slower with it than without.
        """
        if device.type == "cuda":
            return cls("cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
        return cls(device.type, torch.bfloat16 if _cpu_has_bfloat16() else None)

    def autocast(self) -> AbstractContextManager[object]:
        """Run what is inside in this format."""
        if self.activations is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, self.activations)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling: float16 gradients would underflow; does nothing for the other formats."""
        return torch.amp.GradScaler(self.device_type, enabled=self.activations is torch.float16)


def _cpu_has_bfloat16() -> bool:
    # torch has no public question for it.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001
