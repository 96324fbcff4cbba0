"""Files of deleted rows go after the commit: a slow store keeps no writer waiting, and a failing one is asked again."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.jobs.models import Artifact, Job
from app.settings import Settings
from app.storage import one_by_one
from app.storage.obsolete import delete_obsolete, deleting, record_obsolete
from app.storage.retention import Retention
from app.store import ArtifactStore, StoreUnavailableError
from app.store.models import ObsoleteFiles
from app.uploads.models import Upload
from tests.app.jobs.conftest import make_job
from tests.app.test_storage import Keep, keep, store
from worker.upload_sweep import UploadSweep

__all__ = ["keep", "make_job", "store"]


class Deletions:
    """A store's deletions, which wait until the test lets them go on, or are refused below ``refused``."""

    def __init__(self, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = store.delete_prefix
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.refused = "none"
        self.prefixes: list[str] = []
        monkeypatch.setattr(store, "delete_prefix", self.delete_prefix)

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        self.reached.set()
        assert self.go_on.wait(60)
        if prefix.startswith(self.refused):
            raise StoreUnavailableError("Access denied: a lock on this object")
        self._real(prefix, keep=keep)
        self.prefixes.append(prefix)


@pytest.fixture
def deletions(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Deletions:
    return Deletions(store, monkeypatch)


@pytest.fixture
def expired_upload(sessions: sessionmaker[Session], store: ArtifactStore, tmp_path: Path) -> Callable[[], str]:
    """A function that makes an upload that was not finished in time."""

    def made() -> str:
        upload_id, now = new_id("md"), utc_now()
        (tmp_path / "file").write_bytes(b"part")
        store.put_file(f"models/{upload_id}/config.json", tmp_path / "file")
        with sessions.begin() as session:
            session.add(
                Upload(
                    id=upload_id, tenant="default", name="m", status="uploading", bytes=4, part_bytes=4, created_at=now,
                    used_at=now, expires_at=now - timedelta(seconds=1),
                )
            )  # fmt: skip
        return upload_id

    return made


def owed(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(ObsoleteFiles.prefix)))


def make_due(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.execute(update(ObsoleteFiles).values(due_at=utc_now()))


def files(settings: Settings, folder: str) -> int:
    return len([path for path in (settings.data_dir / "store" / folder).rglob("*") if path.is_file()])


@pytest.mark.parametrize("what", ["job", "dataset", "model", "retention", "upload_sweep"])
def test_no_writer_waits_for_a_store_that_is_slow_to_delete(
    what: str, client: TestClient, sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings,
    keep: Keep, expired_upload: Callable[[], str], deletions: Deletions,
) -> None:  # fmt: skip
    days = settings.model_copy(update={"keep_artifacts_days": {"": 30}})

    def delete(path: str, freed: int) -> Callable[[], Any]:
        def request() -> None:
            response = client.delete(path)
            assert (response.status_code, response.headers["x-freed-bytes"]) == (204, str(freed))

        return request

    if what == "job":
        act = delete(f"/jobs/{keep(1)}", 12)
    elif what == "dataset":
        sent = client.post("/datasets", files={"file": ("a.txt", b"Some words. " * 300)}).json()
        act = delete(f"/datasets/{sent['id']}", sent["bytes"])
    elif what == "model":
        act = delete(f"/models/{expired_upload()}", 4)
    elif what == "retention":
        keep(31)
        act = Retention(sessions, store, days).expire
    else:
        expired_upload()
        act = UploadSweep(settings, sessions, store).sweep
    neighbour = keep(1, tenant="another", status="failed")
    before = sum(files(settings, folder) for folder in ("jobs", "datasets", "models"))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the test raises it below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert deletions.reached.wait(30)
    written = threading.Event()

    def write() -> None:
        with sessions.begin() as session:
            session.execute(update(Job).where(Job.id == neighbour).values(progress=0.5))
        written.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    in_time = written.wait(10)
    deletions.go_on.set()
    thread.join(30)
    writer.join(30)
    assert not failures, failures
    assert in_time
    assert deletions.prefixes
    assert sum(files(settings, folder) for folder in ("jobs", "datasets", "models")) < before
    assert owed(sessions) == []


def test_a_file_that_cannot_be_deleted_keeps_no_other_tenants_data(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep, deletions: Deletions,
    expired_upload: Callable[[], str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    deletions.go_on.set()
    jobs, uploads = [keep(31, tenant=tenant) for tenant in "abcd"], [expired_upload() for _ in range(3)]
    retention = Retention(sessions, store, settings.model_copy(update={"keep_artifacts_days": {"": 30}}))
    sweep = UploadSweep(settings, sessions, store)
    for refused, act, count in ((f"jobs/{jobs[0]}/", retention.expire, 4), (f"models/{uploads[0]}/", sweep.sweep, 3)):
        deletions.refused = refused
        assert act() == count
        assert "deleted from the store later" in caplog.text
        assert act() == 0
    assert [store.holds(f"jobs/{job_id}/t/artifacts/model.gguf") for job_id in jobs] == [True, False, False, False]
    assert [store.holds(f"models/{upload_id}/config.json") for upload_id in uploads] == [True, False, False]
    with sessions() as session:  # no row names a file that may be gone
        assert session.scalar(select(func.count()).select_from(Artifact)) == 0
        assert session.scalar(select(func.count()).select_from(Upload)) == 0
    assert len(owed(sessions)) == 2
    assert delete_obsolete(sessions, store) == 0  # not yet due
    make_due(sessions)
    assert delete_obsolete(sessions, store) == 1  # the other one is still refused
    make_due(sessions)
    deletions.refused = "none"
    assert delete_obsolete(sessions, store) == 1
    assert owed(sessions) == []
    assert files(settings, "models") == 0
    assert not store.holds(f"jobs/{jobs[0]}/t/artifacts/model.gguf")


def test_a_job_whose_rows_cannot_be_deleted_keeps_no_others(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = [keep(31, tenant=tenant) for tenant in "abcd"]
    real = Retention._drop_artifacts

    def drop(retention: Retention, session: Session, job_id: str) -> None:
        real(retention, session, job_id)
        if job_id == jobs[0]:
            raise RuntimeError("a fault")

    monkeypatch.setattr(Retention, "_drop_artifacts", drop)
    retention = Retention(sessions, store, settings.model_copy(update={"keep_artifacts_days": {"": 30}}))
    with caplog.at_level(logging.WARNING, one_by_one.__name__):
        assert retention.expire() == 3
    assert f"{jobs[0]} is left to the next pass" in caplog.text
    held = [store.holds(f"jobs/{job_id}/t/artifacts/model.gguf") for job_id in jobs]
    assert held == [True, False, False, False]
    assert owed(sessions) == []
    monkeypatch.undo()
    assert retention.expire() == 1
    assert not store.holds(f"jobs/{jobs[0]}/t/artifacts/model.gguf")


def test_files_are_deleted_only_if_their_rows_were_and_even_after_a_crash(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep, deletions: Deletions
) -> None:
    job_id = keep(1)
    deletions.go_on.set()
    with contextlib.suppress(RuntimeError), deleting(sessions, store) as session:
        record_obsolete(session, f"jobs/{job_id}/")
        raise RuntimeError("a fault before the commit")
    assert (deletions.prefixes, owed(sessions)) == ([], [])
    with sessions.begin() as session:  # as a process that died between commit and deletion
        session.add(ObsoleteFiles(prefix=f"jobs/{job_id}/", due_at=utc_now()))
    retention = Retention(sessions, store, settings)  # which deletes nothing else
    retention.start()
    for _ in range(300):
        if not owed(sessions):
            break
        threading.Event().wait(0.1)
    retention.stop()
    assert deletions.prefixes == [f"jobs/{job_id}/"]
    assert files(settings, "jobs") == 0


def test_a_store_that_is_away_ends_the_pass_and_loses_nothing(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep, tmp_path: Path
) -> None:
    job_id = keep(1)
    with sessions.begin() as session:
        session.add_all(ObsoleteFiles(prefix=f"jobs/{job_id}/{one}/", due_at=utc_now()) for one in "tuv")
    (settings.data_dir / "store").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailableError):
        delete_obsolete(sessions, store)
    (tmp_path / "away").rename(settings.data_dir / "store")
    make_due(sessions)
    assert delete_obsolete(sessions, store) == 3
    assert files(settings, "jobs") == 0
