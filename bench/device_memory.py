"""Seconds of a phase, and the most memory of a GPU that tensors took in it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel

NO_GPU = "No GPU is at hand: torch.cuda.is_available() is false. `--shape tiny` runs on the CPU, to try the script."


class DevicePeak(BaseModel):
    """A phase or stage: seconds, and bytes of the device that tensors took at most and when it began; ``None`` without
    a GPU."""

    stage: str
    device_bytes: int | None
    before: int | None = None
    seconds: float

    @property
    def added(self) -> int | None:
        """What it took more than was taken before."""
        return None if self.device_bytes is None else self.device_bytes - (self.before or 0)


@contextmanager
def measured(stage: str, peaks: list[DevicePeak]) -> Iterator[None]:
    """Add the figures of what runs inside to ``peaks``."""
    before = reset_peak()
    started = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peaks.append(DevicePeak(stage=stage, device_bytes=peak_bytes(), before=before, seconds=seconds))


def reset_peak() -> int | None:
    """Begin a new peak, without what nobody refers to any more: models are in reference cycles with their hooks. The
    bytes that are still taken."""
    gc.collect()
    if not torch.cuda.is_available():
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_bytes() -> int | None:
    """The peak since the last reset; ``None`` without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def device_name() -> str:
    """The GPU, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU; device memory is not measured"
