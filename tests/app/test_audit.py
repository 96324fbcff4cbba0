"""Who changed what is written with the change, stays when the changed thing goes, and can be exported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner

from app.audit.models import AuditEntry
from app.cli import app
from app.keys.models import ApiKey
from tests.app.jobs.conftest import MakeJob, make_job

__all__ = ["make_job"]
RUN = CliRunner()


@pytest.fixture
def written(sessions: sessionmaker[Session]) -> Callable[[], list[tuple[str, str, str, str]]]:
    """A function that reads tenant, actor, action and target of every entry."""

    def read() -> list[tuple[str, str, str, str]]:
        with sessions() as session:
            rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
            return [(row.tenant, row.actor, row.action, row.target) for row in rows]

    return read


def test_every_change_is_written_with_its_key_and_stays(
    client: TestClient, sessions: sessionmaker[Session], make_job: MakeJob,
    authorize: Callable[..., dict[str, str]], written: Callable[[], list[Any]], sources: Path,
) -> None:  # fmt: skip
    key = authorize("acme", "submit")
    with sessions() as session:
        key_id = session.scalars(select(ApiKey.id)).one()
    body = {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": "400kB", "sequence_length": 32,
    }  # fmt: skip
    twice = key | {"Idempotency-Key": "once"}
    submitted = client.post("/jobs", json=body, headers=twice).json()["id"]
    assert client.post("/jobs", json=body, headers=twice).status_code == 200  # which changes nothing
    dataset = client.post("/datasets", files={"file": ("a.txt", b"Some words. " * 300)}, headers=key).json()["id"]
    client.get("/jobs", headers=key)
    assert client.post(f"/jobs/{submitted}/cancel", headers=key).status_code == 200
    assert client.post(f"/jobs/{submitted}/retry", headers=key).status_code == 202
    assert client.delete(f"/jobs/{submitted}", headers=key).status_code == 409
    assert client.post(f"/jobs/{submitted}/cancel", headers=key).status_code == 200
    assert client.delete(f"/jobs/{submitted}", headers=key).status_code == 204
    assert client.delete(f"/datasets/{dataset}", headers=key).status_code == 204
    assert [entry[2:] for entry in written()] == [
        ("job.submit", submitted), ("dataset.upload", dataset), ("job.cancel", submitted), ("job.retry", submitted),
        ("job.cancel", submitted), ("job.delete", submitted), ("dataset.delete", dataset),
    ]  # fmt: skip
    assert {entry[:2] for entry in written()} == {("acme", key_id)}
    with sessions() as session:
        entry = session.scalars(select(AuditEntry)).first()
    assert entry is not None
    assert (entry.request_id or "").startswith("req_")
    assert entry.address == "testclient"


def test_changes_of_webhooks_and_reading_a_secret_are_written(
    client: TestClient, authorize: Callable[..., dict[str, str]], written: Callable[[], list[Any]]
) -> None:
    key, other = authorize("acme", "submit"), authorize("other", "submit")
    made = client.post("/webhooks", json={"url": "https://tool.example/"}, headers=key).json()["id"]
    path = f"/webhooks/{made}"
    assert client.post("/webhooks", json={"url": "http://10.0.0.1/"}, headers=key).status_code == 422
    for headers, status in ((other, 404), (key, 200)):
        assert client.get(f"{path}/secret", headers=headers).status_code == status
        assert client.post(f"{path}/secret/rotate", headers=headers).status_code == status
        assert client.patch(path, json={"enabled": False}, headers=headers).status_code == status
        assert client.delete(path, headers=headers).status_code == (204 if status == 200 else status)
    client.get("/webhooks", headers=key)
    actions = ("create", "secret", "rotate", "change", "delete")
    assert [(entry[0], *entry[2:]) for entry in written()] == [("acme", f"webhook.{one}", made) for one in actions]


def test_without_keys_the_actor_is_local_and_a_change_that_fails_leaves_no_entry(
    client: TestClient, make_job: MakeJob, written: Callable[[], list[Any]], tmp_path: Path
) -> None:
    job_id = make_job("failed")
    state = client.app.state  # type: ignore[attr-defined]
    state.store.check()
    folder = state.settings.data_dir / "store"
    folder.rename(tmp_path / "away")
    assert client.delete(f"/jobs/{job_id}").status_code == 503
    assert written() == []
    (tmp_path / "away").rename(folder)
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert written() == [("default", "local", "job.delete", job_id)]


def test_an_operators_commands_are_written_and_all_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QPRUNER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LOGNAME", "ada")
    made = json.loads(RUN.invoke(app, ["keys", "create", "--name", "ci", "--tenant", "acme", "--json"]).output)
    assert RUN.invoke(app, ["keys", "revoke", made["id"]]).exit_code == 0
    assert RUN.invoke(app, ["store", "adopt", "--create"]).exit_code == 0
    lines = [json.loads(line) for line in RUN.invoke(app, ["audit"]).output.splitlines()]
    assert [(line["tenant"], line["actor"], line["action"]) for line in lines] == [
        ("acme", "operator:ada", "key.create"), ("acme", "operator:ada", "key.revoke"),
        ("", "operator:ada", "store.adopt"),
    ]  # fmt: skip
    assert lines[0]["target"] == made["id"]
    assert made["key"] not in str(lines)
    table = list(csv.DictReader(io.StringIO(RUN.invoke(app, ["audit", "--tenant", "acme", "--csv"]).output)))
    assert [row["action"] for row in table] == ["key.create", "key.revoke"]
    assert RUN.invoke(app, ["audit", "--since", "2999-01-01"]).output == ""
    assert RUN.invoke(app, ["audit", "--until", "2999-01-01"]).output.count("\n") == 3
