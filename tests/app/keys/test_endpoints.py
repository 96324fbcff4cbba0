"""Keys are made, listed and revoked over HTTP by the administrators of their tenant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.database import utc_now

Authorize = Callable[..., dict[str, str]]


@pytest.fixture
def admin(authorize: Authorize) -> dict[str, str]:
    """Headers of an administrator of the tenant acme."""
    return authorize("acme", "admin")


def made(client: TestClient, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = client.post("/keys", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    key: dict[str, Any] = answer.json()
    return key


def test_a_key_works_until_it_is_revoked(client: TestClient, admin: dict[str, str]) -> None:
    key = made(client, admin, name="tool", scopes=["read"])
    mine = {"Authorization": f"Bearer {key['key']}"}
    assert client.get("/jobs", headers=mine).status_code == 200
    assert client.get("/keys", headers=mine).json()["code"] == "forbidden"
    revoked = client.delete(f"/keys/{key['id']}", headers=admin)
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    assert client.get("/jobs", headers=mine).status_code == 401


def test_the_list_has_no_texts_and_only_the_tenants_keys(
    client: TestClient, admin: dict[str, str], authorize: Authorize
) -> None:
    authorize("other", "admin")
    key = made(client, admin, name="tool", days=30)
    answer = client.get("/keys", headers=admin)
    listed = answer.json()["keys"]
    assert [one["name"] for one in listed] == ["tool", "test"]
    assert listed[0] == {name: value for name, value in key.items() if name != "key"}
    assert (listed[0]["state"], listed[0]["scopes"]) == ("usable", ["submit"])
    assert key["key"] not in answer.text
    expires = datetime.fromisoformat(listed[0]["expires_at"])
    assert timedelta(days=29, hours=23) < expires - utc_now() <= timedelta(days=30)


def test_a_key_of_another_tenant_is_none(client: TestClient, admin: dict[str, str], authorize: Authorize) -> None:
    key = made(client, admin, name="tool")
    stranger = authorize("other", "admin")
    answer = client.delete(f"/keys/{key['id']}", headers=stranger)
    assert (answer.status_code, answer.json()["code"]) == (404, "key_not_found")
    assert client.get("/jobs", headers={"Authorization": f"Bearer {key['key']}"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x", "scopes": ["root"]}, "scopes.0"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "days": 0}, "days"),
        ({"name": "x", "tenant": "other"}, "tenant"),
    ],
)
def test_what_is_no_key_is_refused(client: TestClient, admin: dict[str, str], body: dict[str, Any], field: str) -> None:
    answer = client.post("/keys", json=body, headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_making_and_revoking_are_in_the_audit_which_only_administrators_see(
    client: TestClient, admin: dict[str, str], authorize: Authorize
) -> None:
    ids = [made(client, admin, name=str(number))["id"] for number in range(3)]
    client.delete(f"/keys/{ids[0]}", headers=admin)
    page = client.get("/audit", params={"limit": 3}, headers=admin).json()
    changes = [(one["action"], one["target"]) for one in page["entries"]]
    assert changes == [("key.revoke", ids[0]), ("key.create", ids[2]), ("key.create", ids[1])]
    rest = client.get("/audit", params={"before": page["next_before"]}, headers=admin).json()
    assert [one["target"] for one in rest["entries"]] == [ids[0]]
    assert rest["next_before"] is None
    assert client.get("/audit", headers=authorize("acme", "submit")).status_code == 403
    assert client.get("/audit", headers=authorize("other", "admin")).json()["entries"] == []
