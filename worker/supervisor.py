"""Takes a job, keeps its lease while the run proceeds beside it, and ends the run when it must end."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Literal

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import read_only, utc_now
from app.jobs import lease as leases
from app.jobs.lease import Lease, LeaseLost, LeaseState
from app.jobs.models import TERMINAL, Job
from app.jobs.queue import QueuePolicy
from app.store import StoreUnavailableError
from worker.help_run import HelpRun
from worker.job_run import JobRun, Parts
from worker.leftovers import delete_superfluous, delete_unrecorded
from worker.patience import Stopped, persist
from worker.protocol import RunError
from worker.scratch import jobs_with_scratch, locked_scratch
from worker.watch import Breach, Watch

_LOG = logging.getLogger(__name__)
_CLAIM_SECONDS = 30.0
_LAST_WORD_SECONDS = 5.0  # seconds in which a stopping worker tries to record that in an unreachable database
Verdict = Literal["settled", "cancelled", "lost", "stopping", "overdue"] | Breach


class Supervisor:
    """Runs one job at a time; :meth:`stop` may be called from a signal handler or any thread."""

    def __init__(self, parts: Parts, owner: str | None = None) -> None:
        self._parts = parts
        self._reading = read_only(parts.sessions)
        self._owner = owner or leases.worker_name(os.getpid())
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Give the running job back, without counting the attempt, and take no other."""
        self._stopping.set()

    def run(self, woken_for: str, woken_by: str | None = None) -> None:
        """Work on the jobs in turn until none is available, or until one did not end, for which a wake-up is owed.

        ``woken_for``: the job named by the wake-up, which need not be the first; it is if its holder fell silent.
        ``woken_by``: trace context of the wake-up.
        """
        lease = self._claim(woken_for)
        while lease is not None:
            self._work(lease, woken_by)
            lease = self._claim(None) if self._has_ended(lease.job_id) else None

    def help(self, job_id: str) -> None:
        """Measure trials of a job that another worker runs, until there is none, or a job waits to be run here.

        What fails is no more than help that does not come.
        """
        try:
            HelpRun(self._parts, job_id, self._owner, self._stopping).run()
        except (SQLAlchemyError, StoreUnavailableError, Stopped) as error:
            _LOG.info("%s: no help with its trials: %s", job_id, error)
        except Exception:  # noqa: BLE001 - see above
            _LOG.exception("%s: no help with its trials", job_id)

    def _work(self, lease: Lease, woken_by: str | None) -> None:
        job_id = lease.job_id
        _LOG.info("%s: attempt %d", job_id, lease.attempt)
        trace = self._parts.traces.attempt(job_id, lease.attempt, lease.config, lease.traceparent, woken_by)
        run = JobRun(lease, self._parts, trace.observe)
        verdict: Verdict | Literal["fault"] = "fault"
        thread = threading.Thread(target=run.run, name=job_id, daemon=True)
        thread.start()
        try:
            verdict = self._keep(lease, run)
            if verdict != "settled":
                run.stop()
                self._conclude(lease, verdict, run)
        finally:
            run.stop()  # in any case: no child of a job whose lease nobody renews
            thread.join()
            trace.end(verdict.code if isinstance(verdict, Breach) else verdict)
        self._drop_unrecorded(job_id, run.touched)
        self.sweep()

    def sweep(self) -> None:
        """Delete what ended jobs no longer need: scratch folders on this host, files in the store.

        Failures are left to the next sweep: an undeletable file never keeps a worker from working.
        """
        for part in (self._sweep_scratch, self._sweep_store):
            try:
                part()
            except (SQLAlchemyError, StoreUnavailableError, Stopped) as error:
                _LOG.info("Sweep incomplete: %s", error)
            except Exception:  # noqa: BLE001 - see above
                _LOG.exception("Unexpected error in a sweep")

    def _sweep_scratch(self) -> None:
        for job_id in self._ended_with_scratch():
            with locked_scratch(self._parts.settings, job_id, lambda: False) as scratch:
                if scratch is not None:
                    scratch.delete()

    def _sweep_store(self) -> None:
        delete_superfluous(self._parts.sessions, self._parts.store, keep_pruned=self._parts.settings.keep_pruned)

    def _ended_with_scratch(self) -> set[str]:
        here = jobs_with_scratch(self._parts.settings)
        with self._reading() as session:
            alive = session.scalars(select(Job.id).where(Job.id.in_(here), Job.status.not_in(TERMINAL)))
            return set(here).difference(alive)

    def _has_ended(self, job_id: str) -> bool:
        with suppress(SQLAlchemyError), self._reading() as session:
            status = session.scalar(select(Job.status).where(Job.id == job_id))
            return status is None or status in TERMINAL
        return False

    def _claim(self, woken_for: str | None) -> Lease | None:
        settings = self._parts.settings

        def attempt() -> Lease | None:
            with self._parts.sessions.begin() as session:
                policy = QueuePolicy.of(settings)
                return leases.claim_next(session, self._owner, settings.lease_seconds, policy, named=woken_for)

        if self._stopping.is_set():
            return None
        with suppress(Stopped):  # the dispatcher will wake a worker again
            return persist(attempt, "taking a job", self._stopping, _CLAIM_SECONDS)
        return None

    def _keep(self, lease: Lease, run: JobRun) -> Verdict:
        """Renew the lease until the run has settled the job, or must end."""
        renew_at, away, watch = time.monotonic() + lease.seconds / 3, False, Watch.of(self._parts.settings)
        while not run.settled.wait(self._parts.settings.poll_seconds):
            if self._stopping.is_set():
                return "stopping"
            due = time.monotonic() >= renew_at
            try:
                state = self._ask(lease, renewing=due)
            except SQLAlchemyError as error:
                if not away:
                    _LOG.warning("%s: the lease cannot be renewed for now: %s", lease.job_id, error)
                away, renew_at = True, 0.0
                continue
            away = False
            if due:
                renew_at = time.monotonic() + lease.seconds / 3
            if not state.held:
                return "settled" if run.settled.is_set() else "lost"
            if state.cancel_requested:
                return "cancelled"
            if breach := self._breach(lease, run, watch):
                return breach
        return "settled"

    def _breach(self, lease: Lease, run: JobRun, watch: Watch) -> Verdict | None:
        if lease.deadline_at is not None and lease.deadline_at <= utc_now():
            return "overdue"
        pid = run.child_pid
        return None if pid is None else watch.look(pid, run.quiet_since)

    def _ask(self, lease: Lease, *, renewing: bool) -> LeaseState:
        if renewing:
            with self._parts.sessions.begin() as session:
                return leases.renew(session, lease)
        with self._reading() as session:
            return leases.look(session, lease)

    def _conclude(self, lease: Lease, verdict: Verdict, run: JobRun) -> None:
        """Record how a stopped run ended, with its output; a lost job belongs to its next holder."""
        if verdict == "lost":
            _LOG.warning("%s: no longer ours", lease.job_id)
            return

        def transaction() -> None:
            with self._parts.sessions.begin() as session:
                run.write_log(session)
                _write_verdict(session, lease, verdict)

        with suppress(LeaseLost, Stopped):  # then the lease expires, and the dispatcher does the same
            try:
                persist(transaction, f"{lease.job_id}: ending it", self._stopping)
            except Stopped:
                persist(transaction, f"{lease.job_id}: ending it", threading.Event(), _LAST_WORD_SECONDS)

    def _drop_unrecorded(self, job_id: str, prefixes: set[str]) -> None:
        if not prefixes:
            return
        drop = partial(delete_unrecorded, self._parts.sessions, self._parts.store, job_id, prefixes)
        try:
            persist(drop, f"{job_id}: deleting obsolete files", threading.Event(), _LAST_WORD_SECONDS)
        except Stopped as error:  # DELETE of the job takes the rest
            _LOG.info("%s: obsolete files are left in the store: %s", job_id, error)
        except Exception:  # noqa: BLE001 - the job has been settled, and the next one waits
            _LOG.exception("%s: obsolete files are left in the store", job_id)


def _write_verdict(session: Session, lease: Lease, verdict: Verdict) -> None:
    if isinstance(verdict, Breach):
        _LOG.error("%s: %s", lease.job_id, verdict.reason)
        if verdict.again:
            leases.give_up(session, lease, code=verdict.code, reason=verdict.reason, remedy=verdict.remedy)
        else:
            told = RunError(
                code=verdict.code, message=verdict.reason, field=None, remedy=verdict.remedy, user=False
            )  # fmt: skip
            leases.fail(session, lease, told.model_dump(exclude={"type"}))
    elif verdict == "overdue":
        leases.overrun(session, lease)
    elif verdict == "cancelled":
        leases.cancel(session, lease)
    else:
        leases.release(session, lease)
