"""What the machine has to offer."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that are free now: of the device if it is a GPU, else of the machine."""
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return min(int(psutil.virtual_memory().available), _free_in_container())


def _free_in_container() -> int:
    """Bytes that the control group leaves (Linux, version 2); a container's own limit, which psutil does not know."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        return sys.maxsize if limit == "max" else int(limit) - int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return sys.maxsize


def best_device() -> torch.device:
    """The GPU at hand, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
