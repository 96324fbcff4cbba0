"""Seconds of a function, measured with little of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_ENOUGH = 0.05
_SLOW = 0.15
_MOST = 9


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """The least of a few runs of ``function``; a slow one runs once.

    On a CPU those that this thread computed for, which are the same however busy the machine is with other things; of a
    GPU, those until it is done.
    """
    clock = time.perf_counter if device.type == "cuda" else time.thread_time

    def once() -> float:
        started = clock()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - started

    first = once()
    if first > _SLOW:
        return first
    found = [once()]
    while sum(found) < _ENOUGH and len(found) < _MOST:
        found.append(once())
    return min(found)
