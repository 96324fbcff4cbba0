"""Resources of the machine."""

from __future__ import annotations

import ctypes
import sys

import psutil
import torch

from qpruner_core.control_group import memory_left, memory_limit


def free_memory(device: torch.device | None = None) -> int:
    """Free bytes: of the device if it is a GPU, else of the machine.

    On a GPU this includes memory that torch's allocator has reserved but not used.
    """
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available, left = int(psutil.virtual_memory().available), memory_left()
    return available if left is None else min(available, left)  # psutil does not know a container's own limit


def total_memory(device: torch.device) -> int:
    """Bytes of the GPU, or of the machine with its swap, or of its container if that has fewer."""
    if device.type == "cuda":
        size: int = torch.cuda.get_device_properties(device).total_memory
        return size
    memory, limit = int(psutil.virtual_memory().total), memory_limit()
    return (memory if limit is None else min(memory, limit)) + int(psutil.swap_memory().total)


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def return_freed_memory() -> None:
    """Return freed memory to the system at once (glibc; elsewhere nothing happens).

    By default glibc keeps freed blocks of up to 32 MiB: weights that pruning has freed would stay resident beside the
    new ones. A lower limit for such blocks, the alternative, would make each matrix product request new pages from the
    system.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
