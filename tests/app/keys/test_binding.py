"""Where the service may listen without a key, and whom it answers there."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.database import create_database_engine
from app.keys.binding import UnsafeBindingError, ensure_safe_binding, is_loopback, key_required, trusted_hosts
from app.keys.same_origin import SameOriginMiddleware
from app.keys.service import create_key
from app.settings import Settings


def _settings(data_dir: Path, **values: object) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, **values})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "::1", "[::1]"])
def test_loopback_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", ""])
def test_anything_else_is_reached_by_others(host: str) -> None:
    assert not is_loopback(host)


def test_a_key_is_demanded_where_others_reach_the_service(tmp_path: Path) -> None:
    assert not key_required(_settings(tmp_path))
    assert key_required(_settings(tmp_path, host="0.0.0.0"))
    assert key_required(_settings(tmp_path, require_key=True))


def test_an_open_address_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeBindingError, match="no API key is required") as caught:
        ensure_safe_binding(_settings(tmp_path, host="0.0.0.0", require_key=False))
    assert (caught.value.code, caught.value.field) == ("unsafe_binding", "require_key")


def test_an_open_address_is_refused_until_there_is_a_key(database_url: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, host="0.0.0.0", database_url=database_url)
    with pytest.raises(UnsafeBindingError, match="no API key yet") as caught:
        ensure_safe_binding(settings)
    assert "qpruner keys create" in caught.value.remedy
    engine = create_database_engine(database_url)
    with Session(engine) as session:
        create_key(session, b"x" * 32, "acme", "first", ["admin"])
        session.commit()
    engine.dispose()
    ensure_safe_binding(settings)


def test_loopback_needs_no_database_to_be_safe(tmp_path: Path) -> None:
    ensure_safe_binding(_settings(tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none"))


def _client(settings: Settings) -> TestClient:
    app = FastAPI()
    app.add_middleware(SameOriginMiddleware, hosts=trusted_hosts(settings), public_url=settings.public_url)

    @app.get("/x")
    @app.post("/x")
    def answer() -> str:
        return "answered"

    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"])
def test_without_keys_the_names_of_loopback_are_answered(tmp_path: Path, host: str) -> None:
    assert _client(_settings(tmp_path)).get("/x", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[", "localhost.evil"]
)
def test_without_keys_any_other_name_is_refused(tmp_path: Path, host: str) -> None:
    response = _client(_settings(tmp_path)).get("/x", headers={"Host": host})
    assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", "https://127.0.0.1:8000", "null"])
def test_without_keys_a_page_of_another_origin_changes_nothing(tmp_path: Path, origin: str) -> None:
    response = _client(_settings(tmp_path)).post("/x", headers={"Origin": origin})
    assert (response.status_code, response.json()["code"]) == (403, "cross_origin")


def test_without_keys_the_service_s_own_page_and_plain_clients_may_change(tmp_path: Path) -> None:
    client = _client(_settings(tmp_path))
    assert client.post("/x", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200
    assert client.post("/x").status_code == 200


def test_the_public_url_is_one_of_the_service_s_own(tmp_path: Path) -> None:
    client = _client(_settings(tmp_path, public_url="https://prune.example.org/"))
    headers = {"Host": "prune.example.org", "Origin": "https://prune.example.org"}
    assert client.post("/x", headers=headers).status_code == 200
    assert client.post("/x", headers=headers | {"Origin": "https://other.example.org"}).status_code == 403


def test_with_keys_every_name_and_origin_is_answered(tmp_path: Path) -> None:
    client = _client(_settings(tmp_path, host="0.0.0.0"))
    assert client.post("/x", headers={"Host": "any.example", "Origin": "http://other.example"}).status_code == 200
