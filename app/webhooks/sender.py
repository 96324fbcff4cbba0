"""Sends owed messages to webhooks, with retries. Several processes may do so."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urljoin

import httpcore
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.settings import Settings
from app.webhooks.addresses import AddressRefusedError, GuardedBackend, check_url
from app.webhooks.models import Webhook, WebhookDelivery
from app.webhooks.service import valid_secrets
from app.webhooks.signing import signed_headers

_LOG = logging.getLogger(__name__)
DELAYS: tuple[float, ...] = (5, 30, 120, 600, 3600, 3 * 3600, 8 * 3600, 24 * 3600)
"""Seconds after each failed attempt; after the last one, the delivery has failed."""
_BATCH = 32
_THREADS = 8
_SECONDS = 15.0  # for each step of an attempt
_HELD_SECONDS = 120.0  # longer than an attempt with its redirects: until then no other process sends the message
_MOST_REDIRECTS = 3
_KEPT_DAYS = 30
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class _Message:
    id: str
    url: str
    body: bytes
    secrets: Sequence[str]


@dataclass(frozen=True)
class _Outcome:
    status: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookSender:
    """A thread that checks the deliveries until it is stopped."""

    def __init__(self, session_factory: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = session_factory
        self._reading = read_only(session_factory)
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._failures = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a message in flight is recorded, or sent again later."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * _SECONDS)

    def send_due(self) -> int:
        """Send every due message; returns their number."""
        messages = self._take_due()
        if messages:
            with ThreadPoolExecutor(min(_THREADS, len(messages)), thread_name_prefix="webhook") as pool:
                for message, outcome in zip(messages, pool.map(self._send, messages), strict=True):
                    self._record(message, outcome)
        return len(messages)

    def forget_old(self) -> None:
        """Delete settled deliveries older than a month."""
        old = WebhookDelivery.created_at < utc_now() - timedelta(days=_KEPT_DAYS)
        with self._sessions.begin() as session:
            session.execute(delete(WebhookDelivery).where(old, WebhookDelivery.status != "pending"))

    def _take_due(self) -> list[_Message]:
        """Mark due messages as taken before they are sent: no row is locked while a receiver is contacted."""
        now = utc_now()
        due = (WebhookDelivery.status == "pending", WebhookDelivery.due_at <= now)
        with self._reading() as session:
            if session.scalar(select(WebhookDelivery.id).where(*due).limit(1)) is None:
                return []
        query = select(WebhookDelivery).where(*due).order_by(WebhookDelivery.due_at).limit(_BATCH)
        with self._sessions.begin() as session:
            messages = []
            for row in session.scalars(query.with_for_update(skip_locked=True)).all():
                webhook = session.get_one(Webhook, row.webhook_id)
                if not webhook.enabled:
                    row.status, row.error = "failed", "The webhook is disabled."
                    continue
                row.attempts += 1
                row.last_attempt_at, row.due_at = now, now + timedelta(seconds=_HELD_SECONDS)
                messages.append(_Message(row.id, webhook.url, row.payload.encode(), valid_secrets(webhook, now)))
            return messages

    def _send(self, message: _Message) -> _Outcome:
        """One attempt, successful if the receiver responds with 2xx; the body is not read."""
        timestamp = int(utc_now().timestamp())
        headers = signed_headers(message.id, timestamp, message.body, message.secrets)
        headers |= {"Content-Type": "application/json", "User-Agent": "qpruner-webhooks", "Connection": "close"}
        allowed, url = self._settings.webhook_networks, message.url
        try:
            with httpcore.ConnectionPool(network_backend=GuardedBackend(allowed)) as pool:
                for _ in range(_MOST_REDIRECTS + 1):
                    check_url(url, allowed)
                    status, location = _post(pool, url, headers, message.body)
                    if location is None:
                        return _Outcome(status, None if 200 <= status < 300 else f"It responded with status {status}.")
                    url = urljoin(url, location)
            return _Outcome(status, f"It redirects more than {_MOST_REDIRECTS} times.")
        except AddressRefusedError as error:
            return _Outcome(None, f"{url} is not permitted: {error}"[:500])
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ValueError) as error:
            return _Outcome(None, f"{type(error).__name__}: {error}"[:500])

    def _record(self, message: _Message, outcome: _Outcome) -> None:
        with self._sessions.begin() as session:
            row = session.get(WebhookDelivery, message.id, with_for_update=True)
            if row is None:  # its webhook was deleted meanwhile
                return
            row.response_status, row.error = outcome.status, outcome.error
            if outcome.delivered:
                row.status, row.delivered_at = "delivered", utc_now()
            elif outcome.status == 410 or row.attempts > len(DELAYS):
                row.status = "failed"
                if outcome.status == 410:  # the receiver is gone permanently, by its own response
                    session.get_one(Webhook, row.webhook_id).enabled = False
            else:
                delay = DELAYS[row.attempts - 1] * random.uniform(1.0, 1.2)  # noqa: S311 - nothing secret
                row.due_at = utc_now() + timedelta(seconds=delay)

    def _run(self) -> None:
        forget_in = 0.0
        while not self._stopping.wait(self._pause()):
            try:
                while self.send_due() == _BATCH and not self._stopping.is_set():
                    pass
                forget_in -= self._pause()
                if forget_in <= 0:
                    self.forget_old()
                    forget_in = 3600.0
                self._failures = 0
            except SQLAlchemyError as error:
                if not self._failures:
                    _LOG.warning("The database is unavailable; webhooks wait until it is back: %s", error)
                self._failures += 1
            except Exception:  # noqa: BLE001 - messages would wait for ever on a dead thread
                _LOG.exception("Unexpected error in the sender of webhooks; it continues")
                self._failures += 1

    def _pause(self) -> float:
        return float(min(self._settings.poll_seconds * 2 ** min(self._failures + 1, 6), _LONGEST_PAUSE))


def _post(pool: httpcore.ConnectionPool, url: str, headers: dict[str, str], body: bytes) -> tuple[int, str | None]:
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)
    pairs = list(headers.items())
    with pool.stream("POST", url, headers=pairs, content=body, extensions={"timeout": timeouts}) as response:
        moved = response.status in (301, 302, 307, 308)
        location = next((value for name, value in response.headers if name.lower() == b"location"), None)
        return response.status, location.decode("latin-1") if moved and location is not None else None
