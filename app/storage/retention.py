"""Deletes artifacts, stages and events of ended jobs after the operator's retention times, and obsolete files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, exists, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.jobs.models import TERMINAL, Artifact, Job, JobEvent, StageResult
from app.settings import Settings
from app.storage.obsolete import delete_obsolete, deleting, record_obsolete
from app.storage.one_by_one import one_by_one
from app.store import ArtifactStore, StoreUnavailableError

_LOG = logging.getLogger(__name__)
_BATCH = 100
_EVERY_SECONDS = 600.0
ALL = ""
"""Key of the days of every tenant without its own."""


def days_of(days: Mapping[str, int], tenant: str) -> int | None:
    """Days that a tenant's data is kept; ``None``: forever."""
    return days.get(tenant, days.get(ALL))


class Retention:
    """A thread that checks every ten minutes for data to delete. Several processes may do so."""

    def __init__(self, sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings) -> None:
        self._sessions = sessions
        self._reading = read_only(sessions)
        self._store = store
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and return when nothing is in progress any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def expire(self) -> int:
        """Delete everything that is due; returns the number of jobs. A job that fails is left to the next pass.

        Raises:
            StoreUnavailableError, SQLAlchemyError: store or database are unavailable.
        """
        settings = self._settings
        done = 0
        for days, has, drop in (
            (settings.keep_artifacts_days, _HAS_ARTIFACTS, self._drop_artifacts),
            (settings.keep_stages_days, _HAS_STAGES, self._drop_stages),
            (settings.keep_events_days, _HAS_EVENTS, self._drop_events),
        ):
            done += self._expire(days, has, drop)
        return done

    def _expire(self, days: Mapping[str, int], has: object, drop: Callable[[Session, str], None]) -> int:
        due = self._due(days, has) if days else []
        if due:
            self._store.check()  # before any row is deleted
        return one_by_one(due, lambda job_id: self._expire_job(job_id, drop), self._sessions, self._store)

    def _expire_job(self, job_id: str, drop: Callable[[Session, str], None]) -> bool:
        if self._stopping.is_set():
            return False
        with deleting(self._sessions, self._store) as session:
            # One job at a time, locked: a retry either finds its stages, or computes them again.
            job = session.scalar(_ended().where(Job.id == job_id).with_for_update())
            if job is not None:
                drop(session, job_id)
            return job is not None

    def _due(self, days: Mapping[str, int], has: object) -> list[str]:
        now = utc_now()
        with self._reading() as session:
            tenants = session.scalars(select(Job.tenant).distinct()).all()
            found: list[str] = []
            for tenant in tenants:
                kept = days_of(days, tenant)
                if kept is not None:
                    found += session.scalars(_ids(tenant, now - timedelta(days=kept)).where(has).limit(_BATCH))  # type: ignore[arg-type]
            return found

    def _drop_artifacts(self, session: Session, job_id: str) -> None:
        for key in session.scalars(select(Artifact.key).where(Artifact.job_id == job_id)):
            record_obsolete(session, key)
        session.execute(delete(Artifact).where(Artifact.job_id == job_id))

    def _drop_stages(self, session: Session, job_id: str) -> None:
        kept = (StageResult.job_id == job_id, StageResult.store_prefix != "")
        for prefix in session.scalars(select(StageResult.store_prefix).where(*kept)):
            record_obsolete(session, prefix)
        session.execute(update(StageResult).where(*kept).values(store_prefix="", files=[], bytes=0))

    def _drop_events(self, session: Session, job_id: str) -> None:
        session.execute(delete(JobEvent).where(JobEvent.job_id == job_id))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                delete_obsolete(self._sessions, self._store, self._stopping.is_set)
                jobs = self.expire()
                if jobs:
                    _LOG.info("Data of %d jobs was deleted after its retention time", jobs)
            except (SQLAlchemyError, StoreUnavailableError) as error:
                _LOG.warning("Retention incomplete: %s", error)
            except Exception:  # noqa: BLE001 - the next look may fare better
                _LOG.exception("Unexpected error in retention")
            self._stopping.wait(_EVERY_SECONDS)


def _ended() -> Select[Job]:
    return select(Job).where(Job.status.in_(TERMINAL))


def _ids(tenant: str, before: datetime) -> Select[str]:
    return select(Job.id).where(Job.tenant == tenant, Job.status.in_(TERMINAL), Job.finished_at < before)


_HAS_ARTIFACTS = exists().where(Artifact.job_id == Job.id)
_HAS_STAGES = exists().where(StageResult.job_id == Job.id, StageResult.store_prefix != "")
_HAS_EVENTS = exists().where(JobEvent.job_id == Job.id)
