"""A process that is restarted when it ends, and that ends with this one."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from qpruner_core.die_with_parent import dying_with_parent

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 10.0
_SETTLED_SECONDS = 30.0  # after running this long, it is no longer failing at its start


class KeptProcess:
    """``command`` from :meth:`start` to :meth:`stop`, in its own session so that a Ctrl-C only reaches this process."""

    def __init__(
        self, name: str, command: Sequence[str | Path], *,
        environment: Mapping[str, str] | None = None, log: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL, on_end: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._command = [str(part) for part in command]
        self._environment = dict(environment) if environment is not None else None
        self._log = log
        self._death_signal = death_signal
        self._on_end = on_end or (lambda pid: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        # The thread that starts the process outlives it: the kernel takes that thread's end for the parent's.
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End it by SIGTERM, by force after ``seconds``, and return when it is gone."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                _LOG.warning("The %s did not end within %.0f s: killed", self.name, seconds)
                with suppress(ProcessLookupError):
                    process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            since = time.monotonic()
            how = self._run_once()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - since > _SETTLED_SECONDS else failures + 1
            pause = min(0.1 * 2**failures, _LONGEST_PAUSE)
            _LOG.warning("The %s %s: restarted in %.1f s", self.name, how, pause)
            self._stopping.wait(pause)

    def _run_once(self) -> str:
        """Start the process and wait for its end; returns how it ended, in words. Only :meth:`stop` ends this
        thread."""
        try:
            process = self._start()
        except OSError as error:  # no memory, no process id, or no room for the log, for now
            return f"cannot be started ({error})"
        if process is None:
            return "was stopped"
        code = process.wait()
        try:
            self._on_end(process.pid)
        except Exception:  # noqa: BLE001 - the process is needed, whatever is made of its end
            _LOG.exception("The end of the %s could not be logged", self.name)
        return f"ended with {code}"

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            log = self._log.open("ab") if self._log is not None else None
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    dying_with_parent(self._command, self._death_signal), env=self._environment, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            finally:
                if log is not None:
                    log.close()
            return self._process
