"""What the machine has to offer."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from qpruner_core.control_group import memory_left

_M_MMAP_THRESHOLD = -3  # of malloc.h


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


@contextmanager
def freed_blocks_returned() -> Iterator[None]:
    """Within it large blocks go back to the system as soon as they are freed (glibc; elsewhere nothing changes).

    By itself glibc raises the size from which it does so to 32 MiB, and keeps smaller tensors for later: the weights
    that pruning has freed would stay resident beside those that it has made.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 2**20)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
