"""Live progress of a run in a terminal: a bar a stage."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from qpruner_core.events import STAGES, Event, RunWarning, StageFinished, StageName, StageProgress, StageStarted


class Progress:
    """An event callback that draws; ``quiet`` draws nothing."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._bars = RichProgress(
            TextColumn("{task.fields[stage]:>9}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=quiet,
        )
        self._tasks: dict[StageName, TaskID] = {}

    def __enter__(self) -> Progress:
        self._bars.start()
        self._tasks = {stage: self._bars.add_task("", stage=stage, total=1.0, start=False) for stage in STAGES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Draw ``event``."""
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
            self._bars.console.print(f"[yellow]warning[/yellow] {event.message}")
