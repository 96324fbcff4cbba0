"""Output of a job's processes: the end of each attempt's output is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.models import JobLog

KEPT_BYTES = 64 * 2**10
"""Bytes kept of each attempt's output."""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")
_OVERWRITTEN = re.compile(r"^[^\n]*\r(?!\n)", re.MULTILINE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def keep_log(session: Session, job_id: str, attempt: int, output: bytes, written: int) -> None:
    """Store the end of an attempt's ``output``, of which there were ``written`` bytes in all. The caller commits, and
    holds the job."""
    kept = output[-KEPT_BYTES:]
    if attempt == 1:  # a retried job starts counting again
        session.execute(delete(JobLog).where(JobLog.job_id == job_id, JobLog.attempt > 1))
    session.merge(
        JobLog(
            job_id=job_id, attempt=attempt, text=readable(kept), omitted_bytes=written - len(kept), updated_at=utc_now()
        )
    )


def readable(output: bytes) -> str:
    """``output`` as text without escape sequences, control characters, and overwritten progress bars."""
    text = _ESCAPES.sub("", output.decode(errors="replace")).replace("\r\n", "\n")
    return _CONTROLS.sub("", _OVERWRITTEN.sub("", text))


def list_logs(session: Session, job_id: str) -> Sequence[JobLog]:
    """The logs of a job, by attempt."""
    return session.scalars(select(JobLog).where(JobLog.job_id == job_id).order_by(JobLog.attempt)).all()
