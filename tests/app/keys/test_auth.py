"""Who may do what, over HTTP, with a real database behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.database import create_database_engine, create_read_session_factory, utc_now
from app.keys.api_key import generate_api_key
from app.keys.auth import Admin, CurrentPrincipal, Reader, Submitter
from app.keys.service import create_key, list_keys, revoke_key
from app.migrate import upgrade
from app.problems import install_problem_handlers
from app.settings import Settings

SECRET = "0123456789abcdef" * 2


class Service:
    """An application with one endpoint for each scope, and keys to use it with."""

    def __init__(self, database_url: str, data_dir: Path, host: str) -> None:
        self.engine = create_database_engine(database_url)
        self.app = _application(
            Settings(_env_file=None, data_dir=data_dir, host=host, database_url=database_url, signing_key=SECRET)
        )
        self.app.state.read_sessions = create_read_session_factory(self.engine)
        self.client = TestClient(self.app)

    def key(self, *scopes: str, tenant: str = "acme", expired: bool = False, revoked: bool = False) -> str:
        """The text of a new key."""
        with Session(self.engine) as session:
            row, text = create_key(session, SECRET.encode(), tenant, "test", scopes)
            if expired:
                row.expires_at = utc_now() - timedelta(seconds=1)
            if revoked:
                revoke_key(session, row.id)
            session.commit()
        return text

    def status(self, path: str, key: str | None) -> int:
        """What a request with ``key`` is answered."""
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        return self.client.get(path, headers=headers).status_code


def _application(settings: Settings) -> FastAPI:
    app = FastAPI()
    app.state.settings = settings
    install_problem_handlers(app)

    @app.get("/whoami")
    def whoami(principal: CurrentPrincipal) -> dict[str, object]:
        return {"tenant": principal.tenant, "scopes": sorted(principal.scopes)}

    @app.get("/read")
    def read(principal: Reader) -> None: ...

    @app.get("/submit")
    def submit(principal: Submitter) -> None: ...

    @app.get("/admin")
    def admin(principal: Admin) -> None: ...

    return app


@pytest.fixture
def public(database_url: str, tmp_path: Path) -> Service:
    """A service that listens on every address."""
    return Service(database_url, tmp_path, "0.0.0.0")


@pytest.fixture
def loopback(tmp_path: Path) -> Service:
    """A service that only this machine reaches."""
    upgrade(f"sqlite:///{tmp_path / 'test.db'}")
    return Service(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, "127.0.0.1")


def test_a_key_gives_its_tenant_and_scopes(public: Service) -> None:
    response = public.client.get("/whoami", headers={"Authorization": f"Bearer {public.key('submit')}"})
    assert response.json() == {"tenant": "acme", "scopes": ["read", "submit"]}


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", {"/read"}), ("submit", {"/read", "/submit"}), ("admin", {"/read", "/submit", "/admin"})],
)
def test_a_scope_allows_what_it_implies_and_no_more(public: Service, scope: str, allowed: set[str]) -> None:
    key = public.key(scope)
    assert {path for path in ("/read", "/submit", "/admin") if public.status(path, key) == 200} == allowed
    assert {public.status(path, key) for path in {"/read", "/submit", "/admin"} - allowed} <= {403}


def test_a_missing_scope_is_forbidden_with_the_remedy(public: Service) -> None:
    response = public.client.get("/admin", headers={"Authorization": f"Bearer {public.key('read')}"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert "admin" in response.json()["remedy"]


def test_no_key_is_unauthenticated(public: Service) -> None:
    response = public.client.get("/read")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["content-type"] == "application/problem+json"


def test_a_key_that_is_unknown_mistyped_expired_or_revoked_is_unauthenticated(public: Service) -> None:
    good = public.key("admin")
    assert public.status("/admin", good) == 200
    for bad in (
        generate_api_key(),
        good[:-1] + ("x" if good[-1] != "x" else "y"),
        good[:-1],
        "",
        "x" * 10_000,
        public.key("admin", expired=True),
        public.key("admin", revoked=True),
    ):
        assert public.status("/admin", bad) == 401


def test_a_revoked_key_stops_working_at_once(public: Service) -> None:
    key = public.key("read")
    assert public.status("/read", key) == 200
    with Session(public.engine) as session:
        revoke_key(session, list_keys(session)[0].id)
        session.commit()
    assert public.status("/read", key) == 401


def test_another_scheme_than_bearer_is_unauthenticated(public: Service) -> None:
    assert public.client.get("/read", auth=("user", "password")).status_code == 401


def test_on_loopback_no_key_is_needed(loopback: Service) -> None:
    response = loopback.client.get("/whoami")
    assert response.json() == {"tenant": "default", "scopes": ["admin", "metrics", "read", "submit"]}


def test_on_loopback_a_key_still_counts(loopback: Service) -> None:
    key = loopback.key("read", tenant="other")
    response = loopback.client.get("/whoami", headers={"Authorization": f"Bearer {key}"})
    assert response.json() == {"tenant": "other", "scopes": ["read"]}


def test_on_loopback_a_bad_key_is_not_taken_for_none(loopback: Service) -> None:
    assert loopback.status("/read", generate_api_key()) == 401
    assert loopback.client.get("/read", headers={"Authorization": "Basic x"}).status_code == 401


def test_a_request_with_a_key_keeps_no_transaction_open(loopback: Service) -> None:
    key = loopback.key("read")

    @loopback.app.get("/write")
    def write(principal: Reader) -> None:
        with Session(loopback.engine) as other:  # would wait for SQLite's write lock until it timed out
            create_key(other, SECRET.encode(), "acme", "second", ["read"])
            other.commit()

    assert loopback.status("/write", key) == 200


def test_the_scheme_is_in_the_description_of_the_api(public: Service) -> None:
    schema = public.client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
    assert schema["paths"]["/read"]["get"]["security"] == [{"API key": []}]
