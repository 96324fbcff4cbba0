"""Elapsed and expected time of a run."""

from __future__ import annotations

import time
from collections.abc import Callable

from qpruner_core.events import Event, StageFinished, StageName, StageProgress, StageStarted

_TELLING_FRACTION = 0.05
"""From this fraction of a stage on, its elapsed time predicts the total better than the estimate before it."""


class StageClock:
    """Follows the events of a run. ``now`` returns the time in seconds.

    ``stage``: the running stage, if any. ``fraction`` and ``message``: its last report.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun = self._stage_begun = self._reported = now()
        self._estimate: float | None = None
        self._later: float | None = None
        self.stage: StageName | None = None
        self.fraction = 0.0
        self.message = ""

    def follow(self, event: Event) -> None:
        """Update from ``event``."""
        if isinstance(event, StageStarted):
            self.stage, self.fraction, self.message = event.stage, 0.0, ""
            self._stage_begun = self._reported = self._now()
            self._estimate, self._later = event.expected_seconds, event.expected_later_seconds
        elif isinstance(event, StageProgress) and event.stage == self.stage:
            self.fraction, self.message, self._reported = event.fraction, event.message, self._now()
        elif isinstance(event, StageFinished):
            self.stage = None

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._now() - self._begun

    @property
    def stage_elapsed(self) -> float:
        """Seconds since the stage began."""
        return self._now() - self._stage_begun

    @property
    def stage_expected(self) -> float | None:
        """Expected total seconds of the stage; ``None`` if unknown, for instance after the estimate has passed."""
        if self.fraction >= _TELLING_FRACTION:
            return max((self._reported - self._stage_begun) / self.fraction, self.stage_elapsed)
        return self._estimate if self._estimate is not None and self._estimate >= self.stage_elapsed else None

    @property
    def stage_left(self) -> float | None:
        """Seconds until the stage ends, if known."""
        return None if self.stage_expected is None else self.stage_expected - self.stage_elapsed

    @property
    def left(self) -> float | None:
        """Seconds until the run ends, if known."""
        return None if self.stage_left is None or self._later is None else self.stage_left + self._later


def duration(seconds: float) -> str:
    """Human-readable ``seconds``: "0.4 s", "43 s", "2:05 min", "1:02:03 h"."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"
