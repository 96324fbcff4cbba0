"""What lies in the store and counts no more. The database says so, and deleting twice does no harm."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.models import Artifact, Job, StageResult
from app.store import ArtifactStore

KEPT_STAGES = ("score", "allocate")  # small, and what a later look at the search needs


def delete_unrecorded(
    sessions: sessionmaker[Session], store: ArtifactStore, job_id: str, prefixes: Collection[str]
) -> None:
    """Delete those of ``prefixes`` below which no row of the job says that a file lies; all if the job is deleted.

    To be called once the attempts that these places belong to write no more rows.
    """
    with sessions() as session:
        recorded = [
            *session.scalars(select(StageResult.store_prefix).where(StageResult.job_id == job_id)),
            *session.scalars(select(Artifact.key).where(Artifact.job_id == job_id)),
        ]
    for prefix in sorted(prefixes):
        if not any(key.startswith(prefix) for key in recorded):
            store.delete_prefix(prefix)


def delete_finished_stages(sessions: sessionmaker[Session], store: ArtifactStore) -> None:
    """Delete the files of stages that succeeded jobs need no more, also of jobs whose worker died before it could."""
    succeeded = select(Job.id).where(Job.status == "succeeded")
    done = select(StageResult.job_id, StageResult.stage, StageResult.store_prefix).where(
        StageResult.store_prefix != "", StageResult.stage.not_in(KEPT_STAGES), StageResult.job_id.in_(succeeded)
    )
    with sessions() as session:
        rows = session.execute(done).all()
    for job_id, stage, prefix in rows:
        store.delete_prefix(prefix)
        row = (StageResult.job_id == job_id, StageResult.stage == stage)
        with sessions.begin() as session:
            session.execute(update(StageResult).where(*row).values(store_prefix="", files=[]))
