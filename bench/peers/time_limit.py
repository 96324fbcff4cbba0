"""A limit to the seconds that a tool may take."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 5.0
"""Seconds after which a tool that caught the error, and went on, is told again."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the body after ``seconds``; main thread only, and a call into C ends first."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds:g} seconds, the limit here")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
