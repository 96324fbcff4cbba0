"""What went wrong, by the database and the store once all jobs have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets.models import Dataset
from app.jobs.models import Artifact, Job, JobEvent, StageResult
from app.store import ArtifactStore, LocalStore
from app.store.identity import MARKER
from app.store.s3 import S3Store
from bench.chaos.submitting import Submits


@dataclass(frozen=True)
class Interruption:
    """A kill of a worker or of a job's process, and the job that it hit."""

    kind: str
    at: datetime
    job_id: str


@dataclass
class Verdict:
    """Each entry of a list is one fault. ``seconds``: from a kill to the next start of the job that it hit."""

    lost: list[str] = field(default_factory=list)
    done_twice: list[str] = field(default_factory=list)
    wrongly_failed: list[str] = field(default_factory=list)
    without_row: list[str] = field(default_factory=list)
    without_file: list[str] = field(default_factory=list)
    attempts: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many there are."""
        return sum(map(len, (self.lost, self.done_twice, self.wrongly_failed, self.without_row, self.without_file)))


def judge(
    session: Session, store: ArtifactStore, submits: Submits, interruptions: Sequence[Interruption]
) -> Verdict:  # fmt: skip
    """Compare what was acknowledged, what the database says, and what lies in the store."""
    verdict = Verdict()
    jobs = {job.id: job for job in session.scalars(select(Job))}
    for key, job_id in submits.jobs.items():
        job = jobs.get(job_id)
        if job is None or job.status in ("queued", "running"):
            verdict.lost.append(f"{key}: {job_id} is {'gone' if job is None else job.status}")
        elif job.status != "succeeded":
            verdict.wrongly_failed.append(f"{key}: {job_id} {job.status}: {job.error}")
    made = Counter(job.idempotency_key for job in jobs.values())
    verdict.done_twice += [f"{key}: {count} jobs" for key, count in made.items() if count > 1]
    verdict.done_twice += [f"{job_id} was never acknowledged" for job_id in jobs.keys() - submits.jobs.values()]
    verdict.done_twice += _done_again(session)
    verdict.attempts = sum(job.attempt for job in jobs.values())
    stored, recorded = set(stored_keys(store)), recorded_keys(session)
    verdict.without_row, verdict.without_file = sorted(stored - recorded), sorted(recorded - stored)
    verdict.seconds = [seconds for one in interruptions if (seconds := _until_running(session, one)) is not None]
    return verdict


def _done_again(session: Session) -> list[str]:
    """Stages that were computed again after they counted, and jobs that succeeded more than once."""
    counted: Counter[tuple[str, str]] = Counter()
    query = select(JobEvent).where(JobEvent.type.in_(("stage_finished", "succeeded")))
    for event in session.scalars(query):
        if not event.data.get("resumed", False):
            counted[event.job_id, event.data.get("stage", "")] += 1
    return [f"{job_id}: {stage or 'success'} {count} times" for (job_id, stage), count in counted.items() if count > 1]


def _until_running(session: Session, hit: Interruption) -> float | None:
    """Seconds; ``None`` if the kill came when the job was about to end or was no longer there."""
    started = select(JobEvent.created_at).where(
        JobEvent.job_id == hit.job_id, JobEvent.type == "started", JobEvent.created_at > hit.at
    )
    first = session.scalars(started.order_by(JobEvent.id).limit(1)).one_or_none()
    return None if first is None else (first - hit.at).total_seconds()


def recorded_keys(session: Session) -> set[str]:
    """Keys that rows name."""
    keys = {*session.scalars(select(Artifact.key)), *session.scalars(select(Dataset.key))}
    for result in session.scalars(select(StageResult).where(StageResult.store_prefix != "")):
        keys.update(result.store_prefix + name for name in (*(file["path"] for file in result.files), "stage.json"))
    return keys


def stored_keys(store: ArtifactStore) -> list[str]:
    """Keys of all objects but the marker."""
    if isinstance(store, LocalStore):
        found = [path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()]
    else:
        assert isinstance(store, S3Store)
        pages = store._control.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=store.prefix)
        objects = [one["Key"] for page in pages for one in page.get("Contents", ())]
        found = [key.removeprefix(store.prefix) for key in objects]
    return [key for key in found if key != MARKER]
