"""A receiver that is slow, or a tenant with many messages, holds up no other tenant's messages."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpcore
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.settings import Settings
from app.webhooks.deadline import Deadline
from app.webhooks.models import Webhook
from app.webhooks.outbox import new_delivery
from app.webhooks.sender import DELAYS, PLACES, WebhookSender
from app.webhooks.turns import TENANTS_PLACES, Turns
from tests.app.webhooks.receiver import Receiver, run_receiver
from tests.server_processes import wait_until

Authorize = Callable[..., dict[str, str]]
LIMIT_SECONDS = 4.0
"""Of a whole attempt."""
MANY = PLACES + 8


class Trickling:
    """A receiver that responds with a byte of a header every tenth of a second, and never ends."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.open = self.most_open = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"

    def close(self) -> None:
        """Accept no further connection."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which ends the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=self._trickle, args=self._listener.accept()[:1], daemon=True).start()
        except OSError:
            return

    def _trickle(self, connection: socket.socket) -> None:
        self._count(1)
        try:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                time.sleep(0.1)
                connection.sendall(b"a")
        except OSError:  # the sender has hung up
            connection.close()
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self.open += more
            self.most_open = max(self.most_open, self.open)


@pytest.fixture
def trickling() -> Iterator[Trickling]:
    made = Trickling()
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as made:
        yield made


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """No job reads here; the model of other tests takes seconds to build."""
    return tmp_path


@pytest.fixture
def settings(settings: Settings) -> Settings:
    more = {"webhook_networks": (ip_network("127.0.0.0/8"),), "webhook_seconds": LIMIT_SECONDS}
    return settings.model_copy(update=more)


@pytest.fixture
def sender(application: FastAPI, settings: Settings) -> Iterator[WebhookSender]:
    made = WebhookSender(application.state.session_factory, settings)
    yield made
    made.stop()


def add(client: TestClient, url: str, headers: dict[str, str]) -> str:
    made = client.post("/webhooks", json={"url": url}, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def owe(sessions: sessionmaker[Session], webhook_id: str, number: int) -> None:
    with sessions.begin() as session:
        session.add_all(new_delivery(webhook_id, "job.failed", utc_now(), {"number": one}) for one in range(number))


def deliveries(client: TestClient, webhook_id: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(
        f"/webhooks/{webhook_id}/deliveries", params={"limit": 100}, headers=headers
    ).json()["deliveries"]
    return found


def test_an_attempt_ends_at_its_limit_however_the_receiver_spreads_its_response(
    client: TestClient, sender: WebhookSender, sessions: sessionmaker[Session], trickling: Trickling,
    authorize: Authorize,
) -> None:  # fmt: skip
    headers = authorize("slow", "submit")
    webhook_id = add(client, trickling.url, headers)
    owe(sessions, webhook_id, 1)
    began = time.monotonic()
    sender.send_due()
    assert LIMIT_SECONDS <= time.monotonic() - began < LIMIT_SECONDS + 10  # without it, never
    (delivery,) = deliveries(client, webhook_id, headers)
    assert (delivery["status"], delivery["attempts"]) == ("pending", 1)
    assert "Timeout" in delivery["error"]
    assert wait_until(lambda: trickling.open == 0, 5)  # the connection is closed


def test_a_receiver_that_never_ends_holds_up_no_other_tenants_messages(
    client: TestClient, sender: WebhookSender, sessions: sessionmaker[Session], trickling: Trickling,
    receiver: Receiver, authorize: Authorize,
) -> None:  # fmt: skip
    slow, other = authorize("slow", "submit"), authorize("other", "submit")
    owe(sessions, add(client, trickling.url, slow), MANY)
    theirs = add(client, receiver.url, other)
    sender.start()
    assert wait_until(lambda: trickling.open == TENANTS_PLACES, 10)
    for _ in range(3):
        client.post(f"/webhooks/{theirs}/test", headers=other)

    def recorded() -> bool:
        return {one["status"] for one in deliveries(client, theirs, other)} == {"delivered"}

    assert wait_until(recorded, LIMIT_SECONDS)  # while the slow tenant's messages are in flight or wait
    assert len(receiver.received) == 3
    assert trickling.open > 0
    assert trickling.most_open <= TENANTS_PLACES


def test_tenants_take_turns_and_none_exceeds_its_places(
    client: TestClient, sessions: sessionmaker[Session], authorize: Authorize, receiver: Receiver
) -> None:
    owner: dict[str, str] = {}
    for tenant, number in (("flood", 50), ("second", 3), ("third", 1)):  # in the order in which they were due
        webhook_id = add(client, receiver.url, authorize(tenant, "submit"))
        owner[webhook_id] = tenant
        owe(sessions, webhook_id, number)
    turns = Turns(6)
    assert of_tenants(sessions, turns, owner) == Counter(flood=3, second=2, third=1)
    for tenant in ("flood", "flood", "flood", "third"):
        turns.begin(tenant)
    assert of_tenants(sessions, turns, owner) == Counter(second=2)  # of which none is in flight
    for _ in range(2):
        turns.end("flood")
    turns.begin("second")
    assert of_tenants(sessions, turns, owner) == Counter(flood=1, second=1, third=1)
    assert of_tenants(sessions, Turns(100), owner) == Counter(flood=TENANTS_PLACES, second=3, third=1)
    one = Turns(1)
    order: list[str] = []
    for _ in range(4):
        (tenant,) = of_tenants(sessions, one, owner)
        order.append(tenant)
        one.begin(tenant)
        one.end(tenant)
    assert order == ["flood", "second", "third", "flood"]


def of_tenants(sessions: sessionmaker[Session], turns: Turns, owner: dict[str, str]) -> Counter[str]:
    """How many messages of each tenant are next."""
    now = utc_now()
    with sessions() as session:
        chosen = turns.choose(session, now)
        return Counter(owner[webhook.id] for _, webhook in turns.lock(session, chosen, now))


def test_all_of_many_messages_are_sent_once(
    client: TestClient, sender: WebhookSender, sessions: sessionmaker[Session], receiver: Receiver,
    authorize: Authorize,
) -> None:  # fmt: skip
    for tenant in ("one", "two"):
        owe(sessions, add(client, receiver.url, authorize(tenant, "submit")), MANY)
    assert sender.send_due() == 2 * MANY
    sent = Counter(headers["webhook-id"] for headers, _, _ in receiver.received)
    assert (len(sent), set(sent.values())) == (2 * MANY, {1})


def test_the_messages_of_a_disabled_webhook_are_given_up(
    client: TestClient, sender: WebhookSender, sessions: sessionmaker[Session], receiver: Receiver,
    authorize: Authorize,
) -> None:  # fmt: skip
    headers = authorize("one", "submit")
    webhook_id = add(client, receiver.url, headers)
    owe(sessions, webhook_id, MANY)
    with sessions.begin() as session:
        session.get_one(Webhook, webhook_id).enabled = False
    assert sender.send_due() == 0
    assert {one["error"] for one in deliveries(client, webhook_id, headers)} == {"The webhook is disabled."}


def test_what_is_sent_again_during_an_attempt_that_fails_then_is_due_at_once(
    client: TestClient, sender: WebhookSender, sessions: sessionmaker[Session], trickling: Trickling,
    authorize: Authorize,
) -> None:  # fmt: skip
    headers = authorize("slow", "submit")
    webhook_id = add(client, trickling.url, headers)
    owe(sessions, webhook_id, 1)
    attempt = threading.Thread(target=sender.send_due)
    attempt.start()
    assert wait_until(lambda: trickling.open == 1, 10)
    (delivery,) = deliveries(client, webhook_id, headers)
    again = client.post(f"/webhooks/{webhook_id}/deliveries/{delivery['id']}/resend", headers=headers)
    assert again.status_code == 202
    trickling.close()  # a further attempt would fail at once
    attempt.join(6 * LIMIT_SECONDS)
    (delivery,) = deliveries(client, webhook_id, headers)
    assert (delivery["status"], delivery["attempts"]) == ("pending", 1)  # the one after it was asked for
    waits = (datetime.fromisoformat(delivery["due_at"]) - utc_now()).total_seconds()
    assert waits <= 1.2 * DELAYS[0]


def test_a_name_that_is_not_resolved_in_time_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [released.wait(30)])  # a silent server
    began = time.monotonic()
    with pytest.raises(httpcore.TimeoutException):
        Deadline(0.2).resolve("tool.example", 443)
    assert time.monotonic() - began < 5
    released.set()
    ended = Deadline(0)
    with pytest.raises(httpcore.TimeoutException):
        ended.left()
