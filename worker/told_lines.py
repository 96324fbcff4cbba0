"""The lines that a child tells, as they come, and since when nothing but the next one is waited for."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.protocol import Line

_BATCH = 500


class ToldLines:
    """``quiet_since``: since when the child has told nothing although it is listened to (``time.monotonic()``), without
    the time that was taken by other things meanwhile; ``None``: what it told is being worked on."""

    def __init__(self) -> None:
        self.quiet_since: float | None = None

    def so_far(self, lines: queue.SimpleQueue[Line | None], seconds: float) -> Iterator[Line | None]:
        """The next line, waited for at most ``seconds``, and those that are there already, for one transaction."""
        if self.quiet_since is None:
            self.quiet_since = time.monotonic()
        try:
            first = lines.get(timeout=seconds)
        except queue.Empty:
            return
        self.quiet_since = None  # until all that it told is recorded, it is not the child that is waited for
        yield first
        for _ in range(_BATCH):
            try:
                yield lines.get_nowait()
            except queue.Empty:
                return

    @contextmanager
    def not_listening(self) -> Iterator[None]:
        """Do something else, however long it takes: it is not the child that is quiet meanwhile."""
        since, self.quiet_since, begun = self.quiet_since, None, time.monotonic()
        try:
            yield
        finally:
            self.quiet_since = None if since is None else since + time.monotonic() - begun
