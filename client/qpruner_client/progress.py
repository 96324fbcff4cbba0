"""Progress of a job or a download: a bar on a terminal, and a line per stage elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from qpruner_client.events import JobEvent
from qpruner_client.models import (
    AttemptLostEvent,
    StageFinishedEvent,
    StageProgressEvent,
    StageStartedEvent,
    WarningEvent,
)

_WIDTH = 30


class ProgressBar:
    """Shows a job's events on ``stream``, by default standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._begun = time.monotonic()
        self._shown = False

    def __call__(self, event: JobEvent) -> None:
        """Show ``event``."""
        match event:
            case StageStartedEvent(data=data):
                expected = f", expected to take {_seconds(data.expected_seconds)}" if data.expected_seconds else ""
                self._bar(data.stage, 0.0, "") if self._live else self._line(f"{data.stage}: started{expected}")
            case StageProgressEvent(data=data):
                if self._live:
                    self._bar(data.stage, data.fraction, data.message)
            case StageFinishedEvent(data=data):
                how = "reused" if data.resumed else f"finished in {_seconds(data.seconds)}"
                self._line(f"{data.stage}: {how}")
            case WarningEvent(data=data):
                self._line(f"warning: {data.message}")
            case AttemptLostEvent(data=data):
                self._line(f"attempt lost: {data.reason}")
            case _:
                self._line(event.type.replace("_", " "))

    def close(self) -> None:
        """End the line of the bar."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _bar(self, stage: str, fraction: float, message: str) -> None:
        filled = round(_WIDTH * min(1.0, max(0.0, fraction)))
        bar = "█" * filled + "·" * (_WIDTH - filled)
        self._stream.write(f"\r\x1b[K{stage:<9}{bar} {fraction:4.0%}  {message[:40]}")
        self._stream.flush()
        self._shown = True

    def _line(self, text: str) -> None:
        self.close()
        self._stream.write(f"[{_seconds(time.monotonic() - self._begun):>9}] {text}\n")
        self._stream.flush()


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
