"""The history of a job, returned by ``GET /jobs/{id}/events``."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.models import Job, JobEvent
from app.webhooks.outbox import owe_deliveries

JobEventType = Literal[
    "queued", "started", "stage_started", "stage_progress", "stage_finished", "warning", "attempt_lost",
    "cancel_requested", "cancelled", "failed", "succeeded", "retried",
]  # fmt: skip

NOTIFIED = "qpruner_events"
"""The channel of PostgreSQL's notifications; each carries the id of a job."""


def append_event(session: Session, job_id: str, type: JobEventType, data: dict[str, Any] | None = None) -> JobEvent:
    """Append one event to the history of a job and return it with its id; the caller's transaction commits it."""
    # The job's row is locked first, so that ids of one job become visible in order: a stream that has sent
    # event 12 would never look for an event 11 that is committed later.
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    event = JobEvent(job_id=job_id, type=type, data=data or {}, created_at=utc_now())
    session.add(event)
    session.flush()
    owe_deliveries(session, event)
    notify(session, job_id)
    return event


def notify(session: Session, job_id: str) -> None:
    """Notify followers of the job when the transaction commits; on SQLite they poll."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_notify(NOTIFIED, job_id)))
