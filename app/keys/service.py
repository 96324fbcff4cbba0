"""Creates, finds, lists and revokes API keys. Callers commit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import new_id
from app.keys.api_key import api_key_prefix, generate_api_key, hash_api_key
from app.keys.models import ApiKey
from app.keys.scopes import SCOPES
from app.secrets import derive_key
from qpruner_core.errors import UserError

DEFAULT_TENANT = "default"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class InvalidKeyRequestError(UserError):
    """The request for a key is invalid."""

    code = "invalid_key_request"


class KeyNotFoundError(UserError):
    """There is no key with that id."""

    code = "key_not_found"


def create_key(
    session: Session,
    signing_key: bytes,
    tenant: str,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; returns its row and its text, which is shown once and never stored.

    Raises:
        InvalidKeyRequestError: tenant, name, a scope or the expiry (aware, in the future) is invalid.
    """
    asked = set(scopes)
    wanted = [scope for scope in SCOPES if scope in asked] if asked <= set(SCOPES) else []
    _check_request(tenant, name, wanted, expires_at)
    text = generate_api_key()
    row = ApiKey(
        id=new_id("key"),
        tenant=tenant,
        name=name.strip(),
        prefix=text.split("_")[1],
        hash=hash_api_key(text, _hash_secret(signing_key)),
        scopes=wanted,
        created_at=utc_now(),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, text


def find_key(session: Session, signing_key: bytes, text: str) -> ApiKey | None:
    """The row of the key ``text``, also if revoked or expired; ``None`` if it is unknown."""
    if api_key_prefix(text) is None:
        return None
    return session.scalar(select(ApiKey).where(ApiKey.hash == hash_api_key(text, _hash_secret(signing_key))))


def list_keys(session: Session, tenant: str | None = None) -> Sequence[ApiKey]:
    """The keys of ``tenant``, or of all, oldest first, including revoked and expired ones."""
    query = select(ApiKey).order_by(ApiKey.id)
    return session.scalars(query if tenant is None else query.where(ApiKey.tenant == tenant)).all()


def revoke_key(session: Session, key_id: str) -> ApiKey:
    """Revoke a key from the next request on; a second time changes nothing.

    Raises:
        KeyNotFoundError: there is no key with this id.
    """
    row = session.get(ApiKey, key_id)
    if row is None:
        raise KeyNotFoundError(
            (f"There is no key with the id {key_id!r}."), remedy="List the ids with `qpruner keys list`."
        )
    row.revoked_at = row.revoked_at or utc_now()
    session.flush()
    return row


def has_usable_key(session: Session) -> bool:
    """Whether any usable key exists."""
    live = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > utc_now())
    return session.scalar(select(ApiKey.id).where(ApiKey.revoked_at.is_(None), live).limit(1)) is not None


def _hash_secret(signing_key: bytes) -> bytes:
    return derive_key(signing_key, "api-key-hash")


def _check_request(tenant: str, name: str, scopes: Sequence[str], expires_at: datetime | None) -> None:
    if not _TENANT.fullmatch(tenant):
        raise InvalidKeyRequestError(
            f"{tenant!r} is not a valid tenant name.",
            field="tenant",
            remedy="Use 1 to 64 lower-case letters, digits, - and _, beginning with a letter or digit.",
        )
    if not 1 <= len(name.strip()) <= 255 or not name.isprintable():
        raise InvalidKeyRequestError(
            "A key needs a name.", field="name", remedy="Give 1 to 255 characters that describe its use."
        )
    if not scopes:
        raise InvalidKeyRequestError(
            "A key needs at least one scope, all of them known.",
            field="scopes",
            remedy=f"Choose from {', '.join(SCOPES)}.",
        )
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= utc_now()):
        raise InvalidKeyRequestError(
            "The expiry must be in the future.", field="expires_at", remedy="Give a later time, with its zone."
        )
