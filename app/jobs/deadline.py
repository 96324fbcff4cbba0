"""Time limit of a job: from its first start to its end, including waits between attempts.

The time in the queue before the first start does not count. A retry restarts the limit.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select

from app.database import utc_now
from app.durations import format_duration
from app.jobs.models import Job
from app.settings import Settings
from qpruner_core.errors import UserError


class DeadlineTooLongError(UserError):
    """The deadline exceeds the operator's maximum."""

    code = "deadline_too_long"


def deadline_of(asked: int | None, settings: Settings) -> int:
    """Seconds of a job that requests ``asked``, or none.

    Raises:
        DeadlineTooLongError: it exceeds the operator's maximum.
    """
    if asked is None:
        return min(settings.default_deadline, settings.max_deadline)
    if asked > settings.max_deadline:
        raise DeadlineTooLongError(
            f"A deadline of {format_duration(asked)} exceeds the limit of this service.",
            field="deadline", remedy=f"Give at most {format_duration(settings.max_deadline)}.",
        )  # fmt: skip
    return asked


def begin(job: Job, now: datetime) -> None:
    """Start the time limit of ``job``, if it has not started."""
    if job.deadline is not None and job.deadline_at is None:
        job.deadline_at = now + timedelta(seconds=job.deadline)


def is_over(job: Job) -> bool:
    """Whether the time limit of ``job`` is over."""
    return job.deadline_at is not None and job.deadline_at <= utc_now()


def waiting_too_long() -> Select[Job]:
    """Jobs without a worker whose time limit is over."""
    return select(Job).where(Job.status == "queued", Job.deadline_at <= utc_now())


def exceeded(job: Job) -> dict[str, Any]:
    """The error of a job whose time limit is over."""
    return {
        "code": "deadline_exceeded",
        "message": f"The job did not end within its deadline of {format_duration(job.deadline or 0)}.",
        "field": "deadline",
        "remedy": (
            "Retry it: it resumes after its last finished stage with a fresh time limit. Or submit it with a "
            "longer deadline."
        ),
        "user": False,
    }
