from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from qpruner_core import cli
from qpruner_core.events import Event, RunWarning, StageFinished, StageProgress, StageStarted
from qpruner_core.terminal import Lines, Progress

STARTED = StageStarted(stage="prune", expected_seconds=40.0, expected_later_seconds=80.0)
HALF = StageProgress(stage="prune", fraction=0.5, message="batch 2 of 4")


def finished(*, resumed: bool = False) -> Event:
    return StageFinished(stage="prune", key="", directory="", files=[], summary={}, seconds=31.0, resumed=resumed)


class Log(io.StringIO):
    """A file that knows what of it has been flushed, and when a line was."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []
        self.another = threading.Semaphore(0)

    def flush(self) -> None:
        new = self.getvalue().splitlines()[len(self.flushed) :]
        self.flushed += new
        self.another.release(len(new))

    def wait_for(self, lines: int) -> None:
        for _ in range(lines):
            assert self.another.acquire(timeout=20)


def console(*, terminal: bool, kind: str = "xterm") -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, _environ={"TERM": kind})


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_a_log_has_a_line_as_a_stage_begins_and_ends_and_each_is_there_at_once() -> None:
    log = Log()
    with Lines(log) as lines:
        for event in (STARTED, HALF, finished(), RunWarning(message="[bold] is no markup")):
            lines(event)
        seen = list(log.flushed)
    assert [line.partition("] ")[2] for line in seen] == [
        "prune: started, expected to take 40 s, 2:00 min left in all",
        "prune: finished in 31 s",
        "warning: [bold] is no markup",
    ]
    assert log.flushed == seen


def test_between_them_a_log_says_every_now_and_then_how_far_the_run_is() -> None:
    log = Log()
    with Lines(log, seconds=0.02) as lines:
        log.wait_for(2)
        assert "preparing" in log.flushed[0]  # a model may be fetched before the first stage
        lines(STARTED)
        lines(HALF)
        log.wait_for(len(log.flushed) + 2)
        lines(finished())
    told = [line for line in log.flushed if "50%" in line]
    assert len(told) >= 2
    assert "prune: 50% after 0." in told[0]
    assert "expected to take 0." in told[0]
    assert "left in all (batch 2 of 4)" in told[0]


def test_a_run_outlives_the_reader_of_its_log() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with Lines(Gone()) as lines:
        lines(STARTED)
        lines(finished())


def test_a_stage_that_an_earlier_run_has_finished_is_told_as_such() -> None:
    log = Log()
    with Lines(log) as lines:
        lines(finished(resumed=True))
    assert log.flushed[0].endswith("prune: done before")


def test_a_terminal_has_bars_with_the_time_left() -> None:
    shown = console(terminal=True)
    with Progress(shown) as progress:
        progress(STARTED)
        progress(HALF)
    assert "50 %" in text_of(shown)
    assert "0.0 s left, 1:20 min in all" in text_of(shown)
    assert "batch 2 of 4" in text_of(shown)
    assert "started" not in text_of(shown)


@pytest.mark.parametrize("log", [console(terminal=False), console(terminal=True, kind="dumb")])
def test_what_cannot_be_drawn_over_has_lines(log: Console) -> None:
    with Progress(log) as progress:
        progress(STARTED)
    assert text_of(log).count("\n") == 1
    assert "prune: started" in text_of(log)


@pytest.mark.parametrize(
    ("out", "errors", "as_json", "shown_on"),
    [
        (True, True, False, ["errors"]),
        (True, False, False, ["out"]),
        (False, True, False, ["out", "errors"]),  # qpruner compress … > log: lines in the log, bars on the terminal
        (False, False, False, ["out"]),  # > log 2>&1: each line once
        (True, True, True, ["errors"]),
        (False, True, True, ["errors"]),
        (True, False, True, ["errors"]),
        (False, False, True, ["errors"]),
    ],
)
def test_progress_is_where_somebody_looks_and_not_in_a_json_document(
    out: bool, errors: bool, as_json: bool, shown_on: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    consoles = {"out": console(terminal=out), "errors": console(terminal=errors)}
    monkeypatch.setattr(cli, "_out", consoles["out"])
    monkeypatch.setattr(cli, "_errors", consoles["errors"])
    assert cli._shown_on(as_json) == [consoles[name] for name in shown_on]
