"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from qpruner_client.models.base import Model


class DeliveryView(Model):
    """A message to a webhook, and its state."""

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
    """Next attempt of a pending message."""

    last_attempt_at: datetime | None
    """Last attempt."""

    response_status: int | None
    """HTTP status of the last response."""

    error: str | None
    """Reason why the last attempt failed."""

    created_at: datetime
    """Creation time."""

    delivered_at: datetime | None
    """Time of acceptance by the receiver."""


class DeliveryPage(Model):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]
    """The deliveries."""

    next_cursor: str | None
    """Send it as `cursor` for older ones; null on the last page."""


class WebhookView(Model):
    """A webhook. `GET /webhooks/{id}/secret` returns its secret."""

    id: str
    """Id of the webhook."""

    url: str
    """URL that events are sent to."""

    events: list[str]
    """Events that are sent."""

    job_id: str | None
    """The job whose events are sent; null: all jobs."""

    enabled: bool
    """Whether events are sent; a receiver that responds with 410 disables it."""

    created_at: datetime
    """Creation time."""


class WebhookPage(Model):
    """A page of webhooks, newest first."""

    webhooks: list[WebhookView]
    """The webhooks."""

    next_cursor: str | None
    """Send it as `cursor` for older ones; null on the last page."""


class WebhookSecret(Model):
    """The secret for signing messages, as specified by Standard Webhooks."""

    secret: str
    """Pass it to a Standard Webhooks library."""
