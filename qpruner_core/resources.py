"""What the machine has to offer."""

from __future__ import annotations

import ctypes
import sys

import psutil
import torch

from qpruner_core.control_group import memory_left


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that are free now: of the device if it is a GPU, else of the machine.

    Of a GPU that counts what torch's allocator has reserved and not given out: taken for others, free for us.
    """
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available, left = int(psutil.virtual_memory().available), memory_left()
    return available if left is None else min(available, left)  # psutil does not know a container's own limit


def best_device() -> torch.device:
    """The GPU at hand, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def return_freed_memory() -> None:
    """Give memory that was freed back to the system at once (glibc; elsewhere nothing happens).

    By itself glibc keeps freed blocks of up to 32 MiB for later: weights that pruning has freed would stay resident
    beside those that it has made. A lower limit for such blocks, the other remedy, would make each product of matrices
    ask the system for new pages.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
