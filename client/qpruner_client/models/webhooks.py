"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from qpruner_client.models.base import Model


class DeliveryView(Model):
    """A message to a webhook, and how far it came."""

    id: str
    """The `webhook-id` of the message."""

    type: str
    """The event."""

    payload: dict[str, Any]
    """The body of the message."""

    status: Literal["pending", "delivered", "failed"] | str
    """State of the delivery."""

    attempts: int
    """Attempts so far."""

    due_at: datetime
    """When a pending message is sent next."""

    last_attempt_at: datetime | None
    """When it was sent last."""

    response_status: int | None
    """HTTP status of the last response."""

    error: str | None
    """Why the last attempt failed."""

    created_at: datetime
    """When it was made."""

    delivered_at: datetime | None
    """When a receiver took it."""


class DeliveryPage(Model):
    """A page of deliveries, the newest first."""

    deliveries: list[DeliveryView]
    """The deliveries."""

    next_cursor: str | None
    """Give it as `cursor` to see older ones; null on the last page."""


class WebhookView(Model):
    """A webhook. Its secret is had from `GET /webhooks/{id}/secret`."""

    id: str
    """Id of the webhook."""

    url: str
    """Where events are sent to."""

    events: list[str]
    """Events that are sent."""

    job_id: str | None
    """The job whose events are sent; null: all jobs."""

    enabled: bool
    """Whether events are sent; a receiver that answers 410 disables it."""

    created_at: datetime
    """When it was made."""


class WebhookPage(Model):
    """A page of webhooks, the newest first."""

    webhooks: list[WebhookView]
    """The webhooks."""

    next_cursor: str | None
    """Give it as `cursor` to see older ones; null on the last page."""


class WebhookSecret(Model):
    """The secret that messages are signed by, as Standard Webhooks has it."""

    secret: str
    """Give it to the library that verifies."""
