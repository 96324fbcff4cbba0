"""Webhooks from the event to a receiver, verified by the library of Standard Webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import delete, update
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from app.database import utc_now
from app.jobs.models import Job
from app.settings import Settings
from app.webhooks.models import WebhookDelivery
from app.webhooks.schemas import WEBHOOKS_PER_JOB
from app.webhooks.sender import DELAYS, WebhookSender
from tests.app.jobs.conftest import MakeJob
from tests.app.webhooks.receiver import Receiver, run_receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as made:
        yield made


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_networks": (ip_network("127.0.0.0/8"),), "max_webhooks": 3})


@pytest.fixture
def sender(application: FastAPI, settings: Settings) -> WebhookSender:
    return WebhookSender(application.state.session_factory, settings)


def add(client: TestClient, url: str, **more: Any) -> tuple[str, str]:
    """A webhook's id and secret."""
    made = client.post("/webhooks", json={"url": url, **more})
    assert made.status_code == 201, made.text
    webhook_id = made.json()["id"]
    return webhook_id, client.get(f"/webhooks/{webhook_id}/secret").json()["secret"]


def deliveries(client: TestClient, webhook_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/webhooks/{webhook_id}/deliveries").json()["deliveries"]
    return found


def make_due(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.execute(update(WebhookDelivery).values(due_at=utc_now()))


def test_a_message_is_signed_as_the_standard_has_it_and_sent_once(
    client: TestClient,
    make_job: MakeJob,
    sender: WebhookSender,
    receiver: Receiver,
) -> None:
    webhook_id, secret = add(client, receiver.url)
    other, _ = add(client, receiver.url, events=["job.failed"])
    job_id = make_job("queued", labels={"team": "search"})
    client.post(f"/jobs/{job_id}/cancel")
    assert (sender.send_due(), sender.send_due()) == (1, 0)
    ((headers, body, path),) = receiver.received
    message = Verifier(secret).verify(body, headers)
    assert (message["type"], message["data"]["job_id"]) == ("job.cancelled", job_id)
    assert message["data"]["labels"] == {"team": "search"}
    assert path == "/hook"
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(body + b" ", headers)
    (delivery,) = deliveries(client, webhook_id)
    assert delivery["id"] == headers["webhook-id"]
    assert (delivery["status"], delivery["attempts"], delivery["response_status"]) == ("delivered", 1, 204)
    assert delivery["payload"] == json.loads(body)
    assert deliveries(client, other) == []


def test_a_job_names_its_own_webhooks_and_they_hear_of_nothing_else(
    client: TestClient, sources: Any, sender: WebhookSender, receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    run = {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": "300KB", "sequence_length": 32, "prune": {"ratio": 0.1},
    }  # fmt: skip
    refused = client.post("/jobs", json=run | {"webhooks": [{"url": receiver.url}, {"url": "http://10.0.0.1/"}]})
    assert (refused.status_code, refused.json()["field"]) == (422, "webhooks.1.url")
    assert client.get("/jobs").json()["jobs"] == []
    hook = {"url": receiver.url, "events": ["job.queued", "job.cancelled"]}
    mine = client.post("/jobs", json=run | {"webhooks": [hook]}).json()["id"]
    client.post(f"/jobs/{client.post('/jobs', json=run).json()['id']}/cancel")
    client.post(f"/jobs/{mine}/cancel")
    sender.send_due()
    types = sorted(json.loads(body)["type"] for _, body, _ in receiver.received)
    assert types == ["job.cancelled", "job.queued"]
    assert {json.loads(body)["data"]["job_id"] for _, body, _ in receiver.received} == {mine}
    (webhook,) = client.get("/webhooks", params={"job_id": mine}).json()["webhooks"]
    with sessions.begin() as session:
        session.execute(delete(Job).where(Job.id == mine))
    assert client.get(f"/webhooks/{webhook['id']}").status_code == 404


def test_a_failed_message_is_sent_again_with_the_same_id_until_its_attempts_are_used_up(
    client: TestClient, sender: WebhookSender, receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    webhook_id, secret = add(client, receiver.url)
    client.post(f"/webhooks/{webhook_id}/test")
    receiver.answers = [(500, "")] * (len(DELAYS) + 1)
    for attempt, delay in enumerate(DELAYS):
        before = utc_now()
        assert sender.send_due() == 1
        (delivery,) = deliveries(client, webhook_id)
        assert (delivery["status"], delivery["attempts"]) == ("pending", attempt + 1)
        assert "status 500" in delivery["error"]
        waits = (_moment(delivery["due_at"]) - before).total_seconds()
        assert delay <= waits <= 1.2 * delay + 5
        assert sender.send_due() == 0
        make_due(sessions)
    sender.send_due()
    assert deliveries(client, webhook_id)[0]["status"] == "failed"
    again = client.post(f"/webhooks/{webhook_id}/deliveries/{delivery['id']}/resend")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    sender.send_due()
    assert deliveries(client, webhook_id)[0]["status"] == "delivered"
    assert len({headers["webhook-id"] for headers, _, _ in receiver.received}) == 1
    headers, body, _ = receiver.received[-1]
    assert Verifier(secret).verify(body, headers)["type"] == "webhook.test"


def _moment(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def test_messages_are_signed_by_both_secrets_while_one_replaces_the_other(
    client: TestClient, sender: WebhookSender, receiver: Receiver
) -> None:
    webhook_id, old = add(client, receiver.url)
    new = client.post(f"/webhooks/{webhook_id}/secret/rotate", json={"keep_seconds": 3600}).json()["secret"]
    client.post(f"/webhooks/{webhook_id}/test")
    sender.send_due()
    headers, body, _ = receiver.received[0]
    for secret in (old, new):
        Verifier(secret).verify(body, headers)
    client.post(f"/webhooks/{webhook_id}/secret/rotate", json={"keep_seconds": 0})
    client.post(f"/webhooks/{webhook_id}/test")
    sender.send_due()
    headers, body, _ = receiver.received[1]
    for secret in (old, new):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(body, headers)


def test_a_redirect_is_followed_but_not_to_a_private_address(
    client: TestClient, sender: WebhookSender, receiver: Receiver
) -> None:
    webhook_id, _ = add(client, receiver.url)
    receiver.answers = [(307, "/moved")]
    client.post(f"/webhooks/{webhook_id}/test")
    sender.send_due()
    assert [path for _, _, path in receiver.received] == ["/hook", "/moved"]
    for target, reason in (
        ("http://10.1.2.3/", "not a public address"),
        ("ftp://host/", "Not an http"),
        ("/loop", "redirects"),
    ):
        receiver.answers = [(302, target)] * 5
        client.post(f"/webhooks/{webhook_id}/test")
        sender.send_due()
        latest = deliveries(client, webhook_id)[0]
        assert (latest["status"], reason in latest["error"]) == ("pending", True), latest["error"]


def test_a_receiver_that_is_gone_disables_its_webhook_and_one_that_is_away_does_not(
    client: TestClient, sender: WebhookSender, receiver: Receiver
) -> None:
    webhook_id, _ = add(client, receiver.url)
    away, _ = add(client, "http://127.0.0.1:1/hook")
    receiver.answers = [(410, "")]
    for one in (webhook_id, away):
        client.post(f"/webhooks/{one}/test")
    sender.send_due()
    assert client.get(f"/webhooks/{webhook_id}").json()["enabled"] is False
    assert deliveries(client, webhook_id)[0]["status"] == "failed"
    assert client.get(f"/webhooks/{away}").json()["enabled"] is True
    assert "Connect" in deliveries(client, away)[0]["error"]
    client.patch(f"/webhooks/{webhook_id}", json={"enabled": True, "events": ["job.failed"]})
    assert client.get(f"/webhooks/{webhook_id}").json()["events"] == ["job.failed"]


def test_no_tenant_sees_anothers_webhooks_or_hears_of_its_jobs(
    client: TestClient, make_job: MakeJob, sender: WebhookSender, receiver: Receiver,
    authorize: Callable[..., dict[str, str]],
) -> None:  # fmt: skip
    mine, _ = add(client, receiver.url)
    theirs = authorize("other", "submit")
    assert client.get("/webhooks", headers=theirs).json()["webhooks"] == []
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/secret"), ("POST", "/secret/rotate"), ("POST", "/test"),
        ("GET", "/deliveries"), ("POST", "/deliveries/msg_x/resend"),
    ):  # fmt: skip
        answer = client.request(method, f"/webhooks/{mine}{path}", headers=theirs, json={} if method != "GET" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found"), path
    job_id = make_job("queued", tenant="other")
    client.post(f"/jobs/{job_id}/cancel", headers=theirs)
    assert sender.send_due() == 0
    refused = client.post("/webhooks", headers=theirs, json={"url": receiver.url, "job_id": make_job("queued")})
    assert refused.json()["code"] == "job_not_found"
    assert client.get(f"/webhooks/{mine}/secret", headers=authorize("default", "read")).status_code == 403


def test_webhooks_are_paged_and_limited(client: TestClient, receiver: Receiver) -> None:
    made = [add(client, receiver.url)[0] for _ in range(3)]
    full = client.post("/webhooks", json={"url": receiver.url})
    assert (full.status_code, full.json()["code"]) == (429, "too_many_webhooks")
    page = client.get("/webhooks", params={"limit": 2}).json()
    rest = client.get("/webhooks", params={"cursor": page["next_cursor"]}).json()["webhooks"]
    assert [one["id"] for one in page["webhooks"] + rest] == made[::-1]
    assert client.delete(f"/webhooks/{made[0]}").status_code == 204
    assert client.get(f"/webhooks/{made[0]}").status_code == 404


def test_a_job_has_as_many_webhooks_as_a_submission_may_name(
    client: TestClient, make_job: MakeJob, receiver: Receiver
) -> None:
    body = {"url": receiver.url, "job_id": make_job("queued")}
    codes = [client.post("/webhooks", json=body).status_code for _ in range(WEBHOOKS_PER_JOB)]
    assert codes == [201] * WEBHOOKS_PER_JOB
    full = client.post("/webhooks", json=body)
    assert (full.status_code, full.json()["code"]) == (429, "too_many_webhooks")
    assert client.post("/webhooks", json=body | {"job_id": make_job("queued")}).status_code == 201
    first = client.get("/webhooks", params={"job_id": body["job_id"]}).json()["webhooks"][0]["id"]
    client.delete(f"/webhooks/{first}")
    assert client.post("/webhooks", json=body).status_code == 201


def test_test_messages_that_wait_are_limited(
    client: TestClient, sender: WebhookSender, receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    webhook_id, _ = add(client, receiver.url)
    answers = [client.post(f"/webhooks/{webhook_id}/test") for _ in range(20)]
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert len(accepted) == 5
    assert {answer.json()["code"] for answer in answers[5:]} == {"too_many_test_messages"}
    other, _ = add(client, receiver.url)
    assert client.post(f"/webhooks/{other}/test").status_code == 202
    sender.send_due()
    assert client.post(f"/webhooks/{webhook_id}/test").status_code == 202


@pytest.mark.parametrize(
    ("query", "code"),
    [("limit=1_0", "invalid_request"), ("limit=5.0", "invalid_request"), ("limit=101", "invalid_request"),
     ("cursor=garbage", "invalid_cursor"), ("cursor=job_01k9t4ae5xfz3v2s6q0m8y1d7c", "invalid_cursor")],
)  # fmt: skip
def test_lists_refuse_what_is_no_number_and_no_cursor_of_theirs(
    client: TestClient, receiver: Receiver, query: str, code: str
) -> None:
    webhook_id, _ = add(client, receiver.url)
    for path in ("/webhooks", f"/webhooks/{webhook_id}/deliveries"):
        refused = client.get(f"{path}?{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, code), path
        assert client.get(f"{path}?limit=10").status_code == 200
