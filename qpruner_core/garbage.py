"""Python's garbage collector while modules are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused(*, freeze: bool = False) -> Iterator[None]:
    """Within it nothing is collected; meant for imports.

    torch and transformers make half a million objects as they are imported, none of them garbage. To look through them
    again and again is a third of the time that importing takes, and half a second of each full collection later.

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
