"""Requests about webhooks."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Query, Response
from pydantic import BeforeValidator

from app.audit import entries as audit
from app.dependencies import ReadSessionDep, SessionDep, SessionFactoryDep, SettingsDep
from app.ids import is_id
from app.jobs.service import require_job
from app.keys.auth import Reader, Submitter
from app.problems import Problem, problem_responses
from app.query_values import require_digits
from app.webhooks import service
from app.webhooks.models import DeliveryStatus, WebhookDelivery
from app.webhooks.schemas import (
    DeliveryPage,
    DeliveryView,
    RotationRequest,
    WebhookChange,
    WebhookPage,
    WebhookRequest,
    WebhookSecret,
    WebhookView,
)

NOT_FOUND = "404 webhook_not_found"
BODY = ("400 invalid_json", "413 body_too_large", "415 unsupported_media_type", "422 invalid_config")

router = APIRouter(
    prefix="/webhooks", tags=["webhooks"], responses=problem_responses("401 unauthenticated", "403 forbidden")
)
WebhookId = Annotated[str, Path(examples=["wh_01k9t4ae5xfz3v2s6q0m8y1d7c"], description="Id of the webhook.")]
DeliveryId = Annotated[str, Path(examples=["msg_01k9t4ae5xfz3v2s6q0m8y1d7c"], description="Id of the message.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")]
Limit = Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=100, description="Maximum number.")]


@router.post(
    "",
    status_code=201,
    summary="Add a webhook",
    responses=problem_responses(*BODY, "404 job_not_found", "422 webhook_url_refused", "429 too_many_webhooks"),
)
def create_webhook(
    body: WebhookRequest, principal: Submitter, session: SessionDep, settings: SettingsDep, response: Response
) -> WebhookView:
    """Sends events as specified by Standard Webhooks: signed, with eight retries over a day and a half.

    A message has `webhook-id`, `webhook-timestamp` and `webhook-signature`; the body is `type`, `timestamp` and `data`
    with the job's id, status, model and labels. Messages may arrive twice or out of order. Hosts with private addresses
    are skipped, unless the operator allows them.
    """
    if body.job_id is not None:
        require_job(session, principal.tenant, body.job_id, lock=True)  # webhooks of a job are counted one at a time
    row = service.add_webhook(session, settings, principal.tenant, body.url, body.events, body.job_id)
    audit.record(session, principal, "webhook.create", row.id)
    response.headers["Location"] = f"/webhooks/{row.id}"
    return WebhookView.model_validate(row)


@router.get("", summary="List webhooks", responses=problem_responses("422 invalid_cursor", "422 invalid_request"))
def list_webhooks(
    principal: Reader,
    session: ReadSessionDep,
    job_id: Annotated[str | None, Query(max_length=40, description="Only those of this job.")] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> WebhookPage:
    """Newest first, including those given with a job."""
    _require_cursor(cursor, "wh", "webhooks")
    rows = service.list_webhooks(session, principal.tenant, job_id, before=cursor, limit=limit + 1)
    return WebhookPage(
        webhooks=[WebhookView.model_validate(row) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


@router.get("/{webhook_id}", summary="See a webhook", responses=problem_responses(NOT_FOUND))
def get_webhook(webhook_id: WebhookId, principal: Reader, session: ReadSessionDep) -> WebhookView:
    """Its address and its events."""
    return WebhookView.model_validate(service.require_webhook(session, principal.tenant, webhook_id))


@router.patch(
    "/{webhook_id}",
    summary="Change a webhook",
    responses=problem_responses(*BODY, NOT_FOUND, "422 webhook_url_refused"),
)
def change_webhook(
    webhook_id: WebhookId, body: WebhookChange, principal: Submitter, session: SessionDep, settings: SettingsDep
) -> WebhookView:
    """Omitted fields are unchanged."""
    row = service.change_webhook(session, settings, principal.tenant, webhook_id, body)
    audit.record(session, principal, "webhook.change", row.id)
    session.flush()
    return WebhookView.model_validate(row)


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", responses=problem_responses(NOT_FOUND))
def delete_webhook(webhook_id: WebhookId, principal: Submitter, session: SessionDep) -> None:
    """Also deletes its deliveries."""
    session.delete(service.require_webhook(session, principal.tenant, webhook_id, lock=True))
    audit.record(session, principal, "webhook.delete", webhook_id)


@router.get("/{webhook_id}/secret", summary="See the secret", responses=problem_responses(NOT_FOUND))
def get_webhook_secret(
    webhook_id: WebhookId, principal: Submitter, session: ReadSessionDep, sessions: SessionFactoryDep,
    afterwards: BackgroundTasks,
) -> WebhookSecret:  # fmt: skip
    """The secret for verifying messages."""
    row = service.require_webhook(session, principal.tenant, webhook_id)
    afterwards.add_task(audit.record_read, sessions, principal, "webhook.secret", row.id)
    return WebhookSecret(secret=row.secrets[0]["secret"])


@router.post("/{webhook_id}/secret/rotate", summary="Replace the secret", responses=problem_responses(*BODY, NOT_FOUND))
def rotate_webhook_secret(
    webhook_id: WebhookId, principal: Submitter, session: SessionDep, body: RotationRequest | None = None
) -> WebhookSecret:
    """Messages are signed with both secrets until the old one expires, so that a receiver can switch."""
    keep_seconds = (body or RotationRequest()).keep_seconds
    secret = service.rotate_secret(session, principal.tenant, webhook_id, keep_seconds)
    audit.record(session, principal, "webhook.rotate", webhook_id)
    return WebhookSecret(secret=secret)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    summary="Send a test message",
    responses=problem_responses(NOT_FOUND, "429 too_many_test_messages"),
)
def send_test_message(webhook_id: WebhookId, principal: Submitter, session: SessionDep) -> DeliveryView:
    """Sends a message of the type `webhook.test`; the list of deliveries shows the result."""
    return _view(service.send_test(session, principal.tenant, webhook_id))


@router.get(
    "/{webhook_id}/deliveries",
    summary="List deliveries",
    responses=problem_responses(NOT_FOUND, "422 invalid_cursor", "422 invalid_request"),
)
def list_deliveries(
    webhook_id: WebhookId,
    principal: Reader,
    session: ReadSessionDep,
    status: Annotated[DeliveryStatus | None, Query(description="Only those in this state.")] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> DeliveryPage:
    """Every message of the last 30 days, newest first, with its attempts and the last response."""
    _require_cursor(cursor, "msg", "deliveries")
    service.require_webhook(session, principal.tenant, webhook_id)
    rows = service.list_deliveries(session, webhook_id, status, before=cursor, limit=limit + 1)
    return DeliveryPage(
        deliveries=[_view(row) for row in rows[:limit]], next_cursor=rows[limit - 1].id if len(rows) > limit else None
    )


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=202,
    summary="Send a message again",
    responses=problem_responses(NOT_FOUND, "404 delivery_not_found"),
)
def resend_delivery(
    webhook_id: WebhookId, delivery_id: DeliveryId, principal: Submitter, session: SessionDep
) -> DeliveryView:
    """Uses the same `webhook-id`, so that the receiver can recognise the message."""
    return _view(service.send_again(session, principal.tenant, webhook_id, delivery_id))


def _require_cursor(cursor: str | None, prefix: str, listed: str) -> None:
    if cursor is not None and not is_id(cursor, prefix):
        raise Problem(
            422, "invalid_cursor", f"The cursor does not come from a page of {listed}.", field="cursor",
            remedy="Use next_cursor of the previous page, or none for the first page.",
        )  # fmt: skip


def _view(row: WebhookDelivery) -> DeliveryView:
    fields = {name: getattr(row, name) for name in DeliveryView.model_fields}
    return DeliveryView.model_validate(fields | {"payload": json.loads(row.payload)})
