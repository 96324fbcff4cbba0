"""Name of the processor that a run computes on, for reports."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache
def processor_name(device: torch.device) -> str:
    """Model of the GPU, or of the CPU with the widest vector instructions that torch uses, such as
    ``"AMD EPYC 7B13 (AVX2)"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown processor"
