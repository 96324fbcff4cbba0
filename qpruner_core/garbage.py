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


def free_garbage() -> None:
    """Free what is unreachable, and on a GPU give back what torch keeps of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def only_new_objects_collected() -> Iterator[None]:
    """Free what is unreachable, and exempt all that is left from garbage collection until the end of the block.

    Collections within the block look only at objects that were made in it. Where the process has frozen objects
    already, they stay as they are, and so does everything else.
    """
    free_garbage()
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
