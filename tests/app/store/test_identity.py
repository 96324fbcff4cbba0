"""A store that is unavailable is not a store that is empty."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.orm import Session

from app.database import create_database_engine, utc_now
from app.datasets.models import Dataset
from app.settings import Settings
from app.store import ArtifactStore, LocalStore, StoreAwayError, open_store
from app.store.identity import MARKER
from app.store.models import KnownStore
from app.store.s3 import S3Store
from tests.known_store import migrated_engine
from tests.s3 import S3Server


@pytest.fixture
def engine(store_settings: Settings) -> Engine:
    return migrated_engine(store_settings)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    (tmp_path / "payload").write_bytes(b"payload")
    return tmp_path / "payload"


def _record(engine: Engine, key: str) -> None:
    with Session(engine) as session, session.begin():
        session.add(
            Dataset(
                id=key.split("/")[1], tenant="default", filename="a.txt", key=key, bytes=1, sha256="", kind="text",
                records=1, created_at=utc_now(),
            )
        )  # fmt: skip


def _forget(engine: Engine) -> None:
    """As in a database that a release before ids has written."""
    with Session(engine) as session, session.begin():
        session.execute(delete(KnownStore))


def _unmark(store: ArtifactStore) -> None:
    if isinstance(store, LocalStore):
        (store.root / MARKER).unlink()
    else:
        assert isinstance(store, S3Store)
        store._control.delete_object(Bucket=store.bucket, Key=store.prefix + MARKER)


def _refuses(store: ArtifactStore, payload: Path) -> None:
    for use in (
        store.check,
        lambda: store.put_file("jobs/a/b", payload),
        lambda: store.get_file("datasets/ds_1/a.txt", payload.with_name("got")),
        lambda: store.delete_prefix("jobs/a/"),
    ):
        with pytest.raises(StoreAwayError) as caught:
            use()
        assert "qpruner store adopt" in caught.value.remedy


def test_an_empty_store_and_an_empty_database_get_to_know_each_other(
    store_settings: Settings, engine: Engine, payload: Path
) -> None:
    first = open_store(store_settings, engine)
    first.put_file("datasets/ds_1/a.txt", payload)
    known = first.identity.known()
    assert known is not None
    assert (known.id, known.marked) == (first.read_marker(), True)
    second = open_store(store_settings, create_database_engine(store_settings.resolved_database_url))
    second.get_file("datasets/ds_1/a.txt", payload.with_name("got"))
    assert second.identity.known() == known


def test_processes_that_meet_the_store_at_once_agree_on_its_id(s3_settings: Settings, database_url: str) -> None:
    settings = s3_settings.model_copy(update={"database_url": database_url})

    def meet(_: int) -> str | None:
        store = open_store(settings, create_database_engine(database_url))
        store.check()
        return store.read_marker()

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(meet, range(8)))
    assert len(ids) == 1
    assert ids.pop()


def test_a_folder_in_the_place_of_a_disk_that_is_not_mounted_stays_empty(
    local_settings: Settings, tmp_path: Path, payload: Path
) -> None:
    engine = migrated_engine(local_settings)
    running = open_store(local_settings, engine)
    running.put_file("datasets/ds_1/a.txt", payload)
    folder = local_settings.data_dir / "store"
    folder.rename(tmp_path / "unmounted")
    for _ in range(2):  # without a folder, and with the mount point
        _refuses(running, payload)
        _refuses(open_store(local_settings, migrated_engine(local_settings)), payload)  # a process started meanwhile
        assert not folder.exists() or list(folder.iterdir()) == []
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    (tmp_path / "unmounted").rename(folder)
    for store in (running, open_store(local_settings, engine)):
        store.check()
        store.get_file("datasets/ds_1/a.txt", tmp_path / "got")


@pytest.mark.service
def test_another_bucket_is_not_written_to(s3_settings: Settings, s3_server: S3Server, payload: Path) -> None:
    engine = migrated_engine(s3_settings)
    open_store(s3_settings, engine).put_file("datasets/ds_1/a.txt", payload)
    elsewhere = s3_settings.model_copy(update={"store_url": f"s3://{s3_server.create_bucket()}"})
    other = open_store(elsewhere, migrated_engine(s3_settings))
    _refuses(other, payload)
    with pytest.raises(StoreAwayError):
        other.signed_url("datasets/ds_1/a.txt", expires_in=60, filename="a.txt", base_url="")
    assert other.read_marker() is None
    assert not other.holds("jobs/a/b")


def test_the_store_of_another_installation_is_not_ours(
    store_settings: Settings, engine: Engine, payload: Path, tmp_path: Path
) -> None:
    open_store(store_settings, engine).check()
    another = migrated_engine(store_settings.model_copy(update={"data_dir": tmp_path / "another"}))
    _refuses(open_store(store_settings, another), payload)


def test_the_store_of_an_older_release_is_known_by_its_files(
    store_settings: Settings, engine: Engine, payload: Path
) -> None:
    store = open_store(store_settings, engine)
    store.put_file("datasets/ds_1/a.txt", payload)
    _record(engine, "datasets/ds_1/a.txt")
    _unmark(store)
    _forget(engine)
    upgraded = open_store(store_settings, engine)
    upgraded.check()
    assert upgraded.read_marker() == upgraded.identity.known().id  # type: ignore[union-attr]


def test_after_an_upgrade_a_store_without_any_recorded_file_is_away(
    store_settings: Settings, engine: Engine, payload: Path
) -> None:
    _record(engine, "datasets/ds_1/a.txt")
    store = open_store(store_settings, engine)
    _refuses(store, payload)
    assert store.read_marker() is None


def test_a_process_that_died_before_it_wrote_the_marker_costs_nothing(store_settings: Settings, engine: Engine) -> None:
    store = open_store(store_settings, engine)
    store.check()
    store_id = store.read_marker()
    _unmark(store)
    with Session(engine) as session, session.begin():
        session.execute(update(KnownStore).values(marked=False))
    again = open_store(store_settings, engine)
    again.check()
    assert again.read_marker() == store_id


def test_an_operator_adopts_another_store_and_running_processes_follow(
    local_settings: Settings, tmp_path: Path, payload: Path
) -> None:
    engine = migrated_engine(local_settings)
    running = open_store(local_settings, engine)
    running.check()
    (local_settings.data_dir / "store").rename(tmp_path / "lost")
    (local_settings.data_dir / "store").mkdir()
    _refuses(running, payload)
    operators = open_store(local_settings, migrated_engine(local_settings))
    store_id = operators.identity.adopt(operators, lambda session, _: None)
    assert operators.read_marker() == store_id
    running.put_file("jobs/a/b", payload)
    (local_settings.data_dir / "store").rename(tmp_path / "new")
    (tmp_path / "lost").rename(local_settings.data_dir / "store")
    _refuses(running, payload)  # which was ours


def test_a_marker_that_cannot_be_read_is_none_of_ours(local_settings: Settings, payload: Path) -> None:
    store = open_store(local_settings, migrated_engine(local_settings))
    store.check()
    (local_settings.data_dir / "store" / MARKER).write_text("{]")
    _refuses(store, payload)
