"""One run at a time in a process.

A run sets what all of a process shares: random seeds, kernels of matrix products, and, while transformers loads a
model, torch's default type. Two at once would spoil each other's results.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qpruner_core.events import CancelToken

_LOOK_SECONDS = 0.2
"""Between looks at whether a run that waits is cancelled."""
_running = threading.RLock()


@contextmanager
def alone(cancel: CancelToken | None = None) -> Iterator[None]:
    """Wait until no other thread of this process is within such a block, and keep others out until the end of this one.

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
    """As :func:`alone`, without waiting: ``False`` if another thread is within such a block."""
    free = _running.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _running.release()
