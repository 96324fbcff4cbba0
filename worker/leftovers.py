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


def delete_superfluous(sessions: sessionmaker[Session], store: ArtifactStore) -> None:
    """Delete what succeeded jobs need no more: stages, and whatever a killed worker could not delete itself."""
    waiting = (StageResult.store_prefix != "", StageResult.stage.not_in(KEPT_STAGES), Job.status == "succeeded")
    with sessions() as session:
        job_ids = session.scalars(select(Job.id).join(StageResult).where(*waiting).distinct()).all()
    for job_id in job_ids:
        with sessions() as session:  # nobody changes the rows of a succeeded job but to delete it
            results = session.scalars(select(StageResult).where(StageResult.job_id == job_id)).all()
            keep = [result.store_prefix for result in results if result.stage in KEPT_STAGES and result.store_prefix]
            keep += session.scalars(select(Artifact.key).where(Artifact.job_id == job_id))
        store.delete_prefix(f"jobs/{job_id}/", keep=keep)
        done = (StageResult.job_id == job_id, StageResult.stage.not_in(KEPT_STAGES))
        with sessions.begin() as session:
            session.execute(update(StageResult).where(*done).values(store_prefix="", files=[]))
