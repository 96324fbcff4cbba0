"""Time of a function, measured in few runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_ENOUGH = 0.05
_SLOW = 0.15
_MOST = 9


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """The minimum of a few runs of ``function``, see :func:`seconds_once`; a slow one runs once."""
    first = seconds_once(function, device)
    if first > _SLOW:
        return first
    found = [seconds_once(function, device)]
    while sum(found) < _ENOUGH and len(found) < _MOST:
        found.append(seconds_once(function, device))
    return min(found)


@contextmanager
def on_one_thread() -> Iterator[int]:
    """Context manager: compute on one CPU thread. Gives the number of threads before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def seconds_once(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run: on a CPU, the computing time of this thread, which is independent of other load; on a GPU,
    the time until it is done."""
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    started = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started
