"""Webhooks, synchronously, and the verification of their messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Unpack

from qpruner_client import calls
from qpruner_client.connection import Connection
from qpruner_client.models import DeliveryView, WebhookChange, WebhookRequest, WebhookView
from qpruner_client.webhook_messages import WebhookMessage, WebhookVerificationError, verify

__all__ = ["WebhookMessage", "WebhookVerificationError", "Webhooks", "verify"]
DeliveryStatus = Literal["pending", "delivered", "failed"]


class Webhooks:
    """All webhooks of the tenant. ``qpruner_client.webhooks.verify`` verifies their messages."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, **settings: Unpack[WebhookRequest]) -> WebhookView:
        """Add one: ``create(url="https://…", events=["job.succeeded"])``. Raises :class:`InvalidRequestError`."""
        return self._connection.send(calls.create_webhook(settings))

    def list(self, *, job_id: str | None = None) -> Iterator[WebhookView]:
        """Webhooks, newest first; further pages are requested as needed; with ``job_id`` those of that job alone."""
        cursor = None
        while True:
            page = self._connection.send(calls.list_webhooks(job_id, cursor))
            yield from page.webhooks
            cursor = page.next_cursor
            if cursor is None:
                return

    def get(self, webhook_id: str) -> WebhookView:
        """The webhook. Raises :class:`NotFoundError`."""
        return self._connection.send(calls.get_webhook(webhook_id))

    def update(self, webhook_id: str, **change: Unpack[WebhookChange]) -> WebhookView:
        """Change its ``url`` or ``events``, or disable it with ``enabled=False``."""
        return self._connection.send(calls.change_webhook(webhook_id, change))

    def delete(self, webhook_id: str) -> None:
        """Delete it and its deliveries."""
        self._connection.send(calls.delete_webhook(webhook_id))

    def secret(self, webhook_id: str) -> str:
        """The secret for verifying its messages."""
        return self._connection.send(calls.get_webhook_secret(webhook_id)).secret

    def rotate_secret(self, webhook_id: str, *, keep_seconds: int = 86_400) -> str:
        """Create a new secret; messages are also signed with the old one for ``keep_seconds`` more."""
        return self._connection.send(calls.rotate_webhook_secret(webhook_id, keep_seconds)).secret

    def send_test(self, webhook_id: str) -> DeliveryView:
        """Send a message of the type ``webhook.test``."""
        return self._connection.send(calls.send_test_message(webhook_id))

    def deliveries(self, webhook_id: str, *, status: DeliveryStatus | None = None) -> Iterator[DeliveryView]:
        """Messages of the last 30 days, newest first; further pages are requested as needed."""
        cursor = None
        while True:
            page = self._connection.send(calls.list_deliveries(webhook_id, status, cursor))
            yield from page.deliveries
            cursor = page.next_cursor
            if cursor is None:
                return

    def resend(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """Send a message again, with the same id."""
        return self._connection.send(calls.resend_delivery(webhook_id, delivery_id))
