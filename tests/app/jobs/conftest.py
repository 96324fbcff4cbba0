"""Jobs in any state, as workers would have left them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.jobs.history import append_event
from app.jobs.models import Dispatch, Job, JobStatus
from qpruner_core.config import CompressionConfig


class MakeJob(Protocol):
    """Writes a job and its first event; gives its id."""

    def __call__(self, status: JobStatus = "queued", *, tenant: str = "default", **columns: Any) -> str:
        """``columns`` override those of the row."""


@pytest.fixture
def make_job(sessions: sessionmaker[Session]) -> MakeJob:
    """A function that writes a job."""

    def make(status: JobStatus = "queued", *, tenant: str = "default", **columns: Any) -> str:
        config = CompressionConfig(model="/models/tiny", dataset="/data/text.txt", memory_budget=1_000_000)
        row: dict[str, Any] = {
            "id": new_id("job"), "tenant": tenant, "status": status, "model": config.model, "dataset": config.dataset,
            "memory_budget": config.memory_budget, "labels": {}, "config": config.model_dump(mode="json"),
            "request_sha256": config.digest(), "max_attempts": 3, "created_at": utc_now(),
        } | columns  # fmt: skip
        if status in ("succeeded", "failed", "cancelled"):
            row.setdefault("finished_at", utc_now())
        with sessions.begin() as session:
            session.add(Job(**row))
            session.flush()
            append_event(session, row["id"], "queued")
            if status == "queued":
                session.add(Dispatch(job_id=row["id"], due_at=utc_now(), sends=0))
        return str(row["id"])

    return make


def held_for(seconds: float) -> dict[str, str | datetime]:
    """Columns of a job that a worker holds for ``seconds`` more."""
    return {
        "lease_owner": "worker@host",
        "lease_token": "t" * 32,
        "lease_expires_at": utc_now() + timedelta(seconds=seconds),
    }
