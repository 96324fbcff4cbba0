"""Control of Python's garbage collector, which models need and imports do not.

A model is in reference cycles with its hooks, so only the collector frees it. But torch and transformers create a
million objects on import, which live as long as the process. Searching all of them takes 0.4 s per collection: longer
than most stages of a small model.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_survivors_exempt = False


@contextmanager
def collector_paused(*, freeze: bool = False) -> Iterator[None]:
    """Context manager without collections, for imports, a third of whose time the collector would take.

    With ``freeze``, all objects alive at the end are excluded from later collections. Use it in a program that has just
    started, not in a library.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze:
            gc.freeze()
    finally:
        if enabled:
            gc.enable()


def free_garbage() -> None:
    """Free unreachable objects, and on a GPU return torch's cached memory."""
    import torch  # not before a program that pauses the collector imports it

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if _survivors_exempt:
        gc.freeze()


@contextmanager
def survivors_exempt_from_collection() -> Iterator[None]:
    """Context manager: free unreachable objects now, and exempt survivors from collections until the end of the block.

    If the process has frozen objects already, new survivors stay exempt after the block, as those do.
    """
    global _survivors_exempt
    frozen_before = gc.get_freeze_count() > 0
    _survivors_exempt = True
    try:
        free_garbage()
        yield
    finally:
        _survivors_exempt = False
        if not frozen_before:
            gc.unfreeze()
