"""Run an engine's program beside a run, with a time limit and cancellation."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qpruner_core.die_with_parent import dying_with_parent
from qpruner_core.measure.speed import EngineFailedError

LONGEST_SECONDS = 900.0
"""A quarter of an hour, as its message says."""
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""Seconds that an engine gets to end its own processes first."""


def engine_output(
    name: str,
    command: Sequence[str],
    *,
    look: Callable[[], None],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Output of ``command``; messages call it ``name``. ``look`` is called several times per second; an exception that
    it raises ends the program.

    ``environment``: its variables, default those of this process; ``folder``: its working directory.

    Raises:
        EngineFailedError: it failed, or exceeded a quarter of an hour.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - a program that the operator installed
            dying_with_parent(command, signal.SIGTERM), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=environment, cwd=folder,
        )  # fmt: skip
    except OSError as error:
        raise EngineFailedError(f"{name} does not start: {error}.") from error
    try:
        out, errors = _wait(name, process, look)
    finally:
        _end(process)
    if process.returncode:
        last = (errors.strip().splitlines() or ["no output"])[-1]
        raise EngineFailedError(f"{name} ended with {process.returncode}: {last}")
    return out


def _wait(name: str, process: subprocess.Popen[str], look: Callable[[], None]) -> tuple[str, str]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            look()
            if time.monotonic() > deadline:
                raise EngineFailedError(f"{name} took longer than a quarter of an hour.") from None


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
