"""How long a job may take: from its first start to its end, waits between attempts included.

The time in the queue before the first start does not count, and a retry begins it anew.
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
    """The deadline is later than the operator allows."""

    code = "deadline_too_long"


def deadline_of(asked: int | None, settings: Settings) -> int:
    """Seconds that a job gets that has ``asked`` for so many, or for none.

    Raises:
        DeadlineTooLongError: it is more than the operator allows.
    """
    if asked is None:
        return min(settings.default_deadline, settings.max_deadline)
    if asked > settings.max_deadline:
        raise DeadlineTooLongError(
            f"A deadline of {format_duration(asked)} is more than this service allows.",
            field="deadline", remedy=f"Give at most {format_duration(settings.max_deadline)}.",
        )  # fmt: skip
    return asked


def begin(job: Job, now: datetime) -> None:
    """Let the time of ``job`` run, if it does not yet."""
    if job.deadline is not None and job.deadline_at is None:
        job.deadline_at = now + timedelta(seconds=job.deadline)


def is_over(job: Job) -> bool:
    """Whether the time of ``job`` is over."""
    return job.deadline_at is not None and job.deadline_at <= utc_now()


def waiting_too_long() -> Select[Job]:
    """Jobs that no worker holds and whose time is over."""
    return select(Job).where(Job.status == "queued", Job.deadline_at <= utc_now())


def exceeded(job: Job) -> dict[str, Any]:
    """The error of a job whose time is over."""
    return {
        "code": "deadline_exceeded",
        "message": f"The job did not end within its deadline of {format_duration(job.deadline or 0)}.",
        "field": "deadline",
        "remedy": "Retry it: it goes on from its last finished stage and has the same time again. Or submit it with a "
        "later deadline.",
        "user": False,
    }
