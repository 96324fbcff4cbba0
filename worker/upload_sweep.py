"""Deletes uploads that were not finished in time, and models unused for the operator's retention time."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.jobs.models import TERMINAL, Job
from app.settings import Settings
from app.storage.obsolete import deleting, record_obsolete
from app.storage.one_by_one import one_by_one
from app.storage.retention import days_of
from app.store import ArtifactStore
from app.uploads.models import Upload
from app.uploads.service import prefix_of
from worker.model_files import ModelFiles

_LOG = logging.getLogger(__name__)
_BATCH = 100
_IN_USE = exists().where(Job.tenant == Upload.tenant, Job.model == Upload.id, Job.status.not_in(TERMINAL))


class UploadSweep:
    """Expired uploads in the database, in the store and on this host. Several processes may sweep."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore) -> None:
        self._settings = settings
        self._sessions = sessions
        self._reading = read_only(sessions)
        self._store = store
        self._files = ModelFiles(settings, store)

    def sweep(self) -> int:
        """Delete everything that is due; returns the number of uploads. One that fails is left to the next sweep.

        Raises:
            StoreUnavailableError, SQLAlchemyError: store or database are unavailable.
        """
        due = self._due()
        if due:
            self._store.check()  # before any row is deleted
        done = one_by_one(due, self._delete, self._sessions, self._store)
        if done:
            _LOG.info("%d uploads were not finished or not used in time, and were deleted", done)
        self._sweep_host()
        return done

    def _delete(self, upload_id: str) -> bool:
        with deleting(self._sessions, self._store) as session:
            due = select(Upload).where(Upload.id == upload_id, self._is_due(), ~_IN_USE)
            upload = session.scalar(due.with_for_update(skip_locked=True))
            if upload is not None:
                session.delete(upload)
                record_obsolete(session, prefix_of(upload_id))
            return upload is not None

    def drop_files(self, upload_id: str) -> None:
        """Delete the files of a failed upload; its row keeps the error for a while."""
        self._store.delete_prefix(prefix_of(upload_id))
        self._files.forget(upload_id)

    def _sweep_host(self) -> None:
        here = self._files.ids()
        with self._reading() as session:
            existing = session.scalars(select(Upload.id).where(Upload.id.in_(here))).all() if here else ()
        self._files.sweep(existing)

    def _due(self) -> list[str]:
        with self._reading() as session:
            return list(session.scalars(select(Upload.id).where(self._is_due(), ~_IN_USE).limit(_BATCH)))

    def _is_due(self) -> ColumnElement[bool]:
        """Whether an upload has expired, or is a model that was unused for the days of its tenant."""
        now, days = utc_now(), self._settings.keep_models_days
        unused: list[ColumnElement[bool]] = []
        named = [tenant for tenant in days if tenant]
        for tenant in days:
            kept = days_of(days, tenant)
            whose = Upload.tenant == tenant if tenant else Upload.tenant.not_in(named)
            if kept is not None:
                unused.append(and_(whose, Upload.status == "ready", Upload.used_at < now - timedelta(days=kept)))
        expired = and_(Upload.status.in_(("uploading", "failed")), Upload.expires_at < now)
        return or_(expired, *unused)
