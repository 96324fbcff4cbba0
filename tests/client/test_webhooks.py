"""Webhooks through the client, and its verification beside that of the standard's library."""

from __future__ import annotations

import asyncio
import inspect
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Signer

from qpruner_client import AsyncClient, Client, InvalidRequestError, WebhookVerificationError
from qpruner_client.async_webhooks import AsyncWebhooks
from qpruner_client.webhooks import Webhooks, verify
from tests.app.live_service import Service
from tests.client.conftest import QUICK
from tests.client.test_async_client import public

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def signed(body: str, moment: datetime, secret: str = SECRET) -> dict[str, str]:
    return {
        "Webhook-Id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(secret).sign("msg_1", moment, body),
    }  # fmt: skip


@given(st.dictionaries(st.text(), st.integers()))
def test_what_the_standards_library_signs_is_verified(data: dict[str, int]) -> None:
    body = json.dumps({"type": "job.failed", "timestamp": "2026-11-28T12:00:00+00:00", "data": data})
    message = verify(body, signed(body, datetime.now(UTC)), SECRET)
    assert (message.type, message.data, message.id) == ("job.failed", data, "msg_1")


def test_what_must_not_be_trusted_is_refused() -> None:
    body = json.dumps({"type": "job.failed", "timestamp": "2026-11-28T12:00:00+00:00", "data": {}})
    now = datetime.now(UTC)
    good = signed(body, now)
    two = good | {"webhook-signature": f"v1,AAAA v2,x {good['webhook-signature']}"}
    assert verify(body.encode(), two, SECRET).type == "job.failed"
    other = "whsec_" + "A" * 32
    old, early = signed(body, now - timedelta(minutes=6)), signed(body, now + timedelta(minutes=6))
    for wrong, headers, secret in (
        (body + " ", good, SECRET), (body, good, other), (body, {}, SECRET), (body, good | {"Webhook-Id": "x"}, SECRET),
        (body, old, SECRET), (body, early, SECRET),
        (body, good | {"webhook-signature": ""}, SECRET), (body, good | {"webhook-timestamp": "soon"}, SECRET),
        (body, good, "whsec_!"), ("[]", signed("[]", now), SECRET),
    ):  # fmt: skip
        with pytest.raises(WebhookVerificationError):
            verify(wrong, headers, secret)


@pytest.mark.service
def test_webhooks_are_managed_through_either_client(service: Service, client: Client) -> None:
    webhook = client.webhooks.create(url="https://tool.example/hook", events=["job.failed"])
    assert [one.id for one in client.webhooks.list()] == [webhook.id]
    assert client.webhooks.update(webhook.id, enabled=False).enabled is False
    assert client.webhooks.get(webhook.id).url == "https://tool.example/hook"
    old = client.webhooks.secret(webhook.id)
    assert client.webhooks.rotate_secret(webhook.id) == client.webhooks.secret(webhook.id) != old
    delivery = client.webhooks.send_test(webhook.id)
    assert [one.id for one in client.webhooks.deliveries(webhook.id)] == [delivery.id]
    assert client.webhooks.resend(webhook.id, delivery.id).id == delivery.id
    with pytest.raises(InvalidRequestError) as refused:
        client.webhooks.create(url="http://169.254.169.254/latest/meta-data")
    assert (refused.value.code, refused.value.field) == ("webhook_url_refused", "url")

    async def the_same() -> None:
        async with AsyncClient(service.url, retries=QUICK) as other:
            assert [one.id async for one in other.webhooks.list()] == [webhook.id]
            assert [one.id async for one in other.webhooks.deliveries(webhook.id)] == [delivery.id]
            assert await other.webhooks.secret(webhook.id)
            await other.webhooks.delete(webhook.id)

    asyncio.run(the_same())
    assert list(client.webhooks.list()) == []


def test_the_asynchronous_one_has_the_same_names_and_arguments() -> None:
    assert public(Webhooks) == public(AsyncWebhooks)
    assert all(inspect.iscoroutinefunction(getattr(AsyncWebhooks, name)) for name in ("create", "get", "secret"))
