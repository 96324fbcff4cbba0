"""What the machine has to offer."""

from __future__ import annotations

import psutil
import torch


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that are free now: of the device if it is a GPU, else of the machine."""
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return int(psutil.virtual_memory().available)


def best_device() -> torch.device:
    """The GPU at hand, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
