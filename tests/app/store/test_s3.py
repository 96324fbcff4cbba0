"""What is particular to a bucket: parts, other endpoints, servers that are unavailable or refuse us."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from boto3.s3.transfer import TransferConfig

import app.store.s3
from app.settings import Settings
from app.store import StoreUnavailableError
from app.store.identity import MARKER
from app.store.s3 import S3Store
from qpruner_core.errors import DiskFullError
from tests.known_store import open_known_store
from tests.s3 import S3Server

KEY = "jobs/job_1/artifacts/mixed.tar"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in parts of 5 MiB, the least that S3 takes."""
    config = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20, use_threads=False)
    monkeypatch.setattr(app.store.s3, "_TRANSFER", config)


@pytest.fixture
def s3_store(s3_settings: Settings) -> S3Store:
    """A store in a bucket of its own."""
    store = open_known_store(s3_settings)
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.service
@pytest.mark.usefixtures("small_parts")
def test_a_large_file_goes_in_parts_and_comes_back_whole(s3_store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(11_000_000))
    s3_store.put_file(KEY, tmp_path / "large")
    s3_store.get_file(KEY, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (tmp_path / "large").read_bytes()


@pytest.mark.service
def test_an_unfinished_upload_goes_with_its_prefix(s3_store: S3Store) -> None:
    client, name = s3_store._control, f"{s3_store.prefix}{KEY}"
    upload = client.create_multipart_upload(Bucket=s3_store.bucket, Key=name)
    client.upload_part(
        Bucket=s3_store.bucket, Key=name, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 5 * 2**20
    )
    assert client.list_multipart_uploads(Bucket=s3_store.bucket).get("Uploads")
    s3_store.delete_prefix("jobs/job_1/")
    assert not client.list_multipart_uploads(Bucket=s3_store.bucket).get("Uploads")


@pytest.mark.service
def test_objects_lie_below_the_prefix_of_the_url(s3_store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    s3_store.put_file(KEY, tmp_path / "file")
    listing = s3_store._control.list_objects_v2(Bucket=s3_store.bucket)
    assert {entry["Key"] for entry in listing["Contents"]} == {f"below/here/{KEY}", f"below/here/{MARKER}"}


@pytest.mark.service
def test_signed_urls_name_the_public_endpoint(s3_settings: Settings, tmp_path: Path) -> None:
    assert s3_settings.s3_endpoint_url is not None
    public = s3_settings.s3_endpoint_url.replace("127.0.0.1", "localhost")
    store = open_known_store(s3_settings.model_copy(update={"s3_public_endpoint_url": public}))
    (tmp_path / "file").write_bytes(b"content")
    store.put_file(KEY, tmp_path / "file")
    url = store.signed_url(KEY, expires_in=60, filename="mixed.tar", base_url="http://not.used")
    assert url.startswith(f"{public}/")
    assert httpx.get(url).content == b"content"


@pytest.mark.service
def test_a_download_to_a_full_disk_is_told_and_leaves_nothing(
    s3_store: S3Store, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    s3_store.put_file(KEY, tmp_path / "large")
    with pytest.raises(DiskFullError):
        s3_store.get_file(KEY, small_disk / "large")
    assert list(small_disk.iterdir()) == []


@pytest.mark.service
def test_a_bucket_that_does_not_exist_is_unavailable(s3_settings: Settings, tmp_path: Path) -> None:
    store = open_known_store(s3_settings.model_copy(update={"store_url": "s3://no-such-bucket"}))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreUnavailableError, match="no-such-bucket"):
        store.check()
    with pytest.raises(StoreUnavailableError):
        store.put_file(KEY, tmp_path / "file")
    with pytest.raises(StoreUnavailableError):
        store.delete_prefix("jobs/")


@pytest.mark.service
def test_wrong_credentials_are_unavailable(
    s3_settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key + "x")
    with pytest.raises(StoreUnavailableError) as caught:
        open_known_store(s3_settings).check()
    assert "credentials" in caught.value.remedy


def _store_at(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        store_url="s3://bucket",
        s3_endpoint_url=f"http://127.0.0.1:{port}",
        signing_key="0123456789abcdef" * 2,
    )
    store = open_known_store(settings)
    assert isinstance(store, S3Store)
    return store


@pytest.mark.timeout(60)
def test_a_server_that_is_away_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store_at(1, tmp_path, monkeypatch)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreUnavailableError):
        store.check()
    with pytest.raises(StoreUnavailableError):
        store.put_file(KEY, tmp_path / "file")
    with pytest.raises(StoreUnavailableError):
        store.get_file(KEY, tmp_path / "got")
    with pytest.raises(StoreUnavailableError):
        store.delete_prefix("jobs/")
    assert not (tmp_path / "got").exists()


@pytest.mark.timeout(60)
def test_a_server_that_hangs_is_unavailable(silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailableError):
        _store_at(silent_port, tmp_path, monkeypatch).check()
