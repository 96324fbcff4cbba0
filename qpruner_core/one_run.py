"""One run at a time per process.

A run sets state of the whole process: random seeds, kernels of matrix products, and, while transformers loads a model,
torch's default type. Two concurrent runs would spoil each other's results.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qpruner_core.events import CancelToken

_LOOK_SECONDS = 0.2
"""Seconds between checks whether a waiting run is cancelled."""
_running = threading.RLock()


@contextmanager
def alone(cancel: CancelToken | None = None) -> Iterator[None]:
    """Context manager: wait until no other thread of this process is inside, and keep others out until the end.

    Raises:
        CancelledError: ``cancel`` was set while waiting.
    """
    while not _running.acquire(timeout=_LOOK_SECONDS):
        if cancel is not None:
            cancel.raise_if_cancelled()
    try:
        yield
    finally:
        _running.release()


@contextmanager
def alone_if_free() -> Iterator[bool]:
    """:func:`alone` without waiting: ``False`` if another thread is inside."""
    free = _running.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _running.release()
