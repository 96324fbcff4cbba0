"""Writes down what a child prints, now and then while it runs and once it has ended."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from app.jobs.lease import Lease, hold
from app.jobs.logs import keep_log
from worker.child_process import ChildProcess


class AttemptLog:
    """The output of ``child`` in the attempt that ``lease`` stands for."""

    def __init__(self, lease: Lease, child: ChildProcess) -> None:
        self._lease = lease
        self._child = child
        self._written = 0
        self._written_at = float("-inf")

    def is_due(self, seconds: float) -> bool:
        """Whether it printed more since the last time, and that was ``seconds`` ago."""
        return self._child.output()[1] != self._written and time.monotonic() - self._written_at >= seconds

    def write(self, session: Session) -> None:
        """Write what it printed so far. Raises :class:`LeaseLost`."""
        output, printed = self._child.output()
        hold(session, self._lease)
        keep_log(session, self._lease.job_id, self._lease.attempt, output, printed)
        self._written, self._written_at = printed, time.monotonic()
