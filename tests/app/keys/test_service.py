"""Making, finding, listing and revoking keys, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database import create_database_engine, utc_now
from app.keys.service import (
    InvalidKeyRequestError,
    KeyNotFoundError,
    create_key,
    find_key,
    has_usable_key,
    list_keys,
    revoke_key,
)

SECRET = b"0123456789abcdef" * 2


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A session on a database of the test's own."""
    engine = create_database_engine(database_url)
    with Session(engine) as opened:
        yield opened
    engine.dispose()


def test_a_key_is_found_by_its_text_alone(session: Session) -> None:
    row, key = create_key(session, SECRET, "acme", "ci", ["submit"])
    create_key(session, SECRET, "acme", "other", ["read"])
    session.commit()
    found = find_key(session, SECRET, key)
    assert found is not None
    assert (found.id, found.tenant, found.name, found.scopes) == (row.id, "acme", "ci", ["submit"])
    assert found.prefix == key[3:11]


def test_the_database_does_not_hold_the_key(session: Session) -> None:
    _, key = create_key(session, SECRET, "acme", "ci", ["submit"])
    session.commit()
    secret = key[12:]
    columns = [str(value) for row in session.execute(text("SELECT * FROM api_keys")) for value in row]
    assert not any(secret in column for column in columns)


def test_another_signing_key_finds_nothing(session: Session) -> None:
    _, key = create_key(session, SECRET, "acme", "ci", ["read"])
    assert find_key(session, b"another" * 5, key) is None


def test_keys_are_listed_by_tenant_oldest_first(session: Session) -> None:
    ids = [create_key(session, SECRET, tenant, "n", ["read"])[0].id for tenant in ("a", "b", "a")]
    assert [row.id for row in list_keys(session, "a")] == [ids[0], ids[2]]
    assert [row.id for row in list_keys(session)] == ids


def test_revoking_twice_keeps_the_first_time(session: Session) -> None:
    row, _ = create_key(session, SECRET, "acme", "ci", ["read"])
    first = revoke_key(session, row.id).revoked_at
    assert first is not None
    assert revoke_key(session, row.id).revoked_at == first


def test_revoking_an_unknown_key_is_told(session: Session) -> None:
    with pytest.raises(KeyNotFoundError):
        revoke_key(session, "key_none")


def test_a_key_is_usable_until_it_is_revoked_or_expires(session: Session) -> None:
    assert not has_usable_key(session)
    row, _ = create_key(session, SECRET, "acme", "ci", ["read"], utc_now() + timedelta(hours=1))
    assert has_usable_key(session)
    row.expires_at = utc_now() - timedelta(seconds=1)
    session.flush()
    assert not has_usable_key(session)
    row.expires_at = None
    revoke_key(session, row.id)
    assert not has_usable_key(session)


BAD_REQUESTS: tuple[tuple[str, str, list[str], datetime | None, str], ...] = (
    ("", "n", ["read"], None, "tenant"),
    ("Acme Corp", "n", ["read"], None, "tenant"),
    ("a" * 65, "n", ["read"], None, "tenant"),
    ("a", " ", ["read"], None, "name"),
    ("a", "line\nbreak", ["read"], None, "name"),
    ("a", "n", [], None, "scopes"),
    ("a", "n", ["read", "write"], None, "scopes"),
    ("a", "n", ["read"], datetime(2020, 1, 1, tzinfo=UTC), "expires_at"),
    ("a", "n", ["read"], datetime(2999, 1, 1), "expires_at"),
)


def test_a_bad_request_names_its_field_and_makes_no_key(session: Session) -> None:
    for tenant, name, scopes, expires_at, field in BAD_REQUESTS:
        with pytest.raises(InvalidKeyRequestError) as caught:
            create_key(session, SECRET, tenant, name, scopes, expires_at)
        assert caught.value.field == field
        assert caught.value.remedy
    assert list_keys(session) == []
