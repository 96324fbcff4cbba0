"""Bytes of a tenant in the store, from the database. Nothing here commits."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.models import Dataset
from app.jobs.models import Artifact, Job, StageResult
from app.problems import Problem
from app.settings import Settings
from app.uploads.models import Upload
from qpruner_core.sizes import format_bytes


@dataclass(frozen=True)
class Usage:
    """Bytes of uploaded datasets and models, of artifacts, and of stages that later jobs or attempts reuse. All bytes
    of an upload count from its beginning."""

    datasets: int
    models: int
    artifacts: int
    stages: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.datasets + self.models + self.artifacts + self.stages


def usage_of(session: Session, tenant: str) -> Usage:
    """Usage of ``tenant``."""
    datasets = select(func.sum(Dataset.bytes)).where(Dataset.tenant == tenant)
    artifacts = select(func.sum(Artifact.bytes)).join(Job, Job.id == Artifact.job_id).where(Job.tenant == tenant)
    stages = select(func.sum(StageResult.bytes)).join(Job, Job.id == StageResult.job_id).where(Job.tenant == tenant)
    uploads = select(func.sum(Upload.bytes)).where(Upload.tenant == tenant, Upload.status != "failed")
    models = uploads.where(Upload.id.startswith("md_"))
    coming = uploads.where(Upload.id.startswith("ds_"))
    found = [int(session.scalar(query) or 0) for query in (datasets, coming, models, artifacts, stages)]
    return Usage(found[0] + found[1], *found[2:])


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
            f"You have {format_bytes(used)} in the store, of the {format_bytes(limit)} that you may have.",
            remedy="Delete jobs, models or datasets; GET /storage shows what uses the space.",
        )  # fmt: skip
