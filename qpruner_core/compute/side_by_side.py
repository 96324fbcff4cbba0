"""Many small computations beside each other, each on one thread.

Rounding consists of operations on small tensors. Split over several threads, each operation waits for the slowest of
them, and two threads take up to four times as long as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_T = TypeVar("_T")


def side_by_side(calls: Sequence[Callable[[], _T]], device: torch.device) -> list[_T]:
    """Results of ``calls``, in order, which compute on ``device``.

    On a CPU as many run at once as torch has threads here, each on one thread. On a GPU, and where there is but one
    call or thread, they run one after another in this thread, so that a single call may run its own parts side by side.
    Calls have this thread's grad mode.

    Raises:
        Exception: what the first of ``calls`` that failed raised, after all have ended.
    """
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    if device.type != "cpu" or threads == 1 or len(calls) < 2:
        return [call() for call in calls]

    def on_one_thread(call: Callable[[], _T]) -> _T:
        with torch.set_grad_enabled(grad):
            return call()

    with ThreadPoolExecutor(min(threads, len(calls)), "fit", _compute_on_one_thread) as pool:
        try:
            return list(pool.map(on_one_thread, calls))
        finally:
            torch.set_num_threads(threads)  # threads that start later take the number that was set last


def _compute_on_one_thread() -> None:
    torch.set_num_threads(1)  # of this thread alone
