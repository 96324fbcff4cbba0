"""Checks of uploads take turns between tenants."""

from __future__ import annotations

from datetime import timedelta

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.uploads import service as uploads
from app.uploads.models import Upload
from tests.uploading import checks_of
from worker.upload_checks import UploadChecks


def add(sessions: sessionmaker[Session], *tenants: str) -> list[str]:
    """Completed uploads of these tenants, in that order."""
    now, made = utc_now(), []
    with sessions.begin() as session:
        for index, tenant in enumerate(tenants):
            moment = now + timedelta(milliseconds=index)
            row = Upload(
                id=new_id("md"), tenant=tenant, name="x", status="checking", bytes=1, part_bytes=1, attempts=0,
                created_at=moment, used_at=moment,
            )  # fmt: skip
            session.add(row)
            made.append(row.id)
    return made


def claimed(checks: UploadChecks) -> Upload:
    """The upload that this worker begins to check; it holds it."""
    found = checks._claim()
    assert found is not None
    return found[0]


def checked(checks: UploadChecks, sessions: sessionmaker[Session]) -> str:
    """The tenant whose upload this worker has checked, and lets go."""
    upload = claimed(checks)
    with sessions.begin() as session:
        row = session.get(Upload, upload.id)
        assert row is not None
        session.delete(row)
    return upload.tenant


def test_many_uploads_of_a_tenant_do_not_hold_up_another_s(
    checks: UploadChecks, sessions: sessionmaker[Session]
) -> None:
    add(sessions, *["flood"] * 20)
    assert [checked(checks, sessions) for _ in range(5)] == ["flood"] * 5
    add(sessions, "other", "third", "other")
    turns = [checked(checks, sessions) for _ in range(6)]
    assert set(turns[:2]) == {"other", "third"}
    assert turns[2:4] == ["flood", "other"]
    assert turns[4:] == ["flood", "flood"]


def test_the_checks_in_progress_of_all_workers_count(
    application: FastAPI, checks: UploadChecks, sessions: sessionmaker[Session]
) -> None:
    add(sessions, *["flood"] * 5)
    others = [checks_of(application, application.state.settings) for _ in range(2)]
    assert [claimed(one).tenant for one in (checks, others[0])] == ["flood", "flood"]
    add(sessions, "other", "other")
    assert [claimed(others[1]).tenant for _ in range(3)] == ["other", "other", "flood"]


def test_uploads_of_a_tenant_are_checked_in_the_order_of_their_completion(
    application: FastAPI, checks: UploadChecks, sessions: sessionmaker[Session]
) -> None:
    first, second, third = add(sessions, "us", "us", "us")
    with sessions.begin() as session:
        for row in session.scalars(select(Upload)):
            row.status = "uploading"
    for upload_id in (third, first, second):
        with sessions() as session:
            uploads.complete(session, application.state.store, "us", upload_id, uploads.MODEL)
    assert [claimed(checks).id for _ in range(3)] == [third, first, second]
