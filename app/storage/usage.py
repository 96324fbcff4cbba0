"""Bytes of a tenant in the store, from the database. Nothing here commits."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.models import Dataset
from app.jobs.models import Artifact, Job, StageResult
from app.problems import Problem
from app.settings import Settings
from qpruner_core.sizes import format_bytes


@dataclass(frozen=True)
class Usage:
    """Bytes of uploaded datasets, of artifacts, and of stages that later jobs or attempts reuse."""

    datasets: int
    artifacts: int
    stages: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.datasets + self.artifacts + self.stages


def usage_of(session: Session, tenant: str) -> Usage:
    """Usage of ``tenant``."""
    datasets = select(func.sum(Dataset.bytes)).where(Dataset.tenant == tenant)
    artifacts = select(func.sum(Artifact.bytes)).join(Job, Job.id == Artifact.job_id).where(Job.tenant == tenant)
    stages = select(func.sum(StageResult.bytes)).join(Job, Job.id == StageResult.job_id).where(Job.tenant == tenant)
    return Usage(*(int(session.scalar(query) or 0) for query in (datasets, artifacts, stages)))


def usage_of_job(session: Session, job_id: str) -> int:
    """Bytes of the artifacts and stages of a job."""
    artifacts = select(func.sum(Artifact.bytes)).where(Artifact.job_id == job_id)
    stages = select(func.sum(StageResult.bytes)).where(StageResult.job_id == job_id)
    return sum(int(session.scalar(query) or 0) for query in (artifacts, stages))


def require_storage(session: Session, settings: Settings, tenant: str, more: int = 0) -> None:
    """Return if ``tenant`` may store ``more`` bytes.

    Raises:
        Problem: 403 ``storage_full``.
    """
    limit = settings.max_storage_bytes
    if limit is None:
        return
    used = usage_of(session, tenant).total
    if used + more > limit or used >= limit:
        raise Problem(
            403, "storage_full",
            f"You have {format_bytes(used)} in the store; your limit is {format_bytes(limit)}.",
            remedy="Delete jobs or datasets; GET /storage shows the usage.",
        )  # fmt: skip
