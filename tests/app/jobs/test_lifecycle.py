"""Cancelling, retrying and deleting, in every state."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.jobs import lease
from app.jobs.models import Artifact, Dispatch, Job, JobEvent, JobStatus, StageResult
from app.main import create_app
from app.settings import Settings
from app.uploads.models import Upload
from tests.app.conftest import BASE_URL
from tests.app.jobs.conftest import MakeJob, held_for
from tests.server_processes import free_port


def event_types(client: TestClient, job_id: str) -> list[str]:
    return [event["type"] for event in client.get(f"/jobs/{job_id}/events").json()["events"]]


def finish_stage(sessions: sessionmaker[Session], job_id: str, stage: str) -> None:
    with sessions.begin() as session:
        session.add(StageResult(job_id=job_id, stage=stage, attempt=1, seconds=1.5,
                                store_prefix=f"jobs/{job_id}/stages/{stage}/",
                                files=[],
                                summary={}, finished_at=utc_now()))  # fmt: skip


def test_a_queued_job_is_cancelled_at_once_and_no_worker_is_woken_for_it(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    answer = client.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["finished_at"].endswith("Z")
    assert event_types(client, job_id) == ["queued", "cancelled"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Dispatch)) == 0
        assert lease.claim(session, job_id, "late@worker", 30) is None


def test_a_held_job_is_asked_once_to_stop_and_its_holder_ends_it(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    with sessions.begin() as session:
        held = lease.claim(session, job_id, "worker@host", 30)
    assert held is not None
    for _ in range(2):
        answer = client.post(f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.json()["cancel_requested"] is True
    with sessions.begin() as session:
        assert lease.renew(session, held).cancel_requested
        lease.cancel(session, held)
    assert event_types(client, job_id) == ["queued", "started", "cancel_requested", "cancelled"]
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 200


def test_a_job_whose_worker_fell_silent_is_cancelled_at_once_and_the_worker_has_lost_it(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    job_id = make_job("queued")
    with sessions.begin() as session:
        held = lease.claim(session, job_id, "worker@host", -1)
    assert held is not None
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 200
    with sessions.begin() as session, pytest.raises(lease.LeaseLost):
        lease.hold(session, held)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_job_that_has_ended_cannot_be_cancelled(client: TestClient, make_job: MakeJob, status: JobStatus) -> None:
    answer = client.post(f"/jobs/{make_job(status)}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_retried_job_is_queued_with_all_attempts_and_keeps_its_finished_stages(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session], status: JobStatus
) -> None:
    error = {"code": "disk_full", "message": "Full.", "field": None, "remedy": "Make room.", "user": False}
    job_id = make_job(status, attempt=3, stage="score", error=error, cancel_requested_at=utc_now())
    finish_stage(sessions, job_id, "prune")
    answer = client.post(f"/jobs/{job_id}/retry")
    assert answer.status_code == 202
    job = answer.json()
    assert (job["status"], job["attempt"], job["error"], job["finished_at"]) == ("queued", 0, None, None)
    assert job["cancel_requested"] is False
    assert [stage["status"] for stage in job["stages"]][:2] == ["finished", "pending"]
    assert event_types(client, job_id)[-1] == "retried"
    with sessions.begin() as session:
        owed = session.get(Dispatch, job_id)
        assert owed is not None
        assert owed.due_at <= utc_now()
        claimed = lease.claim(session, job_id, "worker@host", 30)
        assert claimed is not None
        assert claimed.attempt == 1


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_only_failed_and_cancelled_jobs_are_retried(client: TestClient, make_job: MakeJob, status: JobStatus) -> None:
    answer = client.post(f"/jobs/{make_job(status)}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_retryable")


def test_a_retry_counts_against_the_queue(client: TestClient, make_job: MakeJob) -> None:
    failed = make_job("failed")
    for _ in range(5):
        make_job("queued")
    answer = client.post(f"/jobs/{failed}/retry")
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0


def test_a_retry_of_a_tenant_whose_storage_is_full_is_refused_as_a_submit_is(
    client: TestClient, application: FastAPI, make_job: MakeJob
) -> None:
    client.post("/datasets", files={"file": ("a.txt", b"Words of text. " * 20)})
    application.state.settings.max_storage_bytes = 100
    failed = make_job("failed")
    answer = client.post(f"/jobs/{failed}/retry")
    assert (answer.status_code, answer.json()["code"]) == (403, "storage_full")
    assert client.get(f"/jobs/{failed}").json()["status"] == "failed"


@pytest.mark.parametrize("field", ["model", "dataset"])
def test_a_retry_without_its_upload_is_refused_and_with_it_holds_it(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session], field: str
) -> None:
    gone = make_job("failed", **{field: new_id("md" if field == "model" else "ds")})
    answer = client.post(f"/jobs/{gone}/retry")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, f"{field}_not_found", field)
    assert client.get(f"/jobs/{gone}").json()["status"] == "failed"
    assert event_types(client, gone) == ["queued"]
    with sessions() as session:
        assert session.get(Dispatch, gone) is None
    if field == "dataset":
        upload = client.post("/datasets", files={"file": ("a.txt", b"Words of text. " * 20)}).json()["id"]
    else:
        upload, now = new_id("md"), utc_now()
        row = Upload(
            id=upload, tenant="default", name="m", status="ready", bytes=1, part_bytes=1, created_at=now, used_at=now
        )
        with sessions.begin() as session:
            session.add(row)
    there = make_job("failed", **{field: upload})
    assert client.post(f"/jobs/{there}/retry").status_code == 202
    assert client.delete(f"/{field}s/{upload}").json()["code"] == f"{field}_in_use"


@pytest.mark.parametrize("status", ["queued", "running"])
def test_an_unfinished_job_is_not_deleted(client: TestClient, make_job: MakeJob, status: JobStatus) -> None:
    job_id = make_job(status, **(held_for(30) if status == "running" else {}))
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_finished")
    assert client.get(f"/jobs/{job_id}").status_code == 200


def test_a_deleted_job_leaves_no_row_and_no_file_and_another_keeps_its_own(
    client: TestClient, application: FastAPI, make_job: MakeJob, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    job_id, other = make_job("succeeded"), make_job("succeeded")
    file = tmp_path / "report.json"
    file.write_text("{}")
    for name in (job_id, other):
        finish_stage(sessions, name, "prune")
        application.state.store.put_file(f"jobs/{name}/artifacts/report.json", file)
        with sessions.begin() as session:
            session.add(Artifact(job_id=name, name="report.json", key=f"jobs/{name}/artifacts/report.json", bytes=2,
                                 sha256="0" * 64, format="json", created_at=utc_now()))  # fmt: skip
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert client.get(f"/jobs/{job_id}").status_code == 404
    with sessions() as session:
        for table in (Job, StageResult, JobEvent, Artifact):
            column = Job.id if table is Job else table.job_id  # type: ignore[attr-defined]
            assert session.scalars(select(column).distinct()).all() == [other]
    with pytest.raises(FileNotFoundError):
        application.state.store.get_file(f"jobs/{job_id}/artifacts/report.json", tmp_path / "gone")
    application.state.store.get_file(f"jobs/{other}/artifacts/report.json", tmp_path / "kept")


def test_a_store_that_is_away_is_503_and_deletes_nothing(settings: Settings, make_job: MakeJob) -> None:
    job_id = make_job("succeeded")
    away = settings.model_copy(
        update={"store_url": "s3://bucket/prefix", "s3_endpoint_url": f"http://127.0.0.1:{free_port()}"}
    )
    client = TestClient(create_app(away), base_url=BASE_URL)
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(f"/jobs/{job_id}").status_code == 200
