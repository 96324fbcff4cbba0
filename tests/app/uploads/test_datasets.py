"""Datasets that are named as JSON and sent straight to the store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.uploads.test_models import Headers, problem
from tests.uploading import send
from worker.upload_checks import UploadChecks

PROSE = b'{"text": "The quick brown fox."}\n{"text": "Jumps over the lazy dog."}\n'


def begin(client: TestClient, content: bytes, name: str = "prose.jsonl", **headers: str) -> dict[str, Any]:
    body = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    response = client.post("/datasets", json=body, headers=headers)
    assert (response.status_code, response.json()["status"]) == (201, "uploading"), response.text
    document: dict[str, Any] = response.json()
    return document


def test_a_dataset_is_sent_to_the_store_checked_and_ready(
    client: TestClient, checks: UploadChecks, settings: Settings
) -> None:
    view = begin(client, PROSE, "a/../prose.jsonl")
    assert (view["kind"], view["records"], view["filename"]) == (None, None, "prose.jsonl")
    assert client.get("/storage").json()["datasets_bytes"] == len(PROSE)
    send(client, view["upload"]["parts"], {"prose.jsonl": PROSE})
    assert client.get(f"/datasets/{view['id']}/parts").json()["missing_parts"] == 0
    assert client.post(f"/datasets/{view['id']}/complete").json()["status"] == "checking"
    assert client.get("/datasets").json()["datasets"] == []
    body = {"model": "m", "dataset": view["id"], "target": "gguf", "memory_budget": "200kB"}
    problem(client.post("/jobs", json=body), 409, "upload_not_ready", "dataset")
    assert checks.check_next() == view["id"]
    ready = client.get(f"/datasets/{view['id']}").json()
    assert (ready["status"], ready["kind"], ready["records"], ready["bytes"]) == ("ready", "text", 2, len(PROSE))
    assert client.get("/datasets").json()["datasets"] == [ready]
    assert client.post(f"/datasets/{view['id']}/complete").json() == ready
    assert (settings.data_dir / "store" / "datasets" / view["id"] / "prose.jsonl").read_bytes() == PROSE
    assert client.get("/storage").json()["datasets_bytes"] == len(PROSE)
    assert client.delete(f"/datasets/{view['id']}").headers["X-Freed-Bytes"] == str(len(PROSE))


def test_a_dataset_that_cannot_be_read_fails_with_the_reason(client: TestClient, checks: UploadChecks) -> None:
    view = begin(client, b'{"neither": 1}\n')
    send(client, view["upload"]["parts"], {"prose.jsonl": b'{"neither": 1}\n'})
    client.post(f"/datasets/{view['id']}/complete")
    checks.check_next()
    failed = client.get(f"/datasets/{view['id']}").json()
    assert (failed["status"], failed["error"]["code"], failed["error"]["field"]) == (
        "failed",
        "dataset_invalid",
        "file",
    )
    assert client.delete(f"/datasets/{view['id']}").status_code == 204


def test_another_tenant_sees_none_of_it(client: TestClient, authorize: Headers) -> None:
    own, other = authorize("one", "submit"), authorize("two", "submit")
    view = begin(client, PROSE, **own)
    for method, path in (("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")):
        url = f"/datasets/{view['id']}{path}"
        problem(client.request(method, url, headers=other), 404, "dataset_not_found")


def test_what_is_no_description_of_a_file_is_refused(client: TestClient) -> None:
    good = {"name": "prose.jsonl", "bytes": 5, "sha256": "0" * 64}
    for change, field in (({"bytes": 0}, "bytes"), ({"sha256": "X"}, "sha256"), ({"more": 1}, "more")):
        problem(client.post("/datasets", json=good | change), 422, "invalid_config", field)
    problem(client.post("/datasets", json=good | {"bytes": 10**12}), 413, "dataset_too_large")
    broken = client.post("/datasets", content=b"{", headers={"Content-Type": "application/json"})
    problem(broken, 400, "invalid_json")
    huge = client.post("/datasets", content=b" " * 2**21, headers={"Content-Type": "application/json"})
    problem(huge, 413, "body_too_large")


def test_a_bare_body_of_json_with_a_name_is_a_file_as_before(client: TestClient) -> None:
    content = b'[{"question": "x", "answer": "y"}]'
    response = client.post(
        "/datasets", params={"filename": "a.json"}, content=content, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["status"], response.json()["records"]) == (201, "ready", 1)
    assert Path(response.json()["filename"]) == Path("a.json")
