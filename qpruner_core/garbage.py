"""Python's garbage collector, which models need and imports do not.

A model is in reference cycles with its hooks, so that only the collector frees it. But torch and transformers make a
million objects as they are imported, which live as long as the process. To look through all of them takes 0.4 s per
collection: longer than most stages of a small model.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_survivors_exempt = False


@contextmanager
def collector_paused(*, freeze: bool = False) -> Iterator[None]:
    """Within it nothing is collected; meant for imports, a third of whose time the collector would take.

    With ``freeze`` everything that is there in the end is left out of all collections from then on: for a program that
    has just started, not for a library in someone else's.
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
    """Free what is unreachable, and on a GPU give back what torch keeps of it."""
    import torch  # not before a program that pauses the collector imports it

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if _survivors_exempt:
        gc.freeze()


@contextmanager
def survivors_exempt_from_collection() -> Iterator[None]:
    """Free what is unreachable now. Whatever survives this or a :func:`free_garbage` in the block is taken for
    long-lived, and later collections do not look at it until the end of the block.

    Where the process has frozen objects already, nothing is exempt but these, and they stay so.
    """
    global _survivors_exempt
    if gc.get_freeze_count():
        free_garbage()
        yield
        return
    _survivors_exempt = True
    try:
        free_garbage()
        yield
    finally:
        _survivors_exempt = False
        gc.unfreeze()
