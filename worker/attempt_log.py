"""Stores the output of a child, periodically while it runs and once after it has ended."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from app.jobs.lease import Lease, hold
from app.jobs.logs import keep_log
from worker.child_process import ChildProcess


class AttemptLog:
    """The output of ``child`` in the attempt of ``lease``."""

    def __init__(self, lease: Lease, child: ChildProcess) -> None:
        self._lease = lease
        self._child = child
        self._written = 0
        self._written_at = float("-inf")

    def is_due(self, seconds: float) -> bool:
        """Whether there is new output, and the last write is at least ``seconds`` ago."""
        return self._child.output()[1] != self._written and time.monotonic() - self._written_at >= seconds

    def write(self, session: Session) -> None:
        """Write the output so far. Raises :class:`LeaseLost`."""
        output, printed = self._child.output()
        hold(session, self._lease)
        keep_log(session, self._lease.job_id, self._lease.attempt, output, printed)
        self._written, self._written_at = printed, time.monotonic()
