"""Writes messages for webhooks in the transaction of the event."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import bindparam, exists, or_, select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import new_id
from app.jobs.models import Job, JobEvent
from app.webhooks.models import Webhook, WebhookDelivery

EventName = Literal[
    "job.queued", "job.started", "job.stage_started", "job.stage_finished", "job.warning", "job.attempt_lost",
    "job.cancel_requested", "job.cancelled", "job.failed", "job.succeeded", "job.retried",
]  # fmt: skip
EVENT_NAMES: tuple[EventName, ...] = get_args(EventName)
ENDINGS: tuple[EventName, ...] = ("job.succeeded", "job.failed", "job.cancelled")
TEST = "webhook.test"
_NOT_SENT = frozenset({"summary"})  # figures that a receiver can request
_ENABLED = select(Webhook.id, Webhook.events).where(
    Webhook.tenant == bindparam("tenant"), Webhook.enabled,
    or_(Webhook.job_id.is_(None), Webhook.job_id == bindparam("job_id")),
)  # fmt: skip
"""Of a tenant's webhooks, those for all jobs and for one; built once, because every event asks."""
FOR_ALL_JOBS = exists().where(Webhook.tenant == bindparam("tenant"), Webhook.enabled, Webhook.job_id.is_(None))
"""Whether the tenant ``tenant`` has a webhook for all jobs."""


def owe_deliveries(session: Session, event: JobEvent) -> None:
    """Owe a message to every webhook that is subscribed to such an event."""
    if f"job.{event.type}" in EVENT_NAMES:
        _owe(session, session.get_one(Job, event.job_id), event)


def owe_first_deliveries(session: Session, job: Job) -> None:
    """:func:`owe_deliveries` for the first event of a new job; ``job`` may be transient."""
    if _subscribed(session, job, "job.queued"):
        (event,) = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id))
        _owe(session, job, event)


def _owe(session: Session, job: Job, event: JobEvent) -> None:
    name = f"job.{event.type}"
    for webhook_id in _subscribed(session, job, name):
        session.add(new_delivery(webhook_id, name, event.created_at, _data(job, event)))


def _subscribed(session: Session, job: Job, name: str) -> list[str]:
    """Ids of the webhooks that get ``job``'s events of this name."""
    rows = session.execute(_ENABLED, {"tenant": job.tenant, "job_id": job.id})
    return [row.id for row in rows if name in row.events]


def new_delivery(webhook_id: str, name: str, moment: datetime, data: dict[str, Any]) -> WebhookDelivery:
    """A message that is due now."""
    payload = {"type": name, "timestamp": moment.isoformat(), "data": data}
    return WebhookDelivery(
        id=new_id("msg"), webhook_id=webhook_id, type=name, payload=json.dumps(payload), status="pending", attempts=0,
        due_at=utc_now(), created_at=utc_now(),
    )  # fmt: skip


def _data(job: Job, event: JobEvent) -> dict[str, Any]:
    told = {key: value for key, value in event.data.items() if key not in _NOT_SENT}
    return {
        "job_id": job.id, "status": job.status, "model": job.model, "labels": job.labels, "event_id": event.id,
        "event": told,
    }  # fmt: skip
