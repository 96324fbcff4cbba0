"""Of queuing a job with an upload and deleting that upload at the same time, the later one is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.service import delete_dataset
from app.jobs import service
from app.jobs.models import Job
from app.jobs.schemas import JobRequest
from app.keys.principal import Principal
from app.keys.scopes import SCOPES
from app.settings import Settings
from app.storage.obsolete import deleting
from qpruner_core.report import Estimate


@pytest.fixture
def body(client: TestClient, sources: Path) -> dict[str, Any]:
    """A request whose dataset was uploaded."""
    with (sources / "text.txt").open("rb") as file:
        upload = client.post("/datasets", files={"file": ("text.txt", file, "text/plain")}).json()
    return {
        "model": str(sources / "model"), "dataset": upload["id"],
        "target": "bitsandbytes", "memory_budget": "400kB", "sequence_length": 64,
    }  # fmt: skip


class Later:
    """A request in a thread of its own, which somebody else's transaction keeps waiting."""

    def __init__(self, client: TestClient, method: str, path: str, **options: Any) -> None:
        self._answers: list[httpx.Response] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(client.request(method, path, **options)), daemon=True
        )
        self._thread.start()

    def waits(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return self._thread.is_alive()

    def answer(self) -> httpx.Response:
        self._thread.join(30)
        return self._answers[0]


def count_jobs(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_dataset_is_kept_that_a_job_is_being_queued_with(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session], settings: Settings
) -> None:
    with sessions() as session:
        us = Principal("default", frozenset(SCOPES), None)
        service.submit_job(session, settings, us, JobRequest.model_validate(body), 300_000, None)
        deleting = Later(client, "DELETE", f"/datasets/{body['dataset']}")
        assert deleting.waits(0.5)
        session.commit()
    answer = deleting.answer()
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")


def test_no_job_is_queued_with_a_dataset_that_is_being_deleted(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session], application: FastAPI
) -> None:
    client.post("/jobs/estimate", json=body)  # so that torch is there, and the request gets as far as it can
    with deleting(sessions, application.state.store) as session:
        delete_dataset(session, "default", body["dataset"])
        session.flush()
        submitting = Later(client, "POST", "/jobs", json=body)
        assert submitting.waits(1.0)
    answer = submitting.answer()
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_not_found")
    assert count_jobs(sessions) == 0


def test_no_job_is_queued_with_a_dataset_that_was_deleted_while_its_model_was_looked_at(
    client: TestClient, body: dict[str, Any], sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = service.check_job

    def look_slowly(*given: Any, **options: Any) -> Estimate:
        seen = look(*given, **options)
        assert client.delete(f"/datasets/{body['dataset']}").status_code == 204
        return seen

    monkeypatch.setattr(service, "check_job", look_slowly)
    answer = client.post("/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_not_found")
    assert count_jobs(sessions) == 0
