"""Progress of a run: bars on a terminal, lines in a file or a pipe."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from qpruner_core.events import STAGES, Event, RunWarning, StageFinished, StageName, StageProgress, StageStarted
from qpruner_core.stage_clock import StageClock, duration

SECONDS_BETWEEN_LINES = 30.0


class _Display(ABC):
    """Shows the events of a run within its ``with`` block."""

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    @abstractmethod
    def begin(self) -> None:
        """Called when the run begins."""

    @abstractmethod
    def end(self) -> None:
        """Called when the run has ended."""

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Show ``event``."""


class Progress(_Display):
    """An event callback that shows a run on every one of ``consoles``: bars on a terminal, lines elsewhere."""

    def __init__(self, *consoles: Console) -> None:
        self._displays = [Bars(console) if is_live(console) else Lines(console.file) for console in consoles]
        self._open = ExitStack()

    def begin(self) -> None:
        """Called when the run begins."""
        for display in self._displays:
            self._open.enter_context(display)

    def end(self) -> None:
        """Called when the run has ended."""
        self._open.close()

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        for display in self._displays:
            display(event)


def is_live(console: Console) -> bool:
    """Whether ``console`` is a terminal that supports redrawing."""
    return console.is_terminal and not console.is_dumb_terminal


class Bars(_Display):
    """A bar per stage, with the elapsed and the remaining time."""

    def __init__(self, console: Console) -> None:
        self._clock = StageClock()
        self._bars = RichProgress(
            TextColumn("{task.fields[stage]:>9}"),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            _TimeLeft(self._clock),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        self._tasks: dict[StageName, TaskID] = {}

    def begin(self) -> None:
        """Draw the bars, all empty."""
        self._bars.start()
        self._tasks = {stage: self._bars.add_task("", stage=stage, total=1.0, start=False) for stage in STAGES}

    def end(self) -> None:
        """Leave the bars on the screen."""
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Draw ``event``."""
        self._clock.follow(event)
        if isinstance(event, StageStarted):
            self._bars.start_task(self._tasks[event.stage])
        elif isinstance(event, StageProgress):
            self._bars.update(self._tasks[event.stage], completed=event.fraction, description=event.message)
        elif isinstance(event, StageFinished):
            self._bars.start_task(self._tasks[event.stage])
            done = "done before" if event.resumed else ""
            self._bars.update(self._tasks[event.stage], completed=1.0, description=done)
            self._bars.stop_task(self._tasks[event.stage])
        elif isinstance(event, RunWarning):
            self._bars.console.print(Text.assemble(("warning", "yellow"), f" {event.message}"))


class _TimeLeft(ProgressColumn):
    """The remaining time of the running stage, and of all stages."""

    def __init__(self, clock: StageClock) -> None:
        super().__init__(Column(no_wrap=True))
        self._clock = clock

    def render(self, task: Task) -> Text:
        """Remaining time in one stage's row."""
        clock = self._clock
        if task.fields["stage"] != clock.stage or clock.stage_left is None:
            return Text("")
        in_all = "" if clock.left is None else f", {duration(clock.left)} in all"
        return Text(f"{duration(clock.stage_left)} left{in_all}", style="progress.remaining")


class Lines(_Display):
    """A line at the start and the end of each stage, and one every ``seconds`` in between; each is flushed at once.

    A closed pipe or a full disk ends the lines, not the run.
    """

    def __init__(self, stream: IO[str], *, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self._stream = stream
        self._seconds = seconds
        self._clock = StageClock()
        self._lock = threading.RLock()
        self._written = threading.Event()
        self._ended = False
        self._reminder = threading.Thread(target=self._remind, name="progress", daemon=True)

    def begin(self) -> None:
        """Start the periodic lines."""
        self._reminder.start()

    def end(self) -> None:
        """Stop writing."""
        with self._lock:
            self._ended = True
        self._written.set()
        self._reminder.join()

    def __call__(self, event: Event) -> None:
        """Write a line for ``event``, if it needs one."""
        with self._lock:
            self._clock.follow(event)
            if isinstance(event, StageStarted):
                self._write(f"{event.stage}: started{self._expectation()}")
            elif isinstance(event, StageFinished) and event.resumed:
                self._write(f"{event.stage}: done before")
            elif isinstance(event, StageFinished):
                self._write(f"{event.stage}: finished in {duration(event.seconds)}")
            elif isinstance(event, RunWarning):
                self._write(f"warning: {event.message}")

    def _expectation(self) -> str:
        expected, left = self._clock.stage_expected, self._clock.left
        of_stage = "" if expected is None else f", expected to take {duration(expected)}"
        return of_stage + ("" if left is None else f", {duration(left)} left in all")

    def _remind(self) -> None:
        while not self._ended:
            if self._written.wait(self._seconds):
                self._written.clear()
                continue
            with self._lock:
                if not self._written.is_set():  # by an event, just now
                    self._write(self._standing())

    def _standing(self) -> str:
        clock = self._clock
        if clock.stage is None:
            return "preparing"
        standing = f"{clock.stage}: {clock.fraction:.0%} after {duration(clock.stage_elapsed)}{self._expectation()}"
        return standing + (f" ({clock.message})" if clock.message else "")

    def _write(self, text: str) -> None:
        if self._ended:
            return
        try:
            self._stream.write(f"[{duration(self._clock.elapsed):>9}] {text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the pipe is closed, or the disk is full
            self._ended = True
        self._written.set()
