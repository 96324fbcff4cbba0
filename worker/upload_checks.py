"""Checks complete uploads in parallel with the worker's job, so that nobody waits hours for a check."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.settings import Settings
from app.store import ArtifactStore, StoreUnavailableError
from app.uploads.errors import CheckFailedError, UploadCorruptError
from app.uploads.models import Upload, UploadFile
from app.uploads.service import DATASET, files_of
from qpruner_core.errors import DiskFullError, QPrunerError
from worker.check_child import CheckRequest
from worker.check_process import NoResultError, look_at
from worker.model_files import ModelFiles
from worker.patience import Stopped
from worker.protocol import RunError
from worker.upload_sweep import UploadSweep
from worker.upload_verdicts import accept, postpone, refuse

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0  # between two searches for an upload to check
_SWEEP_SECONDS = 600.0
_ATTEMPTS = 3
_Verdict = Callable[[Session, Upload], None]


class UploadChecks:
    """A thread that checks one upload at a time, and periodically deletes expired ones."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore) -> None:
        self._settings = settings
        self._sessions = sessions
        self._reading = read_only(sessions)
        self._store = store
        self._files = ModelFiles(settings, store)
        self._sweep = UploadSweep(settings, sessions, store)
        self._turns: dict[str, int] = {}  # the number of this worker's last check by tenant
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upload-checks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop soon, and give the upload in progress back."""
        self._stopping.set()

    def check_next(self) -> str | None:
        """Check the upload whose turn it is; returns its id, or ``None`` if there is none.

        The turn goes to the tenant with the fewest checks in progress; of several, to the one whose last check by this
        worker is longest ago. Uploads of a tenant are checked in the order of their completion.

        Raises the errors of an unreachable database.
        """
        claimed = self._claim()
        if claimed is None:
            return None
        upload, files, token = claimed
        with self._leased(upload.id, token) as check_stop:
            self._settle(upload, token, self._verdict(upload, files, check_stop))
        return upload.id

    def _run(self) -> None:
        sweep_at = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + _SWEEP_SECONDS
                    self._sweep.sweep()
                checked = self.check_next()
            except (SQLAlchemyError, StoreUnavailableError) as error:
                _LOG.info("Uploads wait: %s", error)
                checked = None
            except Exception:  # noqa: BLE001 - uploads would wait for ever on a dead thread
                _LOG.exception("Unexpected error in the check of uploads; it continues")
                checked = None
            if checked is None:
                self._stopping.wait(_LOOK_SECONDS)

    def _claim(self) -> tuple[Upload, list[UploadFile], str] | None:
        tenants = self._tenants_in_turn()
        if not tenants:  # usually there is none, and the write lock is not needed
            return None
        with self._sessions.begin() as session:
            firsts = (session.scalar(_first_of(tenant).with_for_update(skip_locked=True)) for tenant in tenants)
            upload = next((first for first in firsts if first is not None), None)
            if upload is None:
                return None
            self._turns[upload.tenant] = max(self._turns.values(), default=0) + 1
            upload.attempts += 1
            upload.lease_token = token = uuid.uuid4().hex
            upload.lease_expires_at = utc_now() + timedelta(seconds=self._settings.lease_seconds)
            return upload, files_of(session, upload.id), token

    def _tenants_in_turn(self) -> list[str]:
        """Tenants with uploads to check, in the order of their turns."""
        now = utc_now()
        running = func.sum(case((and_(Upload.lease_token.is_not(None), Upload.lease_expires_at >= now), 1), else_=0))
        waiting = func.sum(case((_is_free(now), 1), else_=0))
        counts = select(Upload.tenant, running, waiting).where(Upload.status == "checking").group_by(Upload.tenant)
        with self._reading() as session:
            found = session.execute(counts).all()
        turns = sorted((busy, self._turns.get(tenant, 0), tenant) for tenant, busy, free in found if free)
        return [tenant for *_, tenant in turns]

    def _verdict(self, upload: Upload, files: list[UploadFile], check_stop: Callable[[], None]) -> _Verdict:
        """Change of the upload's row after its inspection."""
        try:
            if upload.attempts > _ATTEMPTS:
                raise CheckFailedError(
                    f"The inspection failed {_ATTEMPTS} times.", remedy="Ask the operator for the worker's log."
                )
            found = self._look(upload, files, check_stop)
        except NoResultError as error:
            _LOG.warning("%s: attempt %d: %s", upload.id, upload.attempts, error)
            return lambda session, row: postpone(row, counted=True)
        except (Stopped, StoreUnavailableError, DiskFullError) as error:
            _LOG.info("%s: the check is postponed: %s", upload.id, error)
            return lambda session, row: postpone(row, counted=False)
        except (_RefusedError, QPrunerError) as error:
            failure = error.said if isinstance(error, _RefusedError) else RunError.of(error)
            return lambda session, row: refuse(row, failure, self._settings.upload_lifetime)
        return lambda session, row: accept(session, row, files, found)

    def _look(self, upload: Upload, files: list[UploadFile], check_stop: Callable[[], None]) -> dict[str, Any]:
        """Inspect the upload. Raises an error for any fault."""
        try:
            for file in files:
                check_stop()
                self._store.finish_upload(file.key, file.token)
            folder = self._files.fetch(upload.id, files, check_stop)
        except FileNotFoundError as error:
            raise UploadCorruptError(
                "The store has lost a part of it.", field="files", remedy="Upload it again."
            ) from error
        is_dataset = upload.id.startswith(DATASET)
        request = CheckRequest(
            kind="dataset" if is_dataset else "model",
            name=files[0].name if is_dataset else upload.name,
            path=folder / files[0].name if is_dataset else folder,
            policy=self._settings.source_policy.model_copy(update={"allow_hub": False, "hub_token": None}),
        )
        result = look_at(request, upload.id, self._settings, check_stop)
        if result.error is not None:
            raise _RefusedError(result.error.model_copy(update={"field": "file" if is_dataset else "files"}))
        return result.found or {}

    def _settle(self, upload: Upload, token: str, verdict: _Verdict) -> None:
        with self._sessions.begin() as session:
            mine = select(Upload).where(Upload.id == upload.id, Upload.lease_token == token)
            row = session.scalar(mine.with_for_update().execution_options(populate_existing=True))
            if row is None:
                return  # deleted, or another worker's by now
            verdict(session, row)
            is_failed = row.status == "failed"
        _LOG.info("%s: inspected: %s", upload.id, row.status)
        if is_failed:
            self._sweep.drop_files(upload.id)
        elif upload.id.startswith(DATASET):
            self._files.forget(upload.id)

    @contextmanager
    def _leased(self, upload_id: str, token: str) -> Iterator[Callable[[], None]]:
        """Context manager that renews the lease. The yielded function raises :class:`Stopped` once the upload is
        lost."""
        ended, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not ended.wait(self._settings.lease_seconds / 3):
                with suppress(SQLAlchemyError), self._sessions.begin() as session:
                    until = utc_now() + timedelta(seconds=self._settings.lease_seconds)
                    mine = update(Upload).where(Upload.id == upload_id, Upload.lease_token == token)
                    if not session.execute(mine.values(lease_expires_at=until)).rowcount:  # type: ignore[attr-defined]
                        lost.set()

        def check_stop() -> None:
            if lost.is_set() or self._stopping.is_set():
                raise Stopped(f"the check of {upload_id}")

        keeper = threading.Thread(target=renew, name="upload-lease", daemon=True)
        keeper.start()
        try:
            yield check_stop
        finally:
            ended.set()
            keeper.join()


class _RefusedError(Exception):
    """The process reported an error of the upload."""

    def __init__(self, said: RunError) -> None:
        super().__init__(said.message)
        self.said = said


def _first_of(tenant: str) -> Select[Upload]:
    """The upload of ``tenant`` that was completed first, of those that no worker is checking."""
    mine = select(Upload).where(Upload.tenant == tenant, Upload.status == "checking", _is_free(utc_now()))
    return mine.order_by(Upload.used_at, Upload.id).limit(1)


def _is_free(now: datetime) -> ColumnElement[bool]:
    return or_(Upload.lease_expires_at.is_(None), Upload.lease_expires_at < now)
