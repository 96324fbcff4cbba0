"""On SQLite one connection writes at a time; no GET waits until it has finished."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.routing import BaseRoute

from app.database import utc_now
from app.ids import new_id
from app.jobs.logs import keep_log
from app.keys.service import DEFAULT_TENANT, create_key
from app.secrets import load_signing_key
from app.settings import Settings
from app.uploads.models import Upload, UploadFile
from tests.app.live_service import Service, run_service
from tests.app.seeded_jobs import add_finished_job

PATIENCE_SECONDS = 10.0
"""Less than the 30 seconds for which SQLite waits for a lock, and more than a busy machine needs."""
QUERIES = {"/jobs/{job_id}/allocation": "?memory_budget=130MB"}
"""Required parameters of queries."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    data, cache = tmp_path / "data", tmp_path / "cache"
    yield from run_service(Settings(data_dir=data, cache_dir=cache, allow_hub=False, metrics_access="open"))


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    state = service.app.state
    with state.session_factory.begin() as session:
        _, key = create_key(session, load_signing_key(state.settings), DEFAULT_TENANT, "test", ("admin",))
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=PATIENCE_SECONDS) as made:
        yield made


@contextmanager
def another_writes(app: FastAPI) -> Iterator[None]:
    """Another process has begun to write and does not end."""
    writer = sqlite3.connect(app.state.engine.url.database, isolation_level=None, timeout=30)
    try:
        writer.execute("BEGIN IMMEDIATE")
        yield
        writer.execute("ROLLBACK")
    finally:
        writer.close()


def test_no_get_waits_for_a_writer(service: Service, client: httpx.Client) -> None:
    values = seed(service.app, client)
    paths = list(get_paths(service.app.routes))
    described = {path for path, methods in service.app.openapi()["paths"].items() if "get" in methods}
    assert described <= set(paths)  # or the walk overlooks routes
    for path in ("/openapi.json", "/readyz"):  # which takes long the first time
        client.get(path)
    time.sleep(2.1)  # until that readiness is out of date
    with another_writes(service.app):
        seen = {path: outcome(client, path.format_map(values) + QUERIES.get(path, "")) for path in paths}
        readiness = client.get("/readyz").json()
    unusual = {path: seen[path] for path in seen if seen[path] not in (200, 307)}
    assert unusual == {
        "/readyz": 503,  # no worker runs
        "/jobs/{job_id}/allocation": 409,  # the job's search is made up
        "/store/{key}": 403,  # it is not signed
        "/page/{name}": 404,  # it is a job's file
    }
    assert readiness["parts"]["database"]["ready"]
    wait_for_audit_of_secret(client)


def wait_for_audit_of_secret(client: httpx.Client) -> None:
    """That a secret was read is written once the other writer has ended."""
    ends = time.monotonic() + 30
    while "webhook.secret" not in [one["action"] for one in client.get("/audit").json()["entries"]]:
        assert time.monotonic() < ends, "not in the audit"
        time.sleep(0.1)


def get_paths(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """The path of every route with a GET."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from get_paths(included.routes)
        elif "GET" in (getattr(route, "methods", None) or ()):
            yield route.path_format  # type: ignore[attr-defined]


def outcome(client: httpx.Client, path: str) -> int | str:
    """The status of the response, or the name of what kept it away."""
    try:
        return client.get(path).status_code
    except httpx.HTTPError as error:
        return type(error).__name__


def seed(app: FastAPI, client: httpx.Client) -> dict[str, str]:
    """One of everything that a GET reads, and the values of the paths' parameters."""
    with app.state.session_factory.begin() as session:
        job = add_finished_job(session, app.state.store, b"weights", "0" * 64)
        keep_log(session, job.id, 1, b"a line\n", 7)
        model_id, dataset_id = add_upload(session, "md", "m.gguf"), add_upload(session, "ds", "text.txt")
    webhook_id = client.post("/webhooks", json={"url": "https://tool.example/"}).json()["id"]
    assert client.post(f"/webhooks/{webhook_id}/test").status_code == 202
    return {
        "job_id": job.id, "model_id": model_id, "dataset_id": dataset_id, "webhook_id": webhook_id, "key": "a",
        "name": "mixed.tar",
    }  # fmt: skip


def add_upload(session: Session, prefix: str, name: str) -> str:
    """An upload without any of its parts."""
    upload_id, now = new_id(prefix), utc_now()
    session.add(
        Upload(
            id=upload_id, tenant=DEFAULT_TENANT, name=name, status="uploading", bytes=10, part_bytes=5 * 2**20,
            created_at=now, used_at=now,
        )
    )  # fmt: skip
    session.flush()
    session.add(
        UploadFile(
            upload_id=upload_id, position=0, name=name, key=f"uploads/{upload_id}/{name}", bytes=10, sha256="0" * 64,
            token="",
        )
    )  # fmt: skip
    return upload_id
