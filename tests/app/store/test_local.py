"""What is particular to a folder as a store: symlinks, full disks, folders that go away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings import Settings
from app.store import InvalidStoreUrlError, LocalStore, StoreUnavailableError
from app.store.identity import MARKER
from qpruner_core.errors import DiskFullError
from tests.known_store import open_known_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store lies."""
    return tmp_path / "store"


@pytest.fixture
def local_store(folder: Path, tmp_path: Path) -> LocalStore:
    """A store in a folder of its own."""
    store = _open(folder, tmp_path)
    store.check()
    return store


def _open(folder: Path, tmp_path: Path) -> LocalStore:
    store = open_known_store(Settings(_env_file=None, data_dir=tmp_path / "data", store_url=folder.as_uri()))
    assert isinstance(store, LocalStore)
    return store


def _files(folder: Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in files if name != MARKER)


def test_a_symlink_out_of_the_folder_is_not_followed(local_store: LocalStore, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder / "jobs").symlink_to(outside)
    (folder / "link").symlink_to(outside / "secret")
    for key in ("jobs/secret", "link"):
        with pytest.raises(ValueError, match="out of the store"):
            local_store.get_file(key, tmp_path / "got")
        with pytest.raises(ValueError, match="out of the store"):
            local_store.put_file(key, tmp_path / "outside" / "secret")
    with pytest.raises(ValueError, match="out of the store"):
        local_store.delete_prefix("jobs/")
    assert (outside / "secret").read_text() == "secret"


def test_deleting_a_link_leaves_what_it_points_to(local_store: LocalStore, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (folder / "jobs" / "job_1").mkdir(parents=True)
    (folder / "jobs" / "job_1" / "link").symlink_to(tmp_path / "kept")
    local_store.delete_prefix("jobs/job_1/")
    assert (tmp_path / "kept").is_dir()
    assert not (folder / "jobs" / "job_1").exists()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(small_disk: Path, tmp_path: Path) -> None:
    store = _open(small_disk / "store", tmp_path)
    (tmp_path / "fits").write_bytes(os.urandom(600_000))
    store.put_file("jobs/job_1/fits", tmp_path / "fits")
    with pytest.raises(DiskFullError):
        store.put_file("jobs/job_1/too-much", tmp_path / "fits")
    assert _files(small_disk / "store") == ["jobs/job_1/fits"]
    store.delete_prefix("jobs/job_1/")
    store.put_file("jobs/job_1/too-much", tmp_path / "fits")


def test_a_full_disk_keeps_the_object_that_was_there(small_disk: Path, tmp_path: Path) -> None:
    store = _open(small_disk / "store", tmp_path)
    (tmp_path / "old").write_bytes(b"a" * 600_000)
    (tmp_path / "new").write_bytes(b"b" * 600_000)
    store.put_file("key", tmp_path / "old")
    with pytest.raises(DiskFullError):
        store.put_file("key", tmp_path / "new")
    store.get_file("key", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"a" * 600_000


def test_a_download_to_a_full_disk_is_told_and_leaves_nothing(
    local_store: LocalStore, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    local_store.put_file("large", tmp_path / "large")
    with pytest.raises(DiskFullError):
        local_store.get_file("large", small_disk / "large")
    assert _files(small_disk) == []


def test_a_folder_that_went_away_is_unavailable_and_is_not_made_again(
    local_store: LocalStore, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    local_store.put_file("a/b", tmp_path / "file")
    folder.rename(tmp_path / "away")
    with pytest.raises(StoreUnavailableError):
        local_store.put_file("a/c", tmp_path / "file")
    with pytest.raises(StoreUnavailableError):
        local_store.get_file("a/b", tmp_path / "got")
    with pytest.raises(StoreUnavailableError):
        local_store.delete_prefix("a/")
    with pytest.raises(StoreUnavailableError):
        local_store.check()
    assert not folder.exists()
    (tmp_path / "away").rename(folder)
    local_store.check()
    local_store.get_file("a/b", tmp_path / "got")


def test_what_a_killed_put_left_behind_goes_with_its_prefix(local_store: LocalStore, folder: Path) -> None:
    (folder / "jobs" / "job_1").mkdir(parents=True)
    (folder / "jobs" / "job_1" / ".0123.partial").write_bytes(b"half")
    local_store.delete_prefix("jobs/job_1/")
    assert _files(folder) == []


def test_a_store_may_lie_behind_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_bytes(b"x")
    _open(tmp_path / "link", tmp_path).put_file("a/b", tmp_path / "file")
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"x"


@pytest.mark.parametrize(
    "url", ["", "/folder", "file://host/folder", "file:", "file:///", "ftp://x/y", "s3://", "s3:///x"]
)
def test_a_url_that_names_no_store_is_refused_with_the_remedy(url: str, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, store_url=url or "x")
    with pytest.raises(InvalidStoreUrlError) as caught:
        open_known_store(settings)
    assert (caught.value.field, caught.value.code) == ("store_url", "invalid_store_url")
    assert "QPRUNER_STORE_URL" in caught.value.remedy


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreUnavailableError):
        _open(tmp_path / "file" / "store", tmp_path).check()
