"""Webhooks, asynchronously: the same names as in :mod:`qpruner_client.webhooks`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack

from qpruner_client import calls
from qpruner_client.connection import AsyncConnection
from qpruner_client.models import DeliveryView, WebhookChange, WebhookRequest, WebhookView
from qpruner_client.webhooks import DeliveryStatus


class AsyncWebhooks:
    """All webhooks of the tenant. ``qpruner_client.webhooks.verify`` verifies their messages."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, **settings: Unpack[WebhookRequest]) -> WebhookView:
        """Add one: ``create(url="https://…", events=["job.succeeded"])``. Raises :class:`InvalidRequestError`."""
        return await self._connection.send(calls.create_webhook(settings))

    async def list(self, *, job_id: str | None = None) -> AsyncIterator[WebhookView]:
        """Webhooks, newest first; further pages are requested as needed; with ``job_id`` those of that job alone."""
        cursor = None
        while True:
            page = await self._connection.send(calls.list_webhooks(job_id, cursor))
            for webhook in page.webhooks:
                yield webhook
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get(self, webhook_id: str) -> WebhookView:
        """The webhook. Raises :class:`NotFoundError`."""
        return await self._connection.send(calls.get_webhook(webhook_id))

    async def update(self, webhook_id: str, **change: Unpack[WebhookChange]) -> WebhookView:
        """Change its ``url`` or ``events``, or disable it with ``enabled=False``."""
        return await self._connection.send(calls.change_webhook(webhook_id, change))

    async def delete(self, webhook_id: str) -> None:
        """Delete it and its deliveries."""
        await self._connection.send(calls.delete_webhook(webhook_id))

    async def secret(self, webhook_id: str) -> str:
        """The secret for verifying its messages."""
        return (await self._connection.send(calls.get_webhook_secret(webhook_id))).secret

    async def rotate_secret(self, webhook_id: str, *, keep_seconds: int = 86_400) -> str:
        """Create a new secret; messages are also signed with the old one for ``keep_seconds`` more."""
        return (await self._connection.send(calls.rotate_webhook_secret(webhook_id, keep_seconds))).secret

    async def send_test(self, webhook_id: str) -> DeliveryView:
        """Send a message of the type ``webhook.test``."""
        return await self._connection.send(calls.send_test_message(webhook_id))

    async def deliveries(self, webhook_id: str, *, status: DeliveryStatus | None = None) -> AsyncIterator[DeliveryView]:
        """Messages of the last 30 days, newest first; further pages are requested as needed."""
        cursor = None
        while True:
            page = await self._connection.send(calls.list_deliveries(webhook_id, status, cursor))
            for delivery in page.deliveries:
                yield delivery
            cursor = page.next_cursor
            if cursor is None:
                return

    async def resend(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """Send a message again, with the same id."""
        return await self._connection.send(calls.resend_delivery(webhook_id, delivery_id))
