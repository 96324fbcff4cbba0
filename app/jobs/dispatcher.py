"""Sends owed wake-ups, and takes back jobs of silent holders. Several processes may do so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from sqlalchemy import delete, event, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.broker import BrokerUnavailableError
from app.database import read_only, utc_now
from app.jobs.deadline import exceeded, waiting_too_long
from app.jobs.lease import end_as_failed, lose_attempt
from app.jobs.models import Dispatch, Job
from app.jobs.repository import OWES_WAKE_UP
from app.settings import Settings
from app.traces import Traces

_LOG = logging.getLogger(__name__)
_BATCH = 100
_LONGEST_PAUSE = 10.0
_TOGETHER_SECONDS = 0.02
"""Jobs that are submitted within this time are one look at the outbox."""


class Waker(Protocol):
    """The dispatcher's interface to the broker."""

    def wake(self, job_id: str, headers: Mapping[str, str] | None = None) -> None:
        """Send one wake-up. Raises :class:`BrokerUnavailableError`."""

    def backlog(self) -> int:
        """Wake-ups that no worker has taken yet. Raises :class:`BrokerUnavailableError`."""


class Dispatcher:
    """A thread that checks the outbox and leases until it is stopped.

    It checks every ``poll_seconds``, and at once when a transaction of this process that owes a wake-up has committed.
    """

    def __init__(
        self, session_factory: sessionmaker[Session], broker: Waker, settings: Settings, traces: Traces | None = None
    ) -> None:
        self._sessions = session_factory
        self._reading = read_only(session_factory)
        self._broker = broker
        self._settings = settings
        self._traces = traces or Traces()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._failures = 0
        self._reap_from = 0.0
        self._owed = threading.Event()
        self._crowded = False

    def start(self) -> None:
        """Begin."""
        event.listen(self._sessions, "after_commit", self._after_commit)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and return when nothing is under way any more."""
        self._stopping.set()
        self._owed.set()
        if self._thread.is_alive():
            event.remove(self._sessions, "after_commit", self._after_commit)
            self._thread.join()

    def send_due(self) -> int:
        """Send every due wake-up; returns their number. Raises :class:`BrokerUnavailableError`."""
        due = self._take_due()
        for position, job_id in enumerate(due):
            try:
                self._wake(job_id)
            except BrokerUnavailableError:
                self._put_back(due[position:])
                raise
        return len(due)

    def _wake(self, job_id: str) -> None:
        with self._traces.wake_up(job_id, self._traceparent(job_id)) as headers:
            self._broker.wake(job_id, headers)

    def _traceparent(self, job_id: str) -> str | None:
        if not self._traces.are_kept:
            return None
        with self._reading() as session:
            return session.scalar(select(Job.traceparent).where(Job.id == job_id))

    def reap(self) -> int:
        """Take back every job whose lease has expired; returns their number."""
        silent = select(Job).where(Job.status == "running", Job.lease_expires_at < utc_now())
        with self._reading() as session:  # usually there is none, and the write lock is not needed
            if session.scalar(silent.with_only_columns(Job.id).limit(1)) is None:
                return 0
        with self._sessions.begin() as session:
            jobs = session.scalars(silent.with_for_update(skip_locked=True).limit(_BATCH)).all()
            for job in jobs:
                _LOG.warning("%s: its worker %s fell silent", job.id, job.lease_owner)
                lose_attempt(session, job, code="worker_lost", reason=f"The worker {job.lease_owner} fell silent.")
            return len(jobs)

    def end_overdue(self) -> None:
        """End every job without a worker whose deadline is over."""
        overdue = waiting_too_long()
        with self._reading() as session:
            if session.scalar(overdue.with_only_columns(Job.id).limit(1)) is None:
                return
        with self._sessions.begin() as session:
            for job in session.scalars(overdue.with_for_update(skip_locked=True).limit(_BATCH)).all():
                end_as_failed(session, job, exceeded(job))

    def _take_due(self) -> list[str]:
        """Mark due rows as sent before they are sent: no rows may be locked while the broker is contacted.

        A crash in between costs one ``resend_seconds``.
        """
        now = utc_now()
        if not self._any_due():
            self._crowded = False
            return []
        backlog = self._broker.backlog()
        self._crowded = backlog > 0
        if backlog >= _BATCH:  # each woken worker works until nothing waits, so these wake enough
            return []
        with self._sessions.begin() as session:
            session.execute(delete(Dispatch).where(Dispatch.job_id.in_(select(Job.id).where(Job.status != "queued"))))
            owed = session.scalar(select(func.count()).select_from(Dispatch)) or 0
            due = select(Dispatch).where(Dispatch.due_at <= now).order_by(Dispatch.due_at).limit(_BATCH)
            if backlog >= owed:  # busy workers will take the pending messages; more would only pile up
                due = due.where(Dispatch.sends == 0)
            rows = session.scalars(due.with_for_update(skip_locked=True)).all()
            for row in rows:
                row.due_at = now + timedelta(seconds=self._settings.resend_seconds)
                row.sent_at, row.sends = now, row.sends + 1
            return [row.job_id for row in rows]

    def _any_due(self) -> bool:
        with self._reading() as session:
            return session.scalar(select(Dispatch.job_id).where(Dispatch.due_at <= utc_now()).limit(1)) is not None

    def _put_back(self, job_ids: list[str]) -> None:
        owed = update(Dispatch).where(Dispatch.job_id.in_(job_ids))
        with self._sessions.begin() as session:
            session.execute(owed.values(due_at=utc_now(), sends=Dispatch.sends - 1, sent_at=None))

    def _run(self) -> None:
        while self._wait():
            try:
                if time.monotonic() >= self._reap_from:
                    self.reap()
                    self.end_overdue()
                    self._reap_from = time.monotonic() + self._settings.poll_seconds
                self.send_due()
                self._back_again()
            except SQLAlchemyError as error:
                # Holders could not renew either while the database was down: give them a lease's time to return.
                self._reap_from = time.monotonic() + self._settings.lease_seconds
                self._away("The database", error)
            except BrokerUnavailableError as error:
                self._away("The broker", error)
            except Exception:  # noqa: BLE001 - jobs would wait for ever on a dead thread
                _LOG.exception("Unexpected error in the dispatcher; it continues")
                self._failures += 1

    def _wait(self) -> bool:
        """Wait until the next check; returns whether to continue."""
        if self._failures or self._crowded:  # the next free worker takes the pending messages first
            self._stopping.wait(self._pause())
        elif self._owed.wait(self._pause()):
            self._stopping.wait(_TOGETHER_SECONDS)
        self._owed.clear()
        return not self._stopping.is_set()

    def _after_commit(self, session: Session) -> None:
        if session.info.pop(OWES_WAKE_UP, False):
            self._owed.set()

    def _pause(self) -> float:
        return float(min(self._settings.poll_seconds * 2 ** min(self._failures, 6), _LONGEST_PAUSE))

    def _away(self, what: str, error: Exception) -> None:
        if self._failures == 0:
            _LOG.warning("%s is unavailable; jobs wait until it is back: %s", what, error)
        self._failures += 1

    def _back_again(self) -> None:
        if self._failures:
            _LOG.warning("Database and broker are available again")
        self._failures = 0
