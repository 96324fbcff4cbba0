"""Objects that come in parts at signed URLs, in both stores: through the service, or straight to the bucket."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.store import ArtifactStore
from app.store.local import LocalStore
from tests.known_store import open_known_store

KEY = "models/md_1/model.safetensors"
PART = 5 * 2**20


def put(store: ArtifactStore, token: str, number: int, content: bytes) -> None:
    """Send a part as a client does; to a local store as its endpoint does once it has verified the URL."""
    url = store.part_url(KEY, token, number, size=len(content), expires_in=60, base_url="http://service")
    if isinstance(store, LocalStore):
        with store.part_writer(KEY, number) as writer:
            writer.write(content)
        return
    response = httpx.put(url, content=content)
    assert response.status_code == 200, response.text


def test_parts_in_any_order_become_the_object(store: ArtifactStore, tmp_path: Path) -> None:
    content = os.urandom(2 * PART + 1000)
    parts = [content[start : start + PART] for start in range(0, len(content), PART)]
    token = store.begin_upload(KEY, parts=3)
    assert store.uploaded_parts(KEY, token) == {}
    put(store, token, 3, parts[2])
    put(store, token, 1, b"x" * PART)
    put(store, token, 2, parts[1])
    put(store, token, 1, parts[0])  # again: the last one counts
    assert store.uploaded_parts(KEY, token) == {1: PART, 2: PART, 3: 1000}
    assert not store.holds(KEY)
    store.finish_upload(KEY, token)
    store.finish_upload(KEY, token)  # as after a crash behind the first time
    store.get_file(KEY, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content
    store.link_file(KEY, tmp_path / "linked")
    assert (tmp_path / "linked").read_bytes() == content


def test_one_part_alone_is_the_object(store: ArtifactStore, tmp_path: Path) -> None:
    token = store.begin_upload(KEY, parts=1)
    put(store, token, 1, b"small")
    assert store.uploaded_parts(KEY, token) == {1: 5}
    store.finish_upload(KEY, token)
    store.get_file(KEY, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"small"


def test_nothing_was_sent(store: ArtifactStore) -> None:
    for parts in (1, 2):
        token = store.begin_upload(KEY, parts=parts)
        with pytest.raises(FileNotFoundError):
            store.finish_upload(KEY, token)


def test_deleting_the_prefix_ends_an_unfinished_upload(store: ArtifactStore) -> None:
    token = store.begin_upload(KEY, parts=2)
    put(store, token, 1, b"x" * PART)
    store.delete_prefix("models/md_1/")
    assert store.uploaded_parts(KEY, token) == {}
    with pytest.raises(FileNotFoundError):
        store.finish_upload(KEY, token)


@pytest.mark.service
def test_a_bucket_takes_exactly_the_bytes_that_were_signed(s3_settings: object, s3_server: object) -> None:
    store = open_known_store(s3_settings)  # type: ignore[arg-type]
    url = store.part_url(KEY, "", 1, size=5, expires_in=60, base_url="")
    assert httpx.put(url, content=b"x" * 6).status_code >= 400
    assert not store.holds(KEY)
    assert httpx.put(url, content=b"x" * 5).status_code == 200


def test_a_local_object_takes_its_room_once(local_settings: object, tmp_path: Path) -> None:
    store = open_known_store(local_settings)  # type: ignore[arg-type]
    assert isinstance(store, LocalStore)
    store.check()
    with store.part_writer(KEY, 1) as writer:
        writer.write(b"once")
    store.finish_upload(KEY, "")
    store.link_file(KEY, tmp_path / "linked")
    assert (tmp_path / "linked").samefile(store.path_of(KEY))


def test_a_part_that_broke_off_leaves_nothing(local_settings: object) -> None:
    store = open_known_store(local_settings)  # type: ignore[arg-type]
    assert isinstance(store, LocalStore)
    store.check()
    with suppress(RuntimeError), store.part_writer(KEY, 1) as writer:
        writer.write(b"half")
        raise RuntimeError
    assert store.uploaded_parts(KEY, "") == {}
    assert [path for path in (store.root / "models").rglob("*") if path.is_file()] == []
