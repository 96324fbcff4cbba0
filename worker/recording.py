"""Events of a child, as rows of the database."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.history import append_event
from app.jobs.lease import Lease, hold
from app.jobs.models import Job, JobMetric, JobTrial, StageResult
from app.jobs.speeds import remember_speed
from qpruner_core.events import (
    STAGES,
    Event,
    MachineSpeedKnown,
    MetricRecorded,
    RunWarning,
    StageFinished,
    StageName,
    StageProgress,
    StageStarted,
    TimesExpected,
    TrialRecorded,
)  # fmt: skip
from worker.store_keys import stage_prefix


class ProgressThrottle:
    """Passes one progress report per second, and the last of every stage."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._last = float("-inf")

    def admits(self, event: Event) -> bool:
        """Whether ``event`` is recorded."""
        if not isinstance(event, StageProgress) or event.fraction == 1:
            return True
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def record_events(session: Session, lease: Lease, events: list[Event]) -> None:
    """Write ``events`` as the holder of ``lease``. Writing the same ones again, in a later attempt, changes no figure.

    Raises:
        LeaseLost: nothing was written.
    """
    job = hold(session, lease)
    for event in events:
        _record(session, lease, job, event)


def overall_progress(stage: StageName, fraction: float) -> float:
    """Finished share of the whole job at ``fraction`` of ``stage``; all stages count equally."""
    return (STAGES.index(stage) + fraction) / len(STAGES)


def _record(session: Session, lease: Lease, job: Job, event: Event) -> None:
    match event:
        case TimesExpected():
            job.expected_seconds = {str(stage): seconds for stage, seconds in event.seconds.items()}
        case MachineSpeedKnown():
            remember_speed(session, event.record)
        case StageStarted():
            job.stage, job.progress = event.stage, overall_progress(event.stage, 0.0)
            told = event.model_dump(exclude={"type"}) | {"attempt": job.attempt}
            append_event(session, job.id, "stage_started", told)
        case StageProgress():
            job.stage, job.progress = event.stage, overall_progress(event.stage, event.fraction)
            append_event(session, job.id, "stage_progress", event.model_dump(exclude={"type"}))
        case StageFinished():
            job.stage, job.progress = event.stage, overall_progress(event.stage, 1.0)
            _record_stage(session, lease, job, event)
        case TrialRecorded():
            session.merge(JobTrial(job_id=job.id, **event.model_dump(exclude={"type"})))
        case MetricRecorded():
            session.merge(JobMetric(job_id=job.id, **event.model_dump(exclude={"type"})))
        case RunWarning():
            append_event(session, job.id, "warning", event.model_dump(exclude={"type"}))


def _record_stage(session: Session, lease: Lease, job: Job, event: StageFinished) -> None:
    known = session.get(StageResult, (job.id, event.stage))
    told = event.model_dump(include={"stage", "seconds", "summary", "resumed"})
    if known is None or not event.resumed:
        session.merge(
            StageResult(
                job_id=job.id, stage=event.stage, attempt=job.attempt, seconds=event.seconds, key=event.key,
                reused_from=None, store_prefix=stage_prefix(lease, event.stage),
                files=[file.model_dump() for file in event.files], summary=event.summary, finished_at=utc_now(),
            )
        )  # fmt: skip
    elif known.reused_from is not None:
        told["reused_from"] = known.reused_from
    append_event(session, job.id, "stage_finished", told)
