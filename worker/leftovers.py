"""Obsolete files in the store. The database decides, and deleting twice does no harm."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, exists, literal, or_, select, update
from sqlalchemy.orm import Session, aliased, sessionmaker

from app.database import read_only
from app.jobs.models import Artifact, Job, StageResult
from app.storage.one_by_one import one_by_one
from app.store import ArtifactStore

KEPT_STAGES = ("score", "allocate")  # small, and needed by later queries of the search


def delete_unrecorded(
    sessions: sessionmaker[Session], store: ArtifactStore, job_id: str, prefixes: Collection[str]
) -> None:
    """Delete those of ``prefixes`` below which no row of the job names a file; all if the job is deleted.

    Call it once the attempts of these places write no more rows.
    """
    with read_only(sessions)() as session:
        recorded = [
            *session.scalars(select(StageResult.store_prefix).where(StageResult.job_id == job_id)),
            *session.scalars(select(Artifact.key).where(Artifact.job_id == job_id)),
        ]
    for prefix in sorted(prefixes):
        if not any(key.startswith(prefix) for key in recorded):
            store.delete_prefix(prefix)


def delete_superfluous(sessions: sessionmaker[Session], store: ArtifactStore, *, keep_pruned: bool) -> None:
    """Delete files that succeeded jobs no longer need: stages, and leftovers of killed workers.

    Of the pruned models with one key the newest job's is kept, if ``keep_pruned``: another budget starts from it.
    A job whose files cannot be deleted is left to the next sweep.

    Raises:
        StoreUnavailableError, SQLAlchemyError: store or database are unavailable.
    """
    with read_only(sessions)() as session:
        superfluous = _superfluous_stages(session, keep_pruned)

    def delete_stages(job_id: str) -> bool:
        stages = superfluous[job_id]
        with read_only(sessions)() as session:  # rows of a succeeded job only change on deletion
            results = session.scalars(select(StageResult).where(StageResult.job_id == job_id)).all()
            keep = [result.store_prefix for result in results if result.stage not in stages and result.store_prefix]
            keep += session.scalars(select(Artifact.key).where(Artifact.job_id == job_id))
        store.delete_prefix(f"jobs/{job_id}/", keep=keep)
        done = (StageResult.job_id == job_id, StageResult.stage.in_(stages))
        with sessions.begin() as session:
            session.execute(update(StageResult).where(*done).values(store_prefix="", files=[], bytes=0))
        return True

    one_by_one(superfluous, delete_stages, sessions, store)


def _superfluous_stages(session: Session, keep_pruned: bool) -> dict[str, set[str]]:
    """Stages of succeeded jobs that are in the store and no longer needed, by job."""
    newer, newer_job = aliased(StageResult), aliased(Job)
    has_newer = exists().where(
        newer.key == StageResult.key, newer.stage == StageResult.stage, newer.store_prefix != "",
        newer.job_id > StageResult.job_id, newer_job.id == newer.job_id, newer_job.tenant == Job.tenant,
        newer_job.status == "succeeded",
    )  # fmt: skip
    reusable = and_(literal(keep_pruned), StageResult.stage == "prune", StageResult.key.is_not(None), ~has_newer)
    kept = or_(StageResult.stage.in_(KEPT_STAGES), reusable)
    query = (
        select(StageResult.job_id, StageResult.stage)
        .join(Job, Job.id == StageResult.job_id)
        .where(StageResult.store_prefix != "", Job.status == "succeeded", ~kept)
    )
    found: dict[str, set[str]] = {}
    for job_id, stage in session.execute(query):
        found.setdefault(job_id, set()).add(stage)
    return found
