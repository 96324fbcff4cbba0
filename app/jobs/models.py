"""Tables of a job. The database owns the job; brokers and workers come and go."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, validates

from app.database import Base, UtcDateTime, utc_now

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite only generates ids in INTEGER columns


class Job(Base):
    """A request to compress a model, and its state.

    A worker holds the job while ``lease_token`` is its own and ``lease_expires_at`` lies ahead; every write it makes is
    guarded by the token. ``cancel_requested_at`` requests the holder to stop. ``expected_seconds``: of each stage, on
    the machine that works on it; null before the first stage.

    A queued job waits since ``queued_at`` in the order of :mod:`app.jobs.queue`; ``was_lost``: a worker had it, and
    fell silent or was stopped. ``key_id``: the API key that submitted it. ``dense_bytes`` and ``final_bytes``: of the
    loaded model before and after, from the report of a succeeded job. ``deadline``: seconds from its first start, which
    end at ``deadline_at``. ``waited``: seconds in the queue before its latest start. ``traceparent``: trace context of
    the request that queued it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index("ix_jobs_tenant_created", "tenant", "created_at", "id"),
        Index("ix_jobs_status_lease", "status", "lease_expires_at"),
        Index("ix_jobs_status_finished", "status", "finished_at"),
        Index("ix_jobs_waiting", "status", "tenant", "was_lost", "priority", "queued_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    status: Mapped[JobStatus] = mapped_column(String(16), default="queued")
    stage: Mapped[str | None] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)
    model: Mapped[str] = mapped_column(String(1024))
    dataset: Mapped[str] = mapped_column(String(1024))
    memory_budget: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))

    priority: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    key_id: Mapped[str | None] = mapped_column(String(40))
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=utc_now)
    was_lost: Mapped[bool] = mapped_column(default=False, server_default=false())

    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline: Mapped[int | None]
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    dense_bytes: Mapped[int | None] = mapped_column(BigInteger)
    final_bytes: Mapped[int | None] = mapped_column(BigInteger)
    expected_seconds: Mapped[dict[str, float] | None] = mapped_column(JSON)
    traceparent: Mapped[str | None] = mapped_column(String(55))
    waited: Mapped[float | None]


class TenantTurn(Base):
    """Start and end of a tenant's latest job by the clock of turns, see :mod:`app.jobs.queue`."""

    __tablename__ = "tenant_turns"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[float]
    finish: Mapped[float]


class WorkerSpeed(Base):
    """Speed of a machine with workers: a :class:`qpruner_core.speed.record.SpeedRecord`, by its key."""

    __tablename__ = "worker_speeds"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    record: Mapped[dict[str, Any]] = mapped_column(JSON)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KnownModel(Base):
    """Facts about a model: a :class:`qpruner_core.models.facts.ModelFacts`, by the model's identity."""

    __tablename__ = "known_models"

    identity: Mapped[str] = mapped_column(String(64), primary_key=True)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Dispatch(Base):
    """The outbox: a wake-up owed to the workers for a job, until some worker takes the job."""

    __tablename__ = "dispatches"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sends: Mapped[int] = mapped_column(default=0)


class StageResult(Base):
    """A finished stage whose files are in the store below ``store_prefix``; empty once they are no longer needed.

    ``key`` digests all inputs of the stage; stages of one key have the same files. ``reused_from``: the job that
    computed it, if it was another, which may be deleted by now; ``seconds``: time of that job.
    """

    __tablename__ = "stage_results"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(String(16), primary_key=True)
    attempt: Mapped[int]
    seconds: Mapped[float]
    key: Mapped[str | None] = mapped_column(String(64), index=True)
    reused_from: Mapped[str | None] = mapped_column(String(40))
    store_prefix: Mapped[str] = mapped_column(String(255))
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @validates("files")
    def _count_bytes(self, _: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.bytes = sum(file["bytes"] for file in files)
        return files


class JobEvent(Base):
    """One line of a job's history; ``id`` is the value for ``Last-Event-ID``."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job", "job_id", "id"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobLog(Base):
    """The end of an attempt's output, and the number of earlier bytes that were not kept."""

    __tablename__ = "job_logs"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    omitted_bytes: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class JobTrial(Base):
    """One allocation that the search tried."""

    __tablename__ = "job_trials"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(String(32))
    precisions: Mapped[list[str]] = mapped_column(JSON)
    bytes: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float]
    screening_loss: Mapped[float | None]
    stopped_early: Mapped[bool] = mapped_column(default=False, server_default=false())


class JobMetric(Base):
    """One point of a curve."""

    __tablename__ = "job_metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float]


class Artifact(Base):
    """A file a user can download, at ``key`` in the store."""

    __tablename__ = "artifacts"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(512))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    format: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
