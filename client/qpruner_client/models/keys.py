"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from qpruner_client.models.base import Model


class AuditEntryView(Model):
    """One change."""

    id: int
    """Increases with each entry."""

    at: datetime
    """Time of the change."""

    actor: str
    """Id of the key, `local` if no key is required, or `operator:` with the user of a command."""

    action: str
    """Action."""

    target: str
    """Target of the action."""

    request_id: str | None
    """Identifies the request in the log."""

    address: str | None
    """Client address of the request."""


class AuditPage(Model):
    """A page of changes."""

    entries: list[AuditEntryView]
    """Newest first."""

    next_before: int | None
    """Send it as `before` for older ones; null on the last page."""


class KeyView(Model):
    """A key without its text, which is never stored."""

    id: str
    """Id of the key."""

    name: str
    """Name of the user or program that uses it."""

    prefix: str
    """Start of its text, after `qp_`."""

    scopes: list[str]
    """Scopes."""

    state: Literal["usable", "expired", "revoked"] | str
    """Whether it is usable."""

    created_at: datetime
    """Creation time."""

    expires_at: datetime | None
    """Expiry; null: never."""

    revoked_at: datetime | None
    """Time of revocation; null if it was not revoked."""


class KeyList(Model):
    """The keys of a tenant."""

    keys: list[KeyView]
    """Newest first, including revoked and expired ones."""


class NewKeyView(Model):
    """A new key."""

    id: str
    """Id of the key."""

    name: str
    """Name of the user or program that uses it."""

    prefix: str
    """Start of its text, after `qp_`."""

    scopes: list[str]
    """Scopes."""

    state: Literal["usable", "expired", "revoked"] | str
    """Whether it is usable."""

    created_at: datetime
    """Creation time."""

    expires_at: datetime | None
    """Expiry; null: never."""

    revoked_at: datetime | None
    """Time of revocation; null if it was not revoked."""

    key: str
    """Its text, which is only shown once."""
