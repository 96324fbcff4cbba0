"""Writes entries in the transaction of their change, and reads them. Callers commit."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.audit.models import AuditEntry
from app.database import utc_now

if TYPE_CHECKING:
    from app.keys.principal import Principal

Action = Literal[
    "job.submit", "job.cancel", "job.retry", "job.delete", "dataset.upload", "dataset.delete",
    "model.upload", "model.delete",
    "key.create", "key.revoke", "store.adopt",
    "webhook.create", "webhook.change", "webhook.delete", "webhook.rotate", "webhook.secret",
]  # fmt: skip
_ADD = insert(cast(Table, AuditEntry.__table__)).inline()  # does not fetch its id
_BATCH = 500
_LOG = logging.getLogger(__name__)


def record(session: Session, principal: Principal, action: Action, target: str) -> None:
    """Record that ``principal`` did ``action`` to ``target``; rolled back with the change."""
    _write(
        session, tenant=principal.tenant, actor=principal.key_id or "local", action=action, target=target,
        request_id=principal.request_id, address=principal.address,
    )  # fmt: skip


def record_read(sessions: sessionmaker[Session], principal: Principal, action: Action, target: str) -> None:
    """:func:`record` in a transaction of its own, for a request that changes nothing: called once it has been answered,
    because reads wait for no writer. If the database cannot be written to, the entry goes to the log."""
    try:
        with sessions.begin() as session:
            record(session, principal, action, target)
    except SQLAlchemyError as error:
        actor, request = principal.key_id or "local", principal.request_id
        _LOG.error("Not in the audit: %s of %s by %s (%s): %s", action, target, actor, request, error)


def record_operator(session: Session, action: Action, target: str, tenant: str = "") -> None:
    """Record that the user of this command did ``action``; ``tenant``: the tenant concerned, if any."""
    _write(session, tenant=tenant, actor=f"operator:{_system_user()}", action=action, target=target)


def entries(
    session: Session, *, tenant: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> Iterator[AuditEntry]:
    """Entries in the order of writing, with ``since`` <= time < ``until``."""
    query = select(AuditEntry).order_by(AuditEntry.id)
    if tenant is not None:
        query = query.where(AuditEntry.tenant == tenant)
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if until is not None:
        query = query.where(AuditEntry.at < until)
    yield from session.scalars(query.execution_options(yield_per=_BATCH))


def newest(session: Session, tenant: str, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
    """At most ``limit`` entries of ``tenant`` with ids below ``before``, newest first."""
    query = select(AuditEntry).where(AuditEntry.tenant == tenant)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()


def _write(session: Session, **columns: str | None) -> None:
    session.connection().execute(_ADD, {"at": utc_now(), "request_id": None, "address": None, **columns})


def _system_user() -> str:
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
