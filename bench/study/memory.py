"""How much memory this process held at most, phase by phase (Linux)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from qpruner_core.events import Event, StageFinished, StageName, StageStarted

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_INTERVAL = 0.002


class PhasePeak(BaseModel):
    """One phase: bytes above the process before the first phase, seconds, and CPU-seconds of all threads if measured.

    ``resident``: the kernel's own high-water mark (VmHWM), which counts pages of mapped files too; the kernel can drop
    those at any time, since they are on disk. ``anonymous``: what cannot be dropped (RssAnon), the largest of
    samples 2 ms apart.
    """

    phase: str
    resident: int
    anonymous: int
    seconds: float
    cpu_seconds: float | None = None


@dataclass
class _Sampler:
    stop: threading.Event
    largest: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.largest = max(self.largest, _status("RssAnon"))
            self.stop.wait(_INTERVAL)


class MemoryMeter:
    """Measures phases against the process as it was when the meter was made."""

    def __init__(self) -> None:
        self.peaks: list[PhasePeak] = []
        self._resident, self._anonymous = _status("VmRSS"), _status("RssAnon")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        _CLEAR_REFS.write_text("5")  # the high-water mark starts anew at what is resident now
        sampler = _Sampler(threading.Event())
        thread = threading.Thread(target=sampler.run, daemon=True)
        thread.start()
        started, used = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
            sampler.stop.set()
            thread.join()
            resident, anonymous = _status("VmHWM") - self._resident, sampler.largest - self._anonymous
            self.peaks.append(
                PhasePeak(phase=name, resident=resident, anonymous=anonymous, seconds=seconds, cpu_seconds=cpu_seconds)
            )


class StageMeter:
    """Measures each stage that is computed, or only the stage ``of``, by the events of a run."""

    def __init__(self, of: StageName | None = None) -> None:
        self._of = of
        self._meter = MemoryMeter()
        self._phase = ExitStack()

    @property
    def peaks(self) -> list[PhasePeak]:
        """What was measured so far."""
        return self._meter.peaks

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted) and self._of in (None, event.stage):
            self._phase.enter_context(self._meter.phase(event.stage))
        elif isinstance(event, StageFinished):
            self._phase.close()


def _status(field: str) -> int:
    """Bytes of a field of ``/proc/self/status``."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {field}")
