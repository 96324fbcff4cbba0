"""Giving back the memory of models that a run is done with.

A model is in reference cycles with its hooks, so that only Python's collector frees it. A process with torch and
transformers holds a million objects that live as long as it does, and a collection that looks at all of them takes
0.4 s: longer than most stages of a small model.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_survivors_exempt = False


def free_garbage() -> None:
    """Free what is unreachable, and on a GPU give back what torch keeps of it."""
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
