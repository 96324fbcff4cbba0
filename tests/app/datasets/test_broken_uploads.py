"""Uploads that end before they are whole, or never end, against a running server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.settings import Settings
from tests.app.live_service import Service, run_service
from tests.server_processes import wait_until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running service that takes datasets of a megabyte."""
    yield from run_service(Settings(_env_file=None, data_dir=tmp_path / "data", max_dataset_bytes=1_000_000))


def _send(service: Service, head: str, body: bytes) -> socket.socket:
    address = urlsplit(service.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(f"POST /datasets?filename=a.txt HTTP/1.1\r\nHost: {address.netloc}\r\n{head}\r\n\r\n".encode())
    connection.sendall(body)
    return connection


def _scratch(service: Service) -> list[Path]:
    uploads = service.app.state.settings.data_dir / "uploads"
    return list(uploads.rglob("*"))


@pytest.mark.service
def test_an_upload_that_breaks_off_leaves_nothing(service: Service) -> None:
    connection = _send(service, "Content-Length: 500000", b"word " * 1000)
    assert wait_until(lambda: len(_scratch(service)) == 2, 10)  # its directory and its file
    connection.close()
    assert wait_until(lambda: _scratch(service) == [], 10)
    assert httpx.get(f"{service.url}/datasets").json()["datasets"] == []


@pytest.mark.service
@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=x"])
def test_an_upload_that_exceeds_the_storage_is_refused_before_it_is_sent(service: Service, kind: str) -> None:
    service.app.state.settings.max_storage_bytes = 400_000
    head = f"Content-Length: 500000\r\nContent-Type: {kind}"
    with _send(service, head, b"") as connection, connection.makefile("rb") as answer:
        assert b" 403 " in answer.readline()
    assert _scratch(service) == []


@pytest.mark.service
def test_an_upload_that_never_ends_is_answered_at_the_limit(service: Service) -> None:
    connection = _send(service, "Transfer-Encoding: chunked", b"")
    for size in (*[50_000] * 20, 1):  # one byte over the limit, and no last chunk
        connection.sendall(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n")
    with connection, connection.makefile("rb") as answer:
        assert b" 413 " in answer.readline()
    assert wait_until(lambda: _scratch(service) == [], 10)
