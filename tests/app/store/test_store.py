"""What every store does, on a folder and on a real S3 server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.store import ArtifactStore


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    """A file of 100 kB that is not text."""
    path = tmp_path / "payload.bin"
    path.write_bytes(os.urandom(100_000))
    return path


def _has(store: ArtifactStore, key: str, tmp_path: Path) -> bool:
    try:
        store.get_file(key, tmp_path / "probe")
    except FileNotFoundError:
        return False
    return True


def test_what_was_put_is_got(store: ArtifactStore, payload: Path, tmp_path: Path) -> None:
    store.put_file("jobs/job_1/artifacts/mixed.tar", payload)
    store.get_file("jobs/job_1/artifacts/mixed.tar", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == payload.read_bytes()


def test_a_key_may_have_any_letters(store: ArtifactStore, payload: Path, tmp_path: Path) -> None:
    store.put_file("datasets/ds_1/语料 (1)+é%20.txt", payload)
    store.get_file("datasets/ds_1/语料 (1)+é%20.txt", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == payload.read_bytes()
    store.delete_prefix("datasets/ds_1/")
    assert not _has(store, "datasets/ds_1/语料 (1)+é%20.txt", tmp_path)


def test_an_empty_file_is_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store.put_file("jobs/job_1/empty", tmp_path / "empty")
    store.get_file("jobs/job_1/empty", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b""


def test_a_second_put_replaces_the_first(store: ArtifactStore, payload: Path, tmp_path: Path) -> None:
    store.put_file("a/b", payload)
    payload.write_bytes(b"second")
    store.put_file("a/b", payload)
    store.get_file("a/b", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"second"


def test_a_missing_object_is_not_found_and_leaves_no_file(store: ArtifactStore, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError):
        store.get_file("jobs/job_1/none", tmp_path / "got")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_object_does_not_replace_the_file_that_is_there(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "got").write_bytes(b"kept")
    with pytest.raises(FileNotFoundError):
        store.get_file("jobs/job_1/none", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"kept"


def test_a_missing_source_is_not_found_and_stores_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("a/b", tmp_path / "none")
    assert not _has(store, "a/b", tmp_path)


def test_deleting_a_prefix_deletes_just_what_begins_with_it(
    store: ArtifactStore, payload: Path, tmp_path: Path
) -> None:
    for key in ("jobs/job_1/a", "jobs/job_1/stages/prune/b", "jobs/job_10/c", "jobs/job_2/d"):
        store.put_file(key, payload)
    store.delete_prefix("jobs/job_1/")
    assert not _has(store, "jobs/job_1/a", tmp_path)
    assert not _has(store, "jobs/job_1/stages/prune/b", tmp_path)
    assert _has(store, "jobs/job_10/c", tmp_path)
    store.delete_prefix("jobs/job_1")
    assert not _has(store, "jobs/job_10/c", tmp_path)
    assert _has(store, "jobs/job_2/d", tmp_path)


def test_deleting_a_prefix_spares_what_is_to_be_kept(store: ArtifactStore, payload: Path, tmp_path: Path) -> None:
    gone = ("jobs/job_1/a", "jobs/job_1/x/stages/prune/b", "jobs/job_1/y/artifacts/c", "jobs/job_1/x/stages/score.json")
    kept = ("jobs/job_1/x/stages/score/d", "jobs/job_1/x/stages/score/e/f", "jobs/job_1/x/artifacts/c")
    for key in (*gone, *kept):
        store.put_file(key, payload)
    store.delete_prefix("jobs/job_1/", keep=["jobs/job_1/x/stages/score/", "jobs/job_1/x/arti", "jobs/job_2/"])
    assert [key for key in (*gone, *kept) if _has(store, key, tmp_path)] == list(kept)
    store.delete_prefix("jobs/job_1", keep=["jobs/job_1/x/stages/score/e/f"])
    assert [key for key in kept if _has(store, key, tmp_path)] == ["jobs/job_1/x/stages/score/e/f"]


def test_deleting_nothing_is_fine(store: ArtifactStore) -> None:
    store.delete_prefix("jobs/job_none/")


def test_the_check_leaves_nothing_behind(store: ArtifactStore, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    store.check()
    assert sorted(tmp_path.rglob("*")) == before


NO_KEYS = ("", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\\b", "a\0b", "a\nb", "x" * 513, "y" * 256)


def test_a_key_that_names_no_object_is_refused(store: ArtifactStore, payload: Path) -> None:
    for key in NO_KEYS:
        with pytest.raises(ValueError, match="A key"):
            store.put_file(key, payload)
        with pytest.raises(ValueError, match="A key"):
            store.get_file(key, payload)
        with pytest.raises(ValueError, match="A key"):
            store.signed_url(key, expires_in=60, filename="x", base_url="http://127.0.0.1")


def test_a_prefix_that_would_delete_everything_is_refused(store: ArtifactStore, payload: Path, tmp_path: Path) -> None:
    store.put_file("a/b", payload)
    for prefix in ("", "/", "../", "a/../"):
        with pytest.raises(ValueError, match="A key"):
            store.delete_prefix(prefix)
    assert _has(store, "a/b", tmp_path)
