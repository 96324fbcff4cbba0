"""The lines of a child as they arrive, and the time since which the run only waits for the next one."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.protocol import Line

_BATCH = 500


class ToldLines:
    """``quiet_since``: time (``time.monotonic()``) since which the child has been silent while the run listens,
    excluding time spent on other work; ``None``: its lines are being processed."""

    def __init__(self) -> None:
        self.quiet_since: float | None = None

    def so_far(self, lines: queue.SimpleQueue[Line | None], seconds: float) -> Iterator[Line | None]:
        """The next line, within ``seconds``, and all lines that are available, for one transaction."""
        if self.quiet_since is None:
            self.quiet_since = time.monotonic()
        try:
            first = lines.get(timeout=seconds)
        except queue.Empty:
            return
        self.quiet_since = None  # until its lines are recorded, the run does not wait for the child
        yield first
        for _ in range(_BATCH):
            try:
                yield lines.get_nowait()
            except queue.Empty:
                return

    @contextmanager
    def not_listening(self) -> Iterator[None]:
        """Context manager for other work, whose time does not count as silence of the child."""
        since, self.quiet_since, begun = self.quiet_since, None, time.monotonic()
        try:
            yield
        finally:
            self.quiet_since = None if since is None else since + time.monotonic() - begun
