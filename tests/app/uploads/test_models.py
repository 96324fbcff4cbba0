"""Models by their files: sent in parts, verified, looked at, listed, deleted; over HTTP and on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.ids import new_id
from app.jobs.models import Job, JobStatus
from app.settings import Settings
from app.uploads.models import Upload
from tests.app.conftest import BASE_URL
from tests.tiny_gguf import write_tiny_gguf
from tests.uploading import PART_BYTES, begin, checks_of, named, send, upload
from worker.upload_checks import UploadChecks
from worker.upload_sweep import UploadSweep

Headers = Callable[..., dict[str, str]]


def stored(settings: Settings) -> list[str]:
    root = settings.data_dir / "store"
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path.name[0] != "."
    )


def problem(response: Any, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["code"]) == (status, code), document
    if field is not None:
        assert document["field"] == field, document
    return document


def test_a_model_is_sent_in_parts_checked_and_ready(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], settings: Settings
) -> None:
    model_id = upload(client, contents)
    assert checks.check_next() == model_id
    view = client.get(f"/models/{model_id}").json()
    assert (view["status"], view["error"], view["model_type"]) == ("ready", None, "llama"), view
    assert view["weight_bytes"] > 0
    assert view["expires_at"] is None
    assert {file["name"] for file in view["files"]} == contents.keys()
    assert stored(settings) == [f"models/{model_id}/{name}" for name in sorted(contents)]
    assert [one["id"] for one in client.get("/models").json()["models"]] == [model_id]
    assert client.get("/storage").json()["models_bytes"] == view["bytes"] == sum(map(len, contents.values()))
    assert checks.check_next() is None


def test_a_gguf_model_is_one_file(client: TestClient, checks: UploadChecks, sources: Path, tmp_path: Path) -> None:
    path = write_tiny_gguf(sources / "model", tmp_path / "tiny.gguf")
    model_id = upload(client, {"tiny.gguf": path.read_bytes()})
    checks.check_next()
    view = client.get(f"/models/{model_id}").json()
    assert (view["status"], view["model_type"]) == ("ready", "llama"), view


def test_an_upload_that_broke_off_goes_on_with_the_parts_that_are_missing(
    client: TestClient, application: FastAPI, settings: Settings, contents: dict[str, bytes]
) -> None:
    large = contents | {"large.json": Random(0).randbytes(PART_BYTES + 1000)}
    view = begin(client, large)
    parts = view["upload"]["parts"]
    assert [(part["number"], part["bytes"]) for part in parts if part["file"] == "large.json"] == [
        (1, PART_BYTES), (2, 1000),
    ]  # fmt: skip
    send(client, [part for part in parts if (part["file"], part["number"]) != ("large.json", 1)], large)
    incomplete = problem(client.post(f"/models/{view['id']}/complete"), 409, "upload_incomplete")
    assert [fault["field"] for fault in incomplete["errors"]] == [f"files.{list(large).index('large.json')}"]

    later = TestClient(application, base_url=BASE_URL)
    left = later.get(f"/models/{view['id']}/parts").json()
    assert left["missing_parts"] == 1
    assert left["uploaded_bytes"] == view["bytes"] - PART_BYTES
    assert [(part["file"], part["number"], part["offset"]) for part in left["parts"]] == [("large.json", 1, 0)]
    send(later, left["parts"], large)
    assert later.post(f"/models/{view['id']}/complete").json()["status"] == "checking"
    assert later.post(f"/models/{view['id']}/complete").json()["status"] == "checking"  # a second time changes nothing
    problem(later.get(f"/models/{view['id']}/parts"), 409, "not_uploading")
    problem(later.put(left["parts"][0]["url"], content=b"x" * PART_BYTES), 409, "not_uploading")


def test_a_wrong_hash_fails_the_model_and_frees_its_files(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], settings: Settings
) -> None:
    view = begin(client, contents)
    damaged = contents | {"config.json": contents["config.json"][:-1] + b" "}
    send(client, view["upload"]["parts"], damaged)
    client.post(f"/models/{view['id']}/complete")
    checks.check_next()
    failed = client.get(f"/models/{view['id']}").json()
    position = sorted(contents).index("config.json")
    assert (failed["status"], failed["error"]["code"], failed["error"]["field"], failed["error"]["user"]) == (
        "failed", "upload_corrupt", f"files.{position}.sha256", True,
    )  # fmt: skip
    assert failed["error"]["remedy"]
    assert failed["expires_at"] is not None
    assert stored(settings) == []
    assert client.get("/storage").json()["models_bytes"] == 0
    assert list((settings.data_dir / "models").iterdir()) == []
    problem(client.post(f"/models/{view['id']}/complete"), 409, "not_uploading")


@pytest.mark.parametrize("change", [1, -1])
def test_a_part_of_a_wrong_size_is_refused(
    client: TestClient, contents: dict[str, bytes], settings: Settings, change: int
) -> None:
    part = begin(client, contents)["upload"]["parts"][0]
    body = b"x" * (part["bytes"] + change)
    problem(client.put(part["url"], content=body), 422, "part_size_wrong")
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))  # chunked: without a Content-Length
    problem(client.put(part["url"], content=pieces), 422, "part_size_wrong")
    assert stored(settings) == []


@pytest.mark.parametrize(
    "name",
    [
        "../config.json", "/etc/passwd.json", "a/b.json", "..", "weights.bin", "modeling_own.py", "model.safetensors\n",
        "additional_chat_templates/../x.jinja", "additional_chat_templates/x.json", ".hidden.json", "x\\y.json",
        "additional_chat_templates/", "CONFIG.json", "x" * 201 + ".json",
    ],
)  # fmt: skip
def test_no_name_leads_out_or_is_of_a_kind_that_is_not_read(
    client: TestClient, contents: dict[str, bytes], settings: Settings, name: str
) -> None:
    files = [*named(contents), {"name": name, "bytes": 1, "sha256": "0" * 64}]
    refused = client.post("/models", json={"files": files})
    problem(refused, 422, "file_refused", f"files.{len(contents)}.name")
    assert client.get("/models").json()["models"] == []


def test_files_that_make_no_model_are_refused_at_once(client: TestClient, contents: dict[str, bytes]) -> None:
    for lacking in ("config.json", "model.safetensors"):
        some = {name: content for name, content in contents.items() if name != lacking}
        problem(client.post("/models", json={"files": named(some)}), 422, "model_incomplete", "files")
    problem(client.post("/models", json={"files": []}), 422, "invalid_config", "files")
    problem(client.post("/models", json={"name": "../x", "files": named(contents)}), 422, "invalid_config", "name")


def test_a_file_that_was_not_announced_cannot_be_sent(client: TestClient, contents: dict[str, bytes]) -> None:
    url: str = begin(client, contents)["upload"]["parts"][0]["url"]
    for other in (
        url.replace("part=1", "part=2"), url.replace("chat_template.jinja", "extra.json"),
        url.replace("/store/models/", "/store/jobs/"), url[:-1] + ("A" if url[-1] != "A" else "B"),
    ):  # fmt: skip
        if other != url:
            problem(client.put(other, content=b"x"), 403, "signature_invalid")


def test_a_model_that_no_job_could_read_fails_with_the_reason(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes]
) -> None:
    model_id = upload(client, contents | {"model.safetensors": b"\xff" * 1000})
    checks.check_next()
    failed = client.get(f"/models/{model_id}").json()
    assert (failed["status"], failed["error"]["code"], failed["error"]["field"]) == ("failed", "corrupt_model", "files")
    adapter = upload(client, contents | {"adapter_config.json": b"{}"})
    checks.check_next()
    assert client.get(f"/models/{adapter}").json()["error"]["code"] == "unsafe_model"


def test_another_tenant_sees_none_of_it(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], authorize: Headers, sources: Path
) -> None:
    own, other = authorize("one", "submit"), authorize("two", "submit")
    model_id = upload(client, contents, **own)
    for method, path in (
        ("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", ""),
    ):  # fmt: skip
        problem(client.request(method, f"/models/{model_id}{path}", headers=other), 404, "model_not_found")
    checks.check_next()
    assert client.get("/models", headers=other).json()["models"] == []
    body = {"model": model_id, "dataset": str(sources / "text.txt"), "target": "gguf", "memory_budget": "200kB"}
    problem(client.post("/jobs/estimate", json=body, headers=other), 422, "model_not_found", "model")
    problem(client.post("/jobs", json=body, headers=other), 422, "model_not_found", "model")
    assert client.post("/jobs/estimate", json=body, headers=own).status_code == 200
    reader = authorize("one", "read")
    assert client.get(f"/models/{model_id}", headers=reader).status_code == 200
    problem(client.get(f"/models/{model_id}/parts", headers=reader), 403, "forbidden")  # its URLs may write


def test_an_id_of_the_other_kind_is_neither_shown_nor_deleted_nor_recorded(
    client: TestClient, contents: dict[str, bytes]
) -> None:
    model_id = begin(client, contents)["id"]
    sent = client.post("/datasets", files={"file": ("a.txt", b"Words of text. " * 20)}).json()["id"]
    coming = client.post("/datasets", json=named({"a.txt": b"Words of text."})[0]).json()["id"]
    calls = (("GET", ""), ("GET", "/parts"), ("POST", "/complete"), ("DELETE", ""))
    for method, path in calls:
        problem(client.request(method, f"/datasets/{model_id}{path}"), 404, "dataset_not_found")
        for dataset_id in (sent, coming):
            problem(client.request(method, f"/models/{dataset_id}{path}"), 404, "model_not_found")
    for path in (f"/models/{model_id}", f"/datasets/{sent}", f"/datasets/{coming}"):
        assert client.get(path).status_code == 200
    actions = [entry["action"] for entry in client.get("/audit").json()["entries"]]
    assert sorted(actions) == ["dataset.upload", "dataset.upload", "model.upload"]


def test_a_quota_counts_an_upload_from_its_beginning(
    client: TestClient, application: FastAPI, contents: dict[str, bytes]
) -> None:
    size = sum(map(len, contents.values()))
    application.state.settings.max_storage_bytes = size + 100
    view = begin(client, contents)
    problem(client.post("/models", json={"files": named(contents)}), 403, "storage_full")
    assert client.delete(f"/models/{view['id']}").status_code == 204
    begin(client, contents)


def test_unfinished_uploads_and_bytes_of_a_model_are_limited(
    client: TestClient, application: FastAPI, contents: dict[str, bytes]
) -> None:
    application.state.settings.max_unfinished_uploads = 1
    begin(client, contents)
    refused = client.post("/models", json={"files": named(contents)})
    problem(refused, 429, "too_many_uploads")
    assert refused.headers["Retry-After"]
    application.state.settings.max_model_bytes = 1000
    problem(client.post("/models", json={"files": named(contents)}), 422, "model_too_large", "files")


def test_an_expired_url_is_refused_and_fresh_ones_are_to_be_had(
    client: TestClient, application: FastAPI, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = begin(client, contents)
    monkeypatch.setattr("time.time", lambda: (utc_now() + timedelta(hours=1)).timestamp())
    problem(client.put(view["upload"]["parts"][0]["url"], content=b"x"), 403, "signature_expired")
    monkeypatch.undo()
    send(client, client.get(f"/models/{view['id']}/parts").json()["parts"], contents)


def test_unfinished_uploads_expire_and_ready_models_stay(
    client: TestClient, application: FastAPI, checks: UploadChecks, contents: dict[str, bytes], settings: Settings,
    sessions: sessionmaker[Session],
) -> None:  # fmt: skip
    ready = upload(client, contents)
    checks.check_next()
    view = begin(client, contents)
    send(client, view["upload"]["parts"][:2], contents)
    sweep = UploadSweep(settings, sessions, application.state.store)
    assert sweep.sweep() == 0
    with sessions.begin() as session:
        session.execute(update(Upload).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert sweep.sweep() == 1
    problem(client.get(f"/models/{view['id']}"), 404, "model_not_found")
    assert all(key.startswith(f"models/{ready}/") for key in stored(settings))
    assert client.get(f"/models/{ready}").json()["status"] == "ready"


def test_models_that_nobody_uses_go_after_the_days_of_their_tenant_but_not_under_a_job(
    client: TestClient, application: FastAPI, checks: UploadChecks, contents: dict[str, bytes], settings: Settings,
    sessions: sessionmaker[Session],
) -> None:  # fmt: skip
    model_id = upload(client, contents)
    checks.check_next()
    kept = settings.model_copy(update={"keep_models_days": {"": 30, "other": 1}})
    sweep = UploadSweep(kept, sessions, application.state.store)
    with sessions.begin() as session:
        session.execute(update(Upload).values(used_at=utc_now() - timedelta(days=29)))
    assert sweep.sweep() == 0
    with sessions.begin() as session:
        session.execute(update(Upload).values(used_at=utc_now() - timedelta(days=31)))
    job_id = add_job(sessions, model_id, "running")
    assert sweep.sweep() == 0
    problem(client.delete(f"/models/{model_id}"), 409, "model_in_use")
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(status="succeeded"))
    assert (settings.data_dir / "models" / model_id).is_dir()
    assert sweep.sweep() == 1
    assert stored(settings) == []
    assert not (settings.data_dir / "models" / model_id).exists()


def test_a_deleted_model_frees_its_bytes(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], settings: Settings
) -> None:
    model_id = upload(client, contents)
    checks.check_next()
    response = client.delete(f"/models/{model_id}")
    assert (response.status_code, response.headers["X-Freed-Bytes"]) == (204, str(sum(map(len, contents.values()))))
    assert stored(settings) == []
    problem(client.get(f"/models/{model_id}"), 404, "model_not_found")
    problem(client.get("/models/ds_01k9t4ae5xfz3v2s6q0m8y1d7c"), 404, "model_not_found")


def test_a_job_and_an_estimate_take_a_model_that_is_ready_and_no_other(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], sources: Path
) -> None:
    body: dict[str, Any] = {
        "dataset": str(sources / "text.txt"), "target": "gguf", "memory_budget": "200kB", "sequence_length": 32,
    }  # fmt: skip
    model_id = upload(client, contents)
    problem(client.post("/jobs", json=body | {"model": model_id}), 409, "upload_not_ready", "model")
    problem(client.post("/jobs/estimate", json=body | {"model": model_id}), 409, "upload_not_ready", "model")
    checks.check_next()
    uploaded = client.post("/jobs/estimate", json=body | {"model": model_id})
    local = client.post("/jobs/estimate", json=body | {"model": str(sources / "model")})
    assert uploaded.status_code == 200, uploaded.text
    assert uploaded.json() == local.json()
    job = client.post("/jobs", json=body | {"model": model_id})
    assert (job.status_code, job.json()["model"]) == (202, model_id)
    problem(client.delete(f"/models/{model_id}"), 409, "model_in_use")


def test_a_check_that_lost_its_worker_is_done_by_another(
    client: TestClient, application: FastAPI, settings: Settings, contents: dict[str, bytes],
    sessions: sessionmaker[Session],
) -> None:  # fmt: skip
    model_id = upload(client, contents)
    with sessions.begin() as session:  # as a worker that was killed leaves it
        until = utc_now() + timedelta(seconds=60)
        session.execute(update(Upload).values(attempts=1, lease_token="gone", lease_expires_at=until))
    checks = checks_of(application, settings)
    assert checks.check_next() is None
    with sessions.begin() as session:
        session.execute(update(Upload).values(lease_expires_at=utc_now() - timedelta(seconds=1)))
    assert checks.check_next() == model_id
    assert client.get(f"/models/{model_id}").json()["status"] == "ready"


def test_a_check_that_kills_its_worker_every_time_is_given_up(
    client: TestClient, checks: UploadChecks, contents: dict[str, bytes], sessions: sessionmaker[Session]
) -> None:
    model_id = upload(client, contents)
    with sessions.begin() as session:
        session.execute(update(Upload).values(attempts=3))
    checks.check_next()
    failed = client.get(f"/models/{model_id}").json()
    assert (failed["status"], failed["error"]["code"], failed["error"]["user"]) == ("failed", "check_failed", False)


def add_job(sessions: sessionmaker[Session], model_id: str, status: JobStatus) -> str:
    job = Job(
        id=new_id("job"), tenant="default", status=status, model=model_id, dataset="d", memory_budget=1, config={},
        request_sha256="0" * 64, max_attempts=1, created_at=utc_now(),
    )  # fmt: skip
    with sessions.begin() as session:
        session.add(job)
    return job.id
