"""Runs the process that inspects an upload, within limits of memory and time."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from app.settings import Settings
from qpruner_core.die_with_parent import dying_with_parent
from worker.check_child import CheckRequest, CheckResult
from worker.child_process import child_environment
from worker.watch import Watch

_LOG = logging.getLogger(__name__)
_COMMAND = (sys.executable, "-m", "worker.check_child")
_MOST_SECONDS = 1800.0
_LOOK_SECONDS = 0.1


class NoResultError(Exception):
    """The process ended without a result: it crashed, or exceeded its memory or time."""


def look_at(request: CheckRequest, upload_id: str, settings: Settings, check_stop: Callable[[], None]) -> CheckResult:
    """Result of the process about the upload.

    ``check_stop`` is called periodically; the process is ended when it raises.

    Raises:
        NoResultError: there is no result.
    """
    temporary = settings.data_dir.resolve() / "checks" / upload_id
    temporary.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(  # noqa: S603 - the command is our own
        dying_with_parent(_COMMAND, signal.SIGKILL),
        env=child_environment(os.environ, 1, temporary), start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said: list[tuple[bytes, bytes]] = []
    talk = threading.Thread(
        target=lambda: said.append(process.communicate(request.model_dump_json().encode())), daemon=True
    )
    talk.start()
    try:
        _wait(talk, process.pid, Watch.of(settings), check_stop)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        talk.join()
        shutil.rmtree(temporary, ignore_errors=True)
    output, errors = said[0]
    try:
        return CheckResult.model_validate_json(output)
    except ValidationError as error:
        _LOG.error(
            "%s: the inspection ended with %d and no result:\n%s",
            upload_id, process.returncode, errors.decode(errors="replace")[-4000:],
        )  # fmt: skip
        raise NoResultError(f"The process ended with {process.returncode}.") from error


def _wait(talk: threading.Thread, pid: int, watch: Watch, check_stop: Callable[[], None]) -> None:
    """Return once the process has reported everything, or must be ended."""
    deadline = time.monotonic() + _MOST_SECONDS
    while talk.is_alive():
        talk.join(_LOOK_SECONDS)
        check_stop()
        if breach := watch.look(pid, None):
            raise NoResultError(breach.reason)
        if time.monotonic() > deadline:
            raise NoResultError(f"The process took more than {_MOST_SECONDS:.0f} s.")
