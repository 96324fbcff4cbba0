"""Which due messages are sent next: tenants take turns, and none has more than a few messages in flight."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.webhooks.models import Webhook, WebhookDelivery

TENANTS_PLACES = 4
"""Messages in flight per tenant and process."""


class Turns:
    """The messages in flight of a process with ``places`` for them. Thread-safe."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._flying: Counter[str] = Counter()
        self._turn = 0
        self._last_turn: dict[str, int] = {}

    @property
    def in_flight(self) -> int:
        """Number of messages in flight."""
        with self._lock:
            return self._flying.total()

    def begin(self, tenant: str) -> None:
        """A message of ``tenant`` is sent from now on."""
        with self._lock:
            self._flying[tenant] += 1
            self._turn += 1
            self._last_turn[tenant] = self._turn

    def end(self, tenant: str) -> None:
        """It has ended."""
        with self._lock:
            self._flying[tenant] -= 1
            if not self._flying[tenant]:
                del self._flying[tenant]

    def choose(self, session: Session, now: datetime) -> list[str]:
        """Ids of the due messages for the free places. The tenant with the fewest messages in flight comes first; of
        several, the one whose turn was longest ago."""
        with self._lock:
            flying, last_turn = Counter(self._flying), dict(self._last_turn)
        free = self._places - flying.total()
        if free <= 0:
            return []
        waiting = [
            (flying[tenant] + place, last_turn.get(tenant, 0), due_at, delivery_id)
            for delivery_id, tenant, due_at, place in _first_of_each(session, now)
            if flying[tenant] + place <= TENANTS_PLACES
        ]
        return [delivery_id for *_, delivery_id in sorted(waiting)[:free]]

    def lock(self, session: Session, chosen: Sequence[str], now: datetime) -> Iterator[tuple[WebhookDelivery, Webhook]]:
        """The ``chosen`` messages with their webhooks, without those that another process has taken meanwhile."""
        query = select(WebhookDelivery).where(WebhookDelivery.id.in_(chosen), *_due(now))
        for row in session.scalars(query.with_for_update(skip_locked=True)).all():
            yield row, session.get_one(Webhook, row.webhook_id)


def fail_disabled(session: Session, now: datetime) -> None:
    """Give up the due messages of webhooks that are disabled."""
    query = select(WebhookDelivery.id).join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    free = query.where(*_due(now), ~Webhook.enabled).with_for_update(of=WebhookDelivery, skip_locked=True)
    failed = update(WebhookDelivery).where(WebhookDelivery.id.in_(free))
    session.execute(failed.values(status="failed", error="The webhook is disabled."))


def _due(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return WebhookDelivery.status == "pending", WebhookDelivery.due_at <= now


def _first_of_each(session: Session, now: datetime) -> Sequence[tuple[str, str, datetime, int]]:
    """Id, tenant, due time and place in the tenant's line of its first messages."""
    order = (WebhookDelivery.due_at, WebhookDelivery.id)
    place = func.row_number().over(partition_by=Webhook.tenant, order_by=order).label("place")
    line = (
        select(WebhookDelivery.id, Webhook.tenant, WebhookDelivery.due_at, place)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(*_due(now))
        .subquery()
    )
    rows = session.execute(select(line).where(line.c.place <= TENANTS_PLACES))
    return [(row.id, row.tenant, row.due_at, row.place) for row in rows]
