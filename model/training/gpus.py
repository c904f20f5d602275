"""What GPUs can do, by NVIDIA's data sheets."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tokenmill.model.common.config_file import ConfigError, nearest


@dataclass(frozen=True)
class GPU:
    """`device_name`: part of what torch calls it. `peak_flops`: dense bf16 FLOP/s with fp32 accumulation. `memory`: bytes."""

    device_name: str
    peak_flops: float
    memory: float


GPUS = {
    "h200": GPU("H200", 989e12, 141e9),
    "h100-pcie": GPU("H100 PCIe", 756e12, 80e9),
    "h100": GPU("H100", 989e12, 80e9),
    "a100": GPU("A100", 312e12, 80e9),
    "l40s": GPU("L40S", 362e12, 48e9),
    "rtx4090": GPU("RTX 4090", 165e12, 24e9),
    "rtx3090": GPU("RTX 3090", 71e12, 24e9),
}
"""By the name that `tokenmill budget --gpu` takes. A device is the first whose `device_name` its name contains."""


def gpu_named(name: str) -> GPU:
    """The GPU of a name in `GPUS`. Raises `ConfigError` for an unknown one."""
    if name.lower() not in GPUS:
        raise ConfigError(f"there is no figure for the GPU {name!r}; {nearest(name.lower(), GPUS)}")
    return GPUS[name.lower()]


def peak_flops(device: torch.device) -> float | None:
    """A device's dense bf16 FLOP/s; None where they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((gpu.peak_flops for gpu in GPUS.values() if gpu.device_name in name), None)
