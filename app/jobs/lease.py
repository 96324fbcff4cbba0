"""Leases: the right to work on a job. Taking it, keeping it, and writing only while it is held.

No function here commits: guard and write share the caller's transaction. A guarded write first updates the job's row if
the token is still the caller's; that locks the row, so nothing written after it in the same transaction can follow a
change of holder. Hosts' clocks must agree to well within the lease.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs import deadline
from app.jobs.history import append_event
from app.jobs.models import Dispatch, Job, JobEvent
from app.jobs.queue import QueuePolicy, next_job

_MOST_ENDED = 100
"""Jobs that may turn out to have ended when they are taken, before the search is given up."""


LOOK_AT_LOG = "If it happens again, check the worker's log and memory."


class LeaseLost(Exception):  # noqa: N818 - it is news for the holder, not a fault
    """The job no longer belongs to this holder: the lease expired and was taken away, or the job has ended."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a job until it is taken away; ``token`` is new with every attempt."""

    job_id: str
    tenant: str
    token: str
    owner: str
    attempt: int
    seconds: float
    config: Mapping[str, Any]
    deadline_at: datetime | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class LeaseState:
    """Information for a holder."""

    held: bool
    cancel_requested: bool


def claim(session: Session, job_id: str, owner: str, lease_seconds: float) -> Lease | None:
    """Take a job that is queued, or whose holder has been silent too long; ``None`` if it is not available.

    Counts an attempt and settles the wake-up owed for the job.
    """
    job = session.scalars(_free_job(job_id)).one_or_none()
    if job is None:
        return None
    if job.status == "running":
        lose_attempt(session, job, code="worker_lost", reason=f"The worker {job.lease_owner} fell silent.")
    if job.status == "queued" and job.cancel_requested_at is not None:
        _end(session, job, "cancelled")
    if job.status == "queued" and deadline.is_over(job):
        end_as_failed(session, job, deadline.exceeded(job))
    if job.status == "queued" and job.attempt >= job.max_attempts:
        end_as_failed(session, job, _exhausted(session, job))
    if job.status != "queued":
        return None
    now = utc_now()
    job.status = "running"
    job.attempt += 1
    job.stage, job.progress, job.error = None, 0.0, None
    job.started_at = job.started_at or now
    job.waited = max(0.0, (now - (job.queued_at or now)).total_seconds())
    deadline.begin(job, now)
    job.was_lost = False
    job.lease_owner, job.lease_token = owner, secrets.token_hex(16)
    job.lease_expires_at = now + timedelta(seconds=lease_seconds)
    session.execute(delete(Dispatch).where(Dispatch.job_id == job_id))
    append_event(session, job_id, "started", {"attempt": job.attempt, "worker": owner})
    return Lease(
        job_id, job.tenant, job.lease_token, owner, job.attempt, lease_seconds, job.config, job.deadline_at,
        job.traceparent,
    )  # fmt: skip


def claim_next(
    session: Session, owner: str, lease_seconds: float, policy: QueuePolicy, *, named: str | None = None
) -> Lease | None:
    """Take the next job in turn; ``None`` if there is none.

    ``named``: a job that is taken before all others if its holder has been silent too long.
    """
    if named is not None and session.scalar(_silent().where(Job.id == named)) is not None:
        lease = claim(session, named, owner, lease_seconds)
        if lease is not None:
            return lease
    for _ in range(_MOST_ENDED):
        job_id = next_job(session, policy)
        if job_id is None:
            return None
        lease = claim(session, job_id, owner, lease_seconds)
        if lease is not None:
            return lease
    return None  # all of these have ended; the wake-ups of the others are still owed


def renew(session: Session, lease: Lease) -> LeaseState:
    """Prolong the lease, also an expired one that has not been taken away."""
    job = _held_job(session, lease)
    if job is None:
        return LeaseState(held=False, cancel_requested=False)
    job.lease_expires_at = utc_now() + timedelta(seconds=lease.seconds)
    return LeaseState(held=True, cancel_requested=job.cancel_requested_at is not None)


def look(session: Session, lease: Lease) -> LeaseState:
    """The result of :func:`renew`, without writing."""
    held = (Job.id == lease.job_id, Job.lease_token == lease.token, Job.status == "running")
    row = session.execute(select(Job.cancel_requested_at).where(*held)).one_or_none()
    return LeaseState(held=row is not None, cancel_requested=row is not None and row[0] is not None)


def hold(session: Session, lease: Lease) -> Job:
    """The job's row, locked until the transaction ends, for writing. Raises :class:`LeaseLost`."""
    job = _held_job(session, lease)
    if job is None:
        raise LeaseLost(f"{lease.job_id} is no longer held by {lease.owner}.")
    return job


def succeed(session: Session, lease: Lease, result: dict[str, Any]) -> None:
    """End the job with its result. Raises :class:`LeaseLost`."""
    job = hold(session, lease)
    job.result, job.progress = result, 1.0
    sizes = {row.get("variant"): row.get("bytes") for row in result.get("measurements", ())}
    job.dense_bytes, job.final_bytes = sizes.get("dense"), sizes.get("final")
    _end(session, job, "succeeded")


def fail(session: Session, lease: Lease, error: dict[str, Any]) -> None:
    """End the job with an error that another attempt would repeat. Raises :class:`LeaseLost`."""
    end_as_failed(session, hold(session, lease), error)


def overrun(session: Session, lease: Lease) -> None:
    """End the job because its deadline is over. Raises :class:`LeaseLost`."""
    job = hold(session, lease)
    end_as_failed(session, job, deadline.exceeded(job))


def cancel(session: Session, lease: Lease) -> None:
    """End the job as cancelled. Raises :class:`LeaseLost`."""
    _end(session, hold(session, lease), "cancelled")


def release(session: Session, lease: Lease) -> None:
    """Give the job back without counting the attempt. Raises :class:`LeaseLost`."""
    job = hold(session, lease)
    job.attempt -= 1
    if job.cancel_requested_at is not None:
        _end(session, job, "cancelled")
        return
    append_event(session, job.id, "attempt_lost", {"attempt": lease.attempt, "counted": False,
                 "code": "worker_stopped", "reason": f"The worker {lease.owner} was stopped."})  # fmt: skip
    _requeue(session, job)


def give_up(session: Session, lease: Lease, *, code: str, reason: str, remedy: str = LOOK_AT_LOG) -> None:
    """Give the job back and count the attempt, since its process died. Raises :class:`LeaseLost`."""
    lose_attempt(session, hold(session, lease), code=code, reason=reason, remedy=remedy)


def lose_attempt(session: Session, job: Job, *, code: str, reason: str, remedy: str = LOOK_AT_LOG) -> None:
    """Take a locked running job from its holder: cancelled if that was requested, failed with ``code`` if this was the
    last attempt, otherwise queued again with a wake-up owed."""
    append_event(session, job.id, "attempt_lost", {"attempt": job.attempt, "counted": True, "code": code,
                 "reason": reason})  # fmt: skip
    if job.cancel_requested_at is not None:
        _end(session, job, "cancelled")
    elif deadline.is_over(job):
        end_as_failed(session, job, deadline.exceeded(job))
    elif job.attempt >= job.max_attempts:
        end_as_failed(session, job, {
            "code": code, "message": f"{reason} This was attempt {job.attempt} of {job.max_attempts}.",
            "field": None, "remedy": remedy, "user": False,
        })  # fmt: skip
    else:
        _requeue(session, job)


def expire_leases_of(session: Session, owner: str) -> None:
    """Expire the leases of a worker that is known to be dead, for the dispatcher."""
    dead = (Job.lease_owner == owner, Job.status == "running")
    session.execute(update(Job).where(*dead).values(lease_expires_at=utc_now() - timedelta(seconds=1)))


def worker_name(pid: int) -> str:
    """Name of a worker process on this host as the owner of leases."""
    return f"{socket.gethostname()}:{pid}"


def end_as_failed(session: Session, job: Job, error: dict[str, Any]) -> None:
    """End a locked job with ``error``."""
    job.error = error
    _end(session, job, "failed", error)


def _silent() -> Select[str]:
    return select(Job.id).where(Job.status == "running", Job.lease_expires_at < utc_now())


def _free_job(job_id: str) -> Any:
    silent = and_(Job.status == "running", Job.lease_expires_at < utc_now())
    return select(Job).where(Job.id == job_id, or_(Job.status == "queued", silent)).with_for_update(skip_locked=True)


def _held_job(session: Session, lease: Lease) -> Job | None:
    held = (Job.id == lease.job_id, Job.lease_token == lease.token, Job.status == "running")
    touched = session.execute(update(Job).where(*held).values(lease_token=lease.token))
    if touched.rowcount == 0:  # type: ignore[attr-defined]
        return None
    return session.get_one(Job, lease.job_id, populate_existing=True)


def _requeue(session: Session, job: Job) -> None:
    _let_go(job)
    job.status, job.stage = "queued", None
    job.queued_at, job.was_lost = utc_now(), True
    session.merge(Dispatch(job_id=job.id, due_at=utc_now(), sent_at=None, sends=0))
    session.flush()


def _end(session: Session, job: Job, status: Any, data: dict[str, Any] | None = None) -> None:
    _let_go(job)
    job.status, job.finished_at = status, utc_now()
    session.execute(delete(Dispatch).where(Dispatch.job_id == job.id))
    append_event(session, job.id, status, data)


def _let_go(job: Job) -> None:
    job.lease_owner = job.lease_token = job.lease_expires_at = None


def _exhausted(session: Session, job: Job) -> dict[str, Any]:
    lost = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.type == "attempt_lost")
    last = session.scalars(lost.order_by(JobEvent.id.desc()).limit(1)).one_or_none()
    reason = last.data["reason"] if last else "No attempt has reported a reason."
    return {
        "code": "attempts_exhausted", "message": f"All {job.max_attempts} attempts were used up. {reason}",
        "field": None, "remedy": "Submit the job again once the cause is removed.", "user": False,
    }  # fmt: skip
