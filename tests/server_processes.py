"""Servers that tests start: on a free port, and gone when the tests are, however these end."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(
    processes: ExitStack,
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start ``command`` until ``processes`` closes or this process dies, even by SIGKILL; output goes to ``log``."""

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)

    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment) if environment is not None else None,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd=log.parent,
            preexec_fn=die_with_parent,
        )
    processes.callback(process.wait)
    processes.callback(_signal, process, stop_signal)
    return process


def wait_until(condition: Callable[[], bool], seconds: float = 30, *, every: float | None = None) -> bool:
    """Whether ``condition`` became true within ``seconds``. The one place where tests wait for what tells them of no
    event.

    It is checked again after ``every`` seconds; by default after a twentieth of the time waited, but at least 0.05 and
    at most 0.5 seconds, because checking costs time that what is waited for could use.
    """
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        if waited > seconds:
            return False
        time.sleep(min(max(0.05, waited / 20), 0.5) if every is None else every)
    return True


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        os.kill(process.pid, number)
