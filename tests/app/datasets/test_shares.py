"""Uploads of a tenant take no more than its share: of the process's time, and of the store."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.jobs.inspection import Asker, Inspector
from app.problems import Problem
from app.settings import Settings
from qpruner_core.source_policy import SourcePolicy

Headers = Callable[..., dict[str, str]]
PROSE = b"Words of text. " * 20
MANY = gzip.compress(b'{"text":"a b"}\n' * 50_000)


def kept(settings: Settings) -> list[Path]:
    """Files of datasets in the store, and of uploads in progress."""
    return [
        path
        for folder in ("store/datasets", "uploads")
        for path in (settings.data_dir / folder).rglob("*")
        if path.is_file()
    ]


def test_a_tenant_whose_checks_take_its_share_waits_and_no_other_does(
    client: TestClient, application: FastAPI, settings: Settings, authorize: Headers
) -> None:
    flood, other = authorize("flood", "submit"), authorize("other", "submit")
    inspector: Inspector = application.state.inspector
    with ExitStack() as places:
        for _ in range(settings.max_looks):
            places.enter_context(inspector.place("flood"))
        forms: list[dict[str, Any]] = [
            {"files": {"file": ("a.txt", PROSE)}},
            {"params": {"filename": "a.txt"}, "content": PROSE},
        ]
        for sent in forms:
            answer = client.post("/datasets", headers=flood, **sent)
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
            assert answer.headers["Retry-After"]
        assert kept(settings) == []
        assert client.post("/datasets", headers=other, files={"file": ("a.txt", PROSE)}).status_code == 201
    assert client.post("/datasets", headers=flood, files={"file": ("a.txt", PROSE)}).status_code == 201


def test_a_check_ends_at_the_time_limit_of_a_request_and_gives_its_place_back(
    client: TestClient, application: FastAPI, settings: Settings
) -> None:
    brief = settings.model_copy(update={"dataset_check_seconds": 0.05})
    inspector = application.state.inspector = Inspector(application.state.session_factory, brief)
    answer = client.post("/datasets", params={"filename": "a.jsonl.gz"}, content=MANY)
    document = answer.json()
    assert (answer.status_code, document["code"], document["field"]) == (422, "dataset_check_timeout", "file")
    assert "JSON" in document["remedy"]
    assert "parts" in document["remedy"]
    assert (inspector.looks, kept(settings)) == (0, [])


def test_a_check_ends_when_its_client_has_left(application: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(MANY)
    inspector: Inspector = application.state.inspector
    with pytest.raises(Problem) as caught:
        inspector.received_dataset(tmp_path / "a.jsonl.gz", SourcePolicy(), Asker("us", left=lambda: True))
    assert caught.value.code == "upload_broken_off"
    assert inspector.looks == 0


def test_uploads_at_once_store_no_more_than_the_tenant_may(
    client: TestClient, application: FastAPI, settings: Settings
) -> None:
    content = PROSE * 50
    application.state.settings.max_storage_bytes = len(content) + 5000  # room for one
    client.post("/datasets", files={"file": ("a.txt", PROSE)})  # what the first request loads is loaded

    def upload(_: int) -> int:
        return client.post("/datasets", params={"filename": "a.txt"}, content=content).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(upload, range(8)))
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 403, 503}
    assert client.get("/storage").json()["total_bytes"] == len(content) + len(PROSE)
    assert sorted(path.stat().st_size for path in kept(settings)) == [len(PROSE), len(content)]
