"""Sends owed messages to webhooks, with retries. Several processes may do so."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urljoin

import httpcore
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.settings import Settings
from app.webhooks.addresses import AddressRefusedError, GuardedBackend, check_url
from app.webhooks.deadline import Deadline
from app.webhooks.models import Webhook, WebhookDelivery
from app.webhooks.service import valid_secrets
from app.webhooks.signing import signed_headers
from app.webhooks.turns import Turns, fail_disabled

_LOG = logging.getLogger(__name__)
DELAYS: tuple[float, ...] = (5, 30, 120, 600, 3600, 3 * 3600, 8 * 3600, 24 * 3600)
"""Seconds after each failed attempt; after the last one, the delivery has failed."""
PLACES = 32
"""Messages in flight per process."""
_STEP_SECONDS = 15.0  # for each step of an attempt
_HELD_SECONDS = 120.0  # beside the attempt's own limit, for recording it: until then no other process sends the message
_MOST_REDIRECTS = 3
_KEPT_DAYS = 30
_FORGET_SECONDS = 3600.0
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class _Message:
    """A message in flight; ``attempt`` and ``taken_at`` say which attempt it is."""

    id: str
    tenant: str
    url: str
    body: bytes
    secrets: Sequence[str]
    attempt: int
    taken_at: datetime


@dataclass(frozen=True)
class _Outcome:
    status: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookSender:
    """A thread that looks for due messages until it is stopped, and others that send them.

    Each message is recorded when it ends, and its place is given to the next one: a slow receiver holds its own
    messages up, and no others.
    """

    def __init__(self, session_factory: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = session_factory
        self._reading = read_only(session_factory)
        self._settings = settings
        self._turns = Turns(PLACES)
        self._pool = ThreadPoolExecutor(PLACES, thread_name_prefix="webhook")
        self._stopping = False
        self._changed = threading.Event()  # a place is free, or the sender is to stop
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._failures = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a message in flight is recorded, or sent again later."""
        self._stopping = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(_LONGEST_PAUSE)
        self._pool.shutdown()

    def send_due(self) -> int:
        """Send every due message, wait until all have ended, and return their number."""
        sent = 0
        while True:
            self._changed.clear()
            sent += self._send_some()
            if not self._turns.in_flight:
                return sent
            self._changed.wait()

    def forget_old(self) -> None:
        """Delete settled deliveries older than a month."""
        old = WebhookDelivery.created_at < utc_now() - timedelta(days=_KEPT_DAYS)
        with self._sessions.begin() as session:
            session.execute(delete(WebhookDelivery).where(old, WebhookDelivery.status != "pending"))

    def _send_some(self) -> int:
        """Give the free places to due messages; returns the number of these. Does not wait for them."""
        messages = self._take_due()
        for message in messages:
            self._turns.begin(message.tenant)
            self._pool.submit(self._deliver, message)
        return len(messages)

    def _take_due(self) -> list[_Message]:
        """Mark due messages as taken before they are sent: no row is locked while a receiver is contacted."""
        now = utc_now()
        with self._reading() as session:  # most often nothing is due, and nobody has to wait for that
            chosen = self._turns.choose(session, now)
        if not chosen:
            return []
        held_until = now + timedelta(seconds=self._settings.webhook_seconds + _HELD_SECONDS)
        with self._sessions.begin() as session:
            fail_disabled(session, now)
            messages = []
            for row, webhook in self._turns.lock(session, chosen, now):
                row.attempts += 1
                row.last_attempt_at, row.due_at = now, held_until
                secrets, body = valid_secrets(webhook, now), row.payload.encode()
                messages.append(_Message(row.id, webhook.tenant, webhook.url, body, secrets, row.attempts, now))
            return messages

    def _deliver(self, message: _Message) -> None:
        """Send ``message``, record the outcome and free its place."""
        try:
            self._record(message, self._send(message))
        except SQLAlchemyError as error:
            _LOG.warning("The outcome of message %s is not recorded; it is sent again: %s", message.id, error)
        except Exception:  # noqa: BLE001 - nobody reads the future of this function
            _LOG.exception("Unexpected error while message %s was sent; it is sent again", message.id)
        finally:
            self._turns.end(message.tenant)
            self._changed.set()

    def _send(self, message: _Message) -> _Outcome:
        """One attempt, successful if the receiver responds with 2xx; the body is not read."""
        timestamp = int(utc_now().timestamp())
        headers = signed_headers(message.id, timestamp, message.body, message.secrets)
        headers |= {"Content-Type": "application/json", "User-Agent": "qpruner-webhooks", "Connection": "close"}
        allowed, url = self._settings.webhook_networks, message.url
        backend = GuardedBackend(allowed, Deadline(self._settings.webhook_seconds))
        try:
            with httpcore.ConnectionPool(network_backend=backend) as pool:
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
            if row is None or row.status == "delivered":  # its webhook was deleted, or another attempt succeeded
                return
            row.response_status, row.error = outcome.status, outcome.error
            if outcome.delivered:
                row.status, row.delivered_at = "delivered", utc_now()
            elif outcome.status == 410:  # the receiver is gone permanently, by its own response
                row.status = "failed"
                session.get_one(Webhook, row.webhook_id).enabled = False
            elif (row.attempts, row.last_attempt_at) == (message.attempt, message.taken_at):
                _plan_next(row)
            # else it was owed again meanwhile, with all its attempts: this one is none of them

    def _run(self) -> None:
        forget_at = time.monotonic()
        while not self._stopping:
            try:
                self._send_some()
                if time.monotonic() >= forget_at:
                    self.forget_old()
                    forget_at = time.monotonic() + _FORGET_SECONDS
                self._failures = 0
            except SQLAlchemyError as error:
                if not self._failures:
                    _LOG.warning("The database is unavailable; webhooks wait until it is back: %s", error)
                self._failures += 1
            except Exception:  # noqa: BLE001 - messages would wait for ever on a dead thread
                _LOG.exception("Unexpected error in the sender of webhooks; it continues")
                self._failures += 1
            self._changed.wait(self._pause())
            self._changed.clear()

    def _pause(self) -> float:
        return float(min(self._settings.poll_seconds * 2 ** min(self._failures + 1, 6), _LONGEST_PAUSE))


def _plan_next(row: WebhookDelivery) -> None:
    """After a failed attempt: the next one, or none."""
    if row.attempts > len(DELAYS):
        row.status = "failed"
        return
    delay = DELAYS[row.attempts - 1] * random.uniform(1.0, 1.2)  # noqa: S311 - nothing secret
    row.due_at = utc_now() + timedelta(seconds=delay)


def _post(pool: httpcore.ConnectionPool, url: str, headers: dict[str, str], body: bytes) -> tuple[int, str | None]:
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _STEP_SECONDS)
    pairs = list(headers.items())
    with pool.stream("POST", url, headers=pairs, content=body, extensions={"timeout": timeouts}) as response:
        moved = response.status in (301, 302, 307, 308)
        location = next((value for name, value in response.headers if name.lower() == b"location"), None)
        return response.status, location.decode("latin-1") if moved and location is not None else None
