"""The client against a real service on a free port."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import Settings
from qpruner_client import Client, Retries
from tests.app import seeded_jobs
from tests.app.live_service import Service, run_service
from tests.uploading import inspect_each_content_once

QUICK = Retries(first_delay=0.02, longest_delay=0.1, patience=20.0)
CONTENT = os.urandom(900_001)


class Refusals:
    """In front of the service, as a proxy would be: answers the next requests itself, and counts all."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.next: list[tuple[int, dict[str, str]]] = []
        self.after_the_fact = False
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def around(self, app: ASGIApp) -> ASGIApp:
        """Stand in front of ``app``."""
        self.app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        self.seen.append((request.method, request.url.path, dict(request.headers)))
        if not self.next:
            await self.app(scope, receive, send)
            return
        status, headers = self.next.pop(0)
        if self.after_the_fact:  # the service does it, but its response is lost
            await self.app(scope, receive, _nowhere)
        problem = {
            "type": "urn:qpruner:problem:busy", "title": "Busy", "status": status, "detail": "Too many others.",
            "code": "busy", "instance": "/", "request_id": "req_1",
        }  # fmt: skip
        await JSONResponse(problem, status, headers)(scope, receive, send)


async def _nowhere(message: object) -> None:
    pass


@pytest.fixture(autouse=True)
def each_content_inspected_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """See :func:`tests.uploading.inspect_each_content_once`."""
    inspect_each_content_once(monkeypatch, tmp_path_factory)


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def service(tmp_path: Path, sources: Path, refusals: Refusals) -> Iterator[Service]:
    settings = Settings(
        data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", poll_seconds=0.05, allow_hub=False,
        allowed_roots=(sources,), _env_file=None,
    )  # fmt: skip
    yield from run_service(settings, refusals.around)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, retries=QUICK) as client:
        yield client


@pytest.fixture
def finished_job(service: Service, tmp_path: Path) -> Callable[..., str]:
    """A function that writes a job that has succeeded and left ``mixed.tar``; gives its id."""

    def make(content: bytes = CONTENT, sha256: str | None = None) -> str:
        path = tmp_path / "stored.tar"
        path.write_bytes(content)
        digest = sha256 or hashlib.sha256(content).hexdigest()
        with service.app.state.session_factory.begin() as session:
            job_id = seeded_jobs.add_finished_job(session, service.app.state.store, content, digest).id
        service.app.state.store.put_file(f"jobs/{job_id}/artifacts/mixed.tar", path)
        return job_id

    return make
