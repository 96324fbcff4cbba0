"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from qpruner_client.models.base import Model


class AuditEntryView(Model):
    """One change."""

    id: int
    """Rises with each entry."""

    at: datetime
    """When it was."""

    actor: str
    """Id of the key, `local` where no key is demanded, or `operator:` with who ran a command."""

    action: str
    """What was done."""

    target: str
    """To what."""

    request_id: str | None
    """Names the request in the log."""

    address: str | None
    """Address that the request came from."""


class AuditPage(Model):
    """A page of changes."""

    entries: list[AuditEntryView]
    """The newest first."""

    next_before: int | None
    """Give it as `before` to see older ones; null on the last page."""


class KeyView(Model):
    """A key, without its text: that is kept nowhere."""

    id: str
    """Id of the key."""

    name: str
    """Name of the user or program that uses it."""

    prefix: str
    """What its text begins with, after `qp_`."""

    scopes: list[str]
    """What it may do."""

    state: Literal["usable", "expired", "revoked"] | str
    """Whether it can be used."""

    created_at: datetime
    """When it was made."""

    expires_at: datetime | None
    """When it expires; null: never."""

    revoked_at: datetime | None
    """When it was revoked; null if it was not."""


class KeyList(Model):
    """The keys of a tenant."""

    keys: list[KeyView]
    """The newest first, revoked and expired ones as well."""


class NewKeyView(Model):
    """A key that was just made."""

    id: str
    """Id of the key."""

    name: str
    """Name of the user or program that uses it."""

    prefix: str
    """What its text begins with, after `qp_`."""

    scopes: list[str]
    """What it may do."""

    state: Literal["usable", "expired", "revoked"] | str
    """Whether it can be used."""

    created_at: datetime
    """When it was made."""

    expires_at: datetime | None
    """When it expires; null: never."""

    revoked_at: datetime | None
    """When it was revoked; null if it was not."""

    key: str
    """Its text, which is shown this once."""
