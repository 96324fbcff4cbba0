"""The API's operations on webhooks. The caller commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import new_id
from app.problems import Problem
from app.settings import Settings
from app.webhooks.addresses import AddressRefusedError, check_url
from app.webhooks.models import DeliveryStatus, Webhook, WebhookDelivery
from app.webhooks.outbox import TEST, new_delivery
from app.webhooks.schemas import WEBHOOKS_PER_JOB, WebhookChange
from app.webhooks.signing import new_secret

_MOST_TESTS = 5
"""Test messages per webhook that are not delivered yet."""


def add_webhook(
    session: Session, settings: Settings, tenant: str, url: str, events: Sequence[str], job_id: str | None,
    *, field: str = "url",
) -> Webhook:  # fmt: skip
    """A new webhook, with a fresh secret.

    Raises:
        Problem: 422 ``webhook_url_refused`` for ``field``; 429 ``too_many_webhooks`` of the job or tenant.
    """
    refuse_url(settings, url, field)
    _require_room(session, settings, tenant, job_id)
    row = Webhook(
        id=new_id("wh"), tenant=tenant, job_id=job_id, url=url, events=list(events), enabled=True,
        secrets=[{"secret": new_secret(), "expires_at": None}], created_at=utc_now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _require_room(session: Session, settings: Settings, tenant: str, job_id: str | None) -> None:
    """Raise 429 ``too_many_webhooks`` if the job, or without one the tenant, has as many as it may have."""
    own = select(func.count()).select_from(Webhook).where(Webhook.tenant == tenant, Webhook.job_id == job_id)
    limit = settings.max_webhooks if job_id is None else WEBHOOKS_PER_JOB
    if (session.scalar(own) or 0) >= limit:
        raise Problem(
            429, "too_many_webhooks",
            f"You have {limit} webhooks, which is the limit." if job_id is None
            else f"The job has {limit} webhooks of its own, which is the limit.",
            remedy="Delete one; list them with GET /webhooks.",
        )  # fmt: skip


def refuse_url(settings: Settings, url: str, field: str = "url") -> None:
    """Raise 422 ``webhook_url_refused`` if ``url`` is not permitted; its name is resolved on sending."""
    try:
        check_url(url, settings.webhook_networks)
    except AddressRefusedError as error:
        raise Problem(
            422, "webhook_url_refused", f"Events cannot be sent there. {error}", field=field,
            remedy="Give an http or https URL of a public host; the operator can allow networks "
            "(QPRUNER_WEBHOOK_NETWORKS).",
        ) from error  # fmt: skip


def require_webhook(session: Session, tenant: str, webhook_id: str, *, lock: bool = False) -> Webhook:
    """The tenant's webhook. Raises a 404 problem."""
    query = select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant == tenant)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise Problem(404, "webhook_not_found", "There is no such webhook.", remedy="List yours with GET /webhooks.")
    return row


def list_webhooks(
    session: Session, tenant: str, job_id: str | None, *, before: str | None, limit: int
) -> Sequence[Webhook]:
    """The tenant's webhooks, newest first; with ``job_id`` those of that job alone."""
    query = select(Webhook).where(Webhook.tenant == tenant).order_by(Webhook.id.desc()).limit(limit)
    if job_id is not None:
        query = query.where(Webhook.job_id == job_id)
    return session.scalars(query if before is None else query.where(Webhook.id < before)).all()


def change_webhook(
    session: Session, settings: Settings, tenant: str, webhook_id: str, change: WebhookChange
) -> Webhook:
    """Apply ``change``. Raises 404, and 422 ``webhook_url_refused``."""
    row = require_webhook(session, tenant, webhook_id, lock=True)
    if change.url is not None:
        refuse_url(settings, change.url)
        row.url = change.url
    if change.events is not None:
        row.events = list(change.events)
    if change.enabled is not None:
        row.enabled = change.enabled
    return row


def rotate_secret(session: Session, tenant: str, webhook_id: str, keep_seconds: int) -> str:
    """A new secret; messages are also signed with the previous one for ``keep_seconds`` more. Raises 404."""
    row = require_webhook(session, tenant, webhook_id, lock=True)
    now = utc_now()
    until = (now + timedelta(seconds=keep_seconds)).isoformat()
    kept = [{"secret": row.secrets[0]["secret"], "expires_at": until}] if keep_seconds else []
    row.secrets = [{"secret": new_secret(), "expires_at": None}, *kept]
    return str(row.secrets[0]["secret"])


def valid_secrets(webhook: Webhook, now: datetime) -> list[str]:
    """The secrets that messages are signed with now, newest first."""
    return [
        one["secret"]
        for one in webhook.secrets
        if one["expires_at"] is None or datetime.fromisoformat(one["expires_at"]) > now
    ]


def list_deliveries(
    session: Session, webhook_id: str, status: DeliveryStatus | None, *, before: str | None, limit: int
) -> Sequence[WebhookDelivery]:
    """Deliveries of a webhook, newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    query = query.order_by(WebhookDelivery.id.desc()).limit(limit)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    return session.scalars(query if before is None else query.where(WebhookDelivery.id < before)).all()


def send_again(session: Session, tenant: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Owe a message again, with its id and all its attempts. Raises 404."""
    webhook = require_webhook(session, tenant, webhook_id)
    row = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if row is None or row.webhook_id != webhook.id:
        raise Problem(
            404,
            "delivery_not_found",
            "There is no such delivery.",
            remedy=f"See GET /webhooks/{webhook_id}/deliveries.",
        )
    row.status, row.attempts, row.due_at, row.delivered_at = "pending", 0, utc_now(), None
    return row


def send_test(session: Session, tenant: str, webhook_id: str) -> WebhookDelivery:
    """Owe an empty message of the type ``webhook.test``. Raises 404, and 429 ``too_many_test_messages``."""
    webhook = require_webhook(session, tenant, webhook_id, lock=True)
    tests = select(func.count()).select_from(WebhookDelivery)
    tests = tests.where(WebhookDelivery.webhook_id == webhook.id, WebhookDelivery.type == TEST)
    if (session.scalar(tests.where(WebhookDelivery.status == "pending")) or 0) >= _MOST_TESTS:
        raise Problem(
            429, "too_many_test_messages", f"{_MOST_TESTS} test messages are not delivered yet, which is the limit.",
            remedy="See GET /webhooks/{id}/deliveries for the reason.",
        )  # fmt: skip
    row = new_delivery(webhook.id, TEST, utc_now(), {"webhook_id": webhook.id})
    session.add(row)
    session.flush()
    return row
