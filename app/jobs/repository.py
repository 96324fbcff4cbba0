"""Every query about jobs that the API makes. Nothing here commits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Select, Table, Text, and_, bindparam, delete, func, insert, or_, select, text
from sqlalchemy.orm import Session, defer

from app.database import utc_now
from app.datasets.models import Dataset
from app.jobs.history import notify
from app.jobs.known_uploads import UploadedDataset
from app.jobs.models import (
    Artifact,
    Dispatch,
    Job,
    JobEvent,
    JobMetric,
    JobStatus,
    JobTrial,
    StageResult,
)
from app.webhooks.outbox import FOR_ALL_JOBS

LABEL_KEY = r"[A-Za-z0-9._-]{1,63}"
OWES_WAKE_UP = "owes_wake_up"
"""In the ``info`` of a session: what it commits owes the workers a wake-up."""


@dataclass(frozen=True)
class JobFilter:
    """Filter of a list of jobs; empty fields match all. Each of ``words`` is in the id, the model, the dataset or a
    label."""

    statuses: tuple[JobStatus, ...] = ()
    model: str | None = None
    words: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None


def get_job(session: Session, tenant: str, job_id: str, *, lock: bool = False) -> Job | None:
    """The tenant's job, fresh from the database; with ``lock`` it cannot change until the transaction ends."""
    query = select(Job).where(Job.id == job_id, Job.tenant == tenant).execution_options(populate_existing=True)
    return session.scalar(query.with_for_update() if lock else query)


def find_by_idempotency_key(session: Session, tenant: str, key: str) -> Job | None:
    """The job that the tenant has submitted with ``key``."""
    return session.scalar(select(Job).where(Job.tenant == tenant, Job.idempotency_key == key))


def lock_queue(session: Session, tenant: str) -> None:
    """Let one transaction at a time count and add jobs of ``tenant``; on SQLite every transaction is exclusive."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:tenant))"), {"tenant": f"queue:{tenant}"})


# Statements of every submit are built once, and executed by the connection: SQLAlchemy takes longer to build one, and
# its session to pass it on, than a database to execute it. None depends on what the session has not flushed.
_UPLOAD = select(Dataset.filename, Dataset.bytes, Dataset.sha256).where(
    Dataset.id == bindparam("dataset_id"), Dataset.tenant == bindparam("tenant")
)
_UNFINISHED = select(func.count()).where(
    Job.tenant == bindparam("tenant"), or_(Job.status == "queued", Job.status == "running")
)  # fmt: skip
_BEFORE_SUBMIT = select(
    _UPLOAD.with_only_columns(Dataset.id).with_for_update(read=True).scalar_subquery().label("dataset_id"),
    _UNFINISHED.scalar_subquery().label("unfinished"),
    FOR_ALL_JOBS.label("has_webhooks"),
)
_ADD_JOB, _ADD_WAKE_UP, _ADD_EVENT = (
    insert(cast(Table, one.__table__)).inline()
    for one in (Job, Dispatch, JobEvent)  # fetches no ids
)


class BeforeSubmit(NamedTuple):
    """State that a submit depends on: its dataset, if that is an upload, the tenant's unfinished jobs, and whether the
    tenant has webhooks for all jobs."""

    dataset_id: str | None
    unfinished: int
    has_webhooks: bool


def before_submit(session: Session, tenant: str, dataset: str) -> BeforeSubmit:
    """The state before a submit of ``tenant`` with ``dataset``; an upload cannot be deleted in the transaction."""
    row = session.connection().execute(_BEFORE_SUBMIT, {"dataset_id": dataset, "tenant": tenant}).one()
    return BeforeSubmit(*row)


def find_upload(session: Session, tenant: str, dataset_id: str) -> UploadedDataset | None:
    """The tenant's upload."""
    row = session.connection().execute(_UPLOAD, {"dataset_id": dataset_id, "tenant": tenant}).one_or_none()
    return None if row is None else UploadedDataset(*row)


def count_unfinished(session: Session, tenant: str) -> int:
    """Number of the tenant's queued and running jobs."""
    return session.scalar(_UNFINISHED, {"tenant": tenant}) or 0


def add_job(session: Session, columns: dict[str, Any]) -> Job:
    """Write a new job with its first event and its wake-up at once; returns the job, which stays transient."""
    job_id, now, connection = columns["id"], columns["created_at"], session.connection()
    connection.execute(_ADD_JOB, columns)
    connection.execute(_ADD_WAKE_UP, {"job_id": job_id, "due_at": now, "sent_at": None, "sends": 0})
    session.info[OWES_WAKE_UP] = True
    # Nobody else knows the job yet, so its row need not be locked for the event
    connection.execute(_ADD_EVENT, {"job_id": job_id, "type": "queued", "data": {}, "created_at": now})
    return Job(**columns)


def owe_wake_up(session: Session, job_id: str) -> None:
    """Write a wake-up for ``job_id`` to the outbox."""
    session.merge(Dispatch(job_id=job_id, due_at=utc_now(), sent_at=None, sends=0))
    session.info[OWES_WAKE_UP] = True


def drop_wake_up(session: Session, job_id: str) -> None:
    """Remove the wake-up for ``job_id``."""
    session.execute(delete(Dispatch).where(Dispatch.job_id == job_id))


def list_jobs(
    session: Session, tenant: str, wanted: JobFilter, *, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Job]:
    """At most ``limit`` of the tenant's jobs, newest first, all older than ``before`` (created_at, id).

    Without ``config`` and ``result``.
    """
    without = defer(Job.config, raiseload=True), defer(Job.result, raiseload=True)  # most of a row's bytes
    query = _filtered(select(Job).options(*without).where(Job.tenant == tenant), wanted)
    if before is not None:
        created_at, job_id = before
        query = query.where(or_(Job.created_at < created_at, and_(Job.created_at == created_at, Job.id < job_id)))
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()


def _filtered(query: Select[Job], wanted: JobFilter) -> Select[Job]:
    if wanted.statuses:
        query = query.where(Job.status.in_(wanted.statuses))
    if wanted.model is not None:
        query = query.where(Job.model == wanted.model)
    for word in wanted.words:
        query = query.where(or_(*_mentions(word)))
    for key, value in wanted.labels:
        query = query.where(Job.labels[key].as_string() == value)
    if wanted.created_after is not None:
        query = query.where(Job.created_at > wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(Job.created_at < wanted.created_before)
    return query


def _mentions(word: str) -> list[ColumnElement[bool]]:
    """Where a job may mention ``word``: as part of a text, or as "key:value" a label that begins so."""
    columns = Job.id, Job.model, Job.dataset
    escaped = json.dumps(word)[1:-1]  # as it is written in the JSON of the labels
    found = [column.icontains(word, autoescape=True) for column in columns]
    found.append(cast(ColumnElement[str], Job.labels).cast(Text).icontains(escaped, autoescape=True))
    key, colon, value = word.partition(":")
    if colon and re.fullmatch(LABEL_KEY, key):
        found.append(Job.labels[key].as_string().istartswith(value, autoescape=True))
    return found


@dataclass(frozen=True)
class FinishedStage:
    """Seconds of a stage, and the job that it was reused from, if any."""

    seconds: float
    reused_from: str | None = None


def finished_stages(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, FinishedStage]]:
    """Every finished stage, by job and name."""
    columns = StageResult.job_id, StageResult.stage, StageResult.seconds, StageResult.reused_from
    found: dict[str, dict[str, FinishedStage]] = {job_id: {} for job_id in job_ids}
    for job_id, stage, seconds, reused_from in session.execute(select(*columns).where(columns[0].in_(job_ids))):
        found[job_id][stage] = FinishedStage(seconds, reused_from)
    return found


def stage_summaries(session: Session, job_id: str) -> dict[str, dict[str, Any]]:
    """The summary of each finished stage."""
    query = select(StageResult.stage, StageResult.summary).where(StageResult.job_id == job_id)
    rows = session.execute(query).all()
    return {row.stage: row.summary for row in rows}


def list_events(session: Session, job_id: str, *, after: int, limit: int) -> Sequence[JobEvent]:
    """At most ``limit`` events with ids above ``after``, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after).order_by(JobEvent.id)
    return session.scalars(query.limit(limit)).all()


def list_trials(session: Session, job_id: str) -> Sequence[JobTrial]:
    """Every trial, in order."""
    return session.scalars(select(JobTrial).where(JobTrial.job_id == job_id).order_by(JobTrial.index)).all()


def list_metrics(session: Session, job_id: str) -> Sequence[JobMetric]:
    """Every point of every curve, in order."""
    query = select(JobMetric).where(JobMetric.job_id == job_id).order_by(JobMetric.name, JobMetric.step)
    return session.scalars(query).all()


def list_artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    """Every artifact, by name."""
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def get_artifact(session: Session, job_id: str, name: str) -> Artifact | None:
    """The artifact called ``name``."""
    return session.get(Artifact, (job_id, name))


def delete_job(session: Session, job: Job) -> None:
    """Delete the job's row, and every row that refers to it."""
    session.execute(delete(Job).where(Job.id == job.id))
    notify(session, job.id)
