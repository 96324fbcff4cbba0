"""The deadline of a job over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs import lease as leases
from app.jobs.models import Job
from app.settings import Settings
from tests.app.jobs.conftest import MakeJob


@pytest.fixture
def body(sources: Path) -> dict[str, Any]:
    return {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": "400kB", "sequence_length": 32,
    }  # fmt: skip


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"default_deadline": 7200, "max_deadline": 3600 * 10})


def test_a_job_has_the_deadline_it_asks_for_or_the_operators(client: TestClient, body: dict[str, Any]) -> None:
    plain = client.post("/jobs", json=body)
    assert (plain.status_code, plain.json()["deadline"], plain.json()["deadline_at"]) == (202, 7200, None), plain.text
    assert client.post("/jobs", json=body | {"deadline": "1h 30m"}).json()["deadline"] == 5400


def test_a_deadline_that_is_too_long_or_none_is_refused_by_submit_and_estimate(
    client: TestClient, body: dict[str, Any]
) -> None:
    for path in ("/jobs", "/jobs/estimate"):
        problem = client.post(path, json=body | {"deadline": "11h"}).json()
        assert (problem["status"], problem["code"], problem["field"]) == (422, "deadline_too_long", "deadline")
        assert "10 h" in problem["remedy"]
        problem = client.post(path, json=body | {"deadline": "soon"}).json()
        assert (problem["status"], problem["code"], problem["field"]) == (422, "invalid_config", "deadline")


def test_the_default_is_never_more_than_the_maximum(settings: Settings) -> None:
    from app.jobs.deadline import deadline_of

    assert deadline_of(None, settings.model_copy(update={"max_deadline": 60})) == 60


def test_the_same_request_with_and_without_a_deadline_are_two(client: TestClient, body: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "one"}
    assert client.post("/jobs", json=body, headers=headers).status_code == 202
    assert client.post("/jobs", json=body, headers=headers).status_code == 200
    assert client.post("/jobs", json=body | {"deadline": 60}, headers=headers).status_code == 409


def test_time_runs_from_the_first_start_and_begins_anew_with_a_retry(
    client: TestClient, sessions: sessionmaker[Session], make_job: MakeJob
) -> None:
    job_id = make_job(deadline=60)
    with sessions.begin() as session:
        lease = leases.claim(session, job_id, "worker", 30)
    assert lease is not None
    begun = client.get(f"/jobs/{job_id}").json()["deadline_at"]
    assert begun is not None
    with sessions.begin() as session:
        leases.release(session, lease)
    with sessions.begin() as session:
        again = leases.claim(session, job_id, "worker", 30)
    assert again is not None
    assert again.deadline_at == lease.deadline_at
    with sessions.begin() as session:
        session.get_one(Job, job_id).deadline_at = utc_now()
        leases.lose_attempt(session, session.get_one(Job, job_id), code="worker_lost", reason="Silent.")
    failed = client.get(f"/jobs/{job_id}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "deadline_exceeded")
    assert client.post(f"/jobs/{job_id}/retry").json()["deadline_at"] is None
