"""The whole application on a real database and a local store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from app.broker import Broker
from app.keys.service import create_key
from app.main import create_app
from app.secrets import load_signing_key
from app.settings import Settings
from tests.valkey import Valkey, run_valkey

BASE_URL = "http://127.0.0.1"


@pytest.fixture
def settings(database_url: str, tmp_path: Path, sources: Path) -> Settings:
    """Settings of a service of the test's own; no broker listens where they say."""
    return Settings(
        data_dir=tmp_path / "data",
        cache_dir=tmp_path / "cache",
        database_url=database_url,
        signing_key=SecretStr("a secret for tests, long enough to be one"),
        allowed_roots=(sources,),
        allow_hub=False,
        poll_seconds=0.05,
        max_queued_jobs=5,
    )


@pytest.fixture
def application(settings: Settings) -> Iterator[FastAPI]:
    """The application; its dispatcher does not run."""
    app = create_app(settings)
    app.state.store.check()  # as at a start: database and store know each other before any row names a file
    yield app
    app.state.broker.close()
    app.state.engine.dispose()


@pytest.fixture
def client(application: FastAPI) -> TestClient:
    """A client of the application that follows no redirects."""
    return TestClient(application, base_url=BASE_URL, follow_redirects=False)


@pytest.fixture
def sessions(application: FastAPI) -> sessionmaker[Session]:
    """Sessions on the application's database."""
    factory: sessionmaker[Session] = application.state.session_factory
    return factory


@pytest.fixture
def authorize(settings: Settings, sessions: sessionmaker[Session]) -> Callable[..., dict[str, str]]:
    """A function from a tenant and scopes to the headers of a fresh key."""

    def headers(tenant: str, *scopes: str) -> dict[str, str]:
        with sessions.begin() as session:
            _, key = create_key(session, load_signing_key(settings), tenant, "test", scopes)
        return {"Authorization": f"Bearer {key}"}

    return headers


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service's data, by its setting, for commands that run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QPRUNER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A running Valkey."""
    with run_valkey() as server:
        yield server


@pytest.fixture
def broker(valkey: Valkey) -> Iterator[Broker]:
    """A broker on it."""
    made = Broker(valkey.url)
    yield made
    made.close()
