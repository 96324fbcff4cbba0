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


def free_garbage_between_models() -> None:
    """:func:`free_garbage`, and exempt the survivors within :func:`survivors_exempt_from_collection`.

    Call it only while no model is in memory: one that is exempt is not freed before the end of the block.
    """
    free_garbage()
    if _survivors_exempt:
        gc.freeze()


@contextmanager
def survivors_exempt_from_collection() -> Iterator[None]:
    """Context manager: free unreachable objects now, and exempt survivors from collections until the end of the block.
    Those of :func:`free_garbage_between_models` within the block follow them.

    If the process has frozen objects already, new survivors stay exempt after the block, as those do.
    """
    global _survivors_exempt
    frozen_before = gc.get_freeze_count() > 0
    _survivors_exempt = True
    try:
        free_garbage_between_models()
        yield
    finally:
        _survivors_exempt = False
        if not frozen_before:
            gc.unfreeze()
