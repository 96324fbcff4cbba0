"""What a client of uploads does, by hand: names files, sends parts to signed URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.made_once import made_once
from worker import upload_checks
from worker.check_child import CheckRequest, CheckResult
from worker.check_process import look_at
from worker.upload_checks import UploadChecks

PART_BYTES = 5 * 2**20


def contents_of(folder: Path) -> dict[str, bytes]:
    """The files of a model's folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def named(contents: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The files as ``POST /models`` wants them named."""
    return [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]


def begin(client: TestClient, contents: Mapping[str, bytes], **headers: str) -> dict[str, Any]:
    """The response to ``POST /models``."""
    response = client.post("/models", json={"name": "tiny", "files": named(contents)}, headers=headers)
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    return document


def send(client: Any, parts: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes]) -> None:
    """PUT ``parts`` to their URLs; without a key, as their signature is enough."""
    for part in parts:
        content = contents[part["file"]][part["offset"] : part["offset"] + part["bytes"]]
        response = client.put(part["url"], content=content)
        assert response.status_code in (200, 204), response.text


def upload(client: TestClient, contents: Mapping[str, bytes], **headers: str) -> str:
    """Send all and complete it; the id of the model, which waits for a worker."""
    view = begin(client, contents, **headers)
    send(client, view["upload"]["parts"], contents)
    response = client.post(f"/models/{view['id']}/complete", headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "checking"), response.text
    return str(view["id"])


def checks_of(application: FastAPI, settings: Settings) -> UploadChecks:
    """A worker's checks on the application's parts; ``check_next`` does one."""
    return UploadChecks(settings, application.state.session_factory, application.state.store)


def inspect_each_content_once(monkeypatch: pytest.MonkeyPatch, factory: pytest.TempPathFactory) -> None:
    """Keep the result of the process that inspects an upload, which imports for seconds, for the next upload of the
    same content in any process of this test run."""

    def look_once(
        request: CheckRequest, upload_id: str, settings: Settings, check_stop: Callable[[], None]
    ) -> CheckResult:
        key = f"{request.kind} {request.path.name if request.kind == 'dataset' else ''} {_digest(request.path)}"
        name = f"inspected-{hashlib.sha256(key.encode()).hexdigest()}"
        return made_once(factory, name, lambda folder: look_at(request, upload_id, settings, check_stop))

    monkeypatch.setattr(upload_checks, "look_at", look_once)


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()


def peak_of(pid: int | str) -> int:
    """Bytes of memory that a process has had at most."""
    fields = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return next(1024 * int(value.split()[0]) for name, _, value in fields if name == "VmHWM")
