"""Expected waiting and running time of a job, from the queue, the running jobs and the times of others."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.models import Job
from app.jobs.queue import QueuePolicy, jobs_before
from app.settings import Settings
from qpruner_core.events import STAGES

_RECENT = 20
_MOST_STEPS = 1000
_LONGEST = timedelta(days=3650)


@dataclass(frozen=True)
class Outlook:
    """Prospects of an unfinished job: jobs ``ahead`` in the queue, and its expected start and end; ``None`` if unknown,
    or not applicable."""

    ahead: int | None
    expected_start: datetime | None
    expected_end: datetime | None


def outlook_of(session: Session, settings: Settings, job: Job) -> Outlook:
    """The outlook of a queued or running job.

    While jobs wait, every worker is assumed to be busy, so there are as many as running jobs. A running job ends when
    its machine expects it to; a waiting one takes as long as the last jobs of all tenants on average.
    """
    now = utc_now()
    if job.status == "running":
        left = _left_of(job.progress, job.expected_seconds)
        if left is None and (typical := _typical_seconds(session)) is not None:
            left = max(0.0, typical - _seconds_since(job.started_at, now))
        return Outlook(None, None, _after(now, left))
    ahead = jobs_before(session, job, QueuePolicy.of(settings))
    typical = _typical_seconds(session)
    begin = _seconds_until_taken(ahead, _workers(session, now, typical), typical)
    end = None if begin is None or typical is None else begin + typical
    return Outlook(ahead, _after(now, begin), _after(now, end))


def _workers(session: Session, now: datetime, typical: float | None) -> list[float | None]:
    """Seconds until the expected end of each running job."""
    columns = select(Job.progress, Job.expected_seconds, Job.started_at).where(Job.status == "running")
    left = []
    for progress, expected, started_at in session.execute(columns):
        seconds = _left_of(progress, expected)
        if seconds is None and typical is not None:
            seconds = max(0.0, typical - _seconds_since(started_at, now))
        left.append(seconds)
    return left


def _seconds_until_taken(ahead: int, workers: Sequence[float | None], typical: float | None) -> float | None:
    if not workers:  # no worker is busy, so the first is taken as soon as there is one
        return 0.0 if ahead == 0 else None if typical is None else ahead * typical
    known = [seconds for seconds in workers if seconds is not None]
    if len(known) < len(workers) or (ahead > 0 and typical is None):
        return None
    free = list(known)
    heapq.heapify(free)
    rounds, rest = divmod(ahead, len(free)) if ahead > _MOST_STEPS else (0, ahead)
    for _ in range(rest):
        heapq.heappush(free, heapq.heappop(free) + (typical or 0.0))
    return free[0] + rounds * (typical or 0.0)


def _left_of(progress: float, expected: dict[str, float] | None) -> float | None:
    """Expected seconds of the rest of the running stage and of all later ones; all stages are equal progress."""
    if not expected:
        return None
    done = progress * len(STAGES)
    stage = min(int(done), len(STAGES) - 1)
    rest = sum(expected.get(name, 0.0) for name in STAGES[stage + 1 :])
    return expected.get(STAGES[stage], 0.0) * (1 - min(1.0, done - stage)) + rest


def _typical_seconds(session: Session) -> float | None:
    """Average time of the last succeeded jobs."""
    last = select(Job.started_at, Job.finished_at).where(Job.status == "succeeded", Job.started_at.is_not(None))
    seconds = [
        _seconds_since(begin, end)
        for begin, end in session.execute(last.order_by(Job.finished_at.desc()).limit(_RECENT))
        if end is not None
    ]
    return sum(seconds) / len(seconds) if seconds else None


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else (now - moment).total_seconds()


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + min(timedelta(seconds=min(seconds, 1e9)), _LONGEST)
