"""What a tenant has in the store is shown and limited, and goes when it has been kept long enough."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs.models import Artifact, Job, JobEvent, StageResult
from app.main import create_app
from app.settings import Settings
from app.storage.retention import Retention, days_of
from app.store import ArtifactStore, StoreUnavailableError
from tests.app.jobs.conftest import MakeJob, make_job

__all__ = ["make_job"]
Keep = Callable[..., str]


@pytest.fixture
def store(client: TestClient) -> ArtifactStore:
    made: ArtifactStore = client.app.state.store  # type: ignore[attr-defined]
    return made


@pytest.fixture
def keep(sessions: sessionmaker[Session], store: ArtifactStore, make_job: MakeJob, tmp_path: Path) -> Keep:
    """A function that makes an ended job with an artifact of 7 bytes and a stage of 5."""

    def made(days: float, *, tenant: str = "default", status: str = "succeeded") -> str:
        job_id = make_job(status, tenant=tenant, finished_at=utc_now() - timedelta(days=days))  # type: ignore[arg-type]
        for name, content in {"t/artifacts/model.gguf": b"content", "t/stages/prune/data.bin": b"stage"}.items():
            (tmp_path / "file").write_bytes(content)
            store.put_file(f"jobs/{job_id}/{name}", tmp_path / "file")
        with sessions.begin() as session:
            session.add(
                Artifact(
                    job_id=job_id, name="model.gguf", key=f"jobs/{job_id}/t/artifacts/model.gguf", bytes=7, sha256="",
                    format="gguf", created_at=utc_now(),
                )
            )  # fmt: skip
            session.add(
                StageResult(
                    job_id=job_id, stage="prune", attempt=1, seconds=1.0, store_prefix=f"jobs/{job_id}/t/stages/prune/",
                    files=[{"path": "data.bin", "bytes": 5, "sha256": ""}], summary={}, finished_at=utc_now(),
                )
            )  # fmt: skip
        return job_id

    return made


def left(sessions: sessionmaker[Session], store: ArtifactStore, job_id: str) -> set[str]:
    """What there still is of a job, in rows and in the store alike."""
    with sessions() as session:
        found = {
            "artifact": session.scalar(select(Artifact.name).where(Artifact.job_id == job_id)) is not None,
            "stage": session.scalar(select(StageResult.store_prefix).where(StageResult.job_id == job_id)) != "",
            "events": session.scalar(select(JobEvent.id).where(JobEvent.job_id == job_id).limit(1)) is not None,
        }
    assert store.holds(f"jobs/{job_id}/t/artifacts/model.gguf") == found["artifact"]
    assert store.holds(f"jobs/{job_id}/t/stages/prune/data.bin") == found["stage"]
    return {name for name, there in found.items() if there}


def test_what_was_kept_long_enough_goes_and_nothing_else(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep
) -> None:
    old, young, others, running = keep(31), keep(29), keep(31, tenant="research"), keep(31, status="failed")
    with sessions.begin() as session:
        session.get_one(Job, running).status = "queued"  # retried just now
    chosen = {
        "keep_artifacts_days": {"": 30, "research": 90},
        "keep_stages_days": {"": 10},
        "keep_events_days": {"": 40},
    }
    retention = Retention(sessions, store, settings.model_copy(update=chosen))
    assert retention.expire() == 4
    assert left(sessions, store, old) == {"events"}
    assert left(sessions, store, young) == {"artifact", "events"}
    assert left(sessions, store, others) == {"artifact", "events"}
    assert left(sessions, store, running) == {"artifact", "stage", "events"}
    assert retention.expire() == 0
    Retention(sessions, store, settings.model_copy(update={"keep_events_days": {"research": 0}})).expire()
    assert left(sessions, store, others) == {"artifact"}


def test_a_store_that_is_away_keeps_its_rows(
    sessions: sessionmaker[Session], store: ArtifactStore, settings: Settings, keep: Keep, tmp_path: Path
) -> None:
    job_id = keep(31)
    (settings.data_dir / "store").rename(tmp_path / "away")
    retention = Retention(sessions, store, settings.model_copy(update={"keep_artifacts_days": {"": 30}}))
    with pytest.raises(StoreUnavailableError):
        retention.expire()
    (tmp_path / "away").rename(settings.data_dir / "store")
    assert left(sessions, store, job_id) == {"artifact", "stage", "events"}
    retention.start()
    retention.stop()


def test_storage_is_shown_by_tenant_and_a_deletion_says_what_it_freed(
    client: TestClient, keep: Keep, settings: Settings
) -> None:
    job_id = keep(1)
    keep(1, tenant="another")
    sent = client.post("/datasets", files={"file": ("a.txt", b"Some words. " * 300)}).json()
    shown = client.get("/storage").json()
    assert (shown["artifacts_bytes"], shown["stages_bytes"], shown["datasets_bytes"]) == (7, 5, sent["bytes"])
    assert (shown["total_bytes"], shown["limit_bytes"]) == (12 + sent["bytes"], None)
    assert shown["keep_artifacts_days"] is None
    assert client.delete(f"/jobs/{job_id}").headers["x-freed-bytes"] == "12"
    assert client.delete(f"/datasets/{sent['id']}").headers["x-freed-bytes"] == str(sent["bytes"])
    assert client.get("/storage").json()["total_bytes"] == 0


def test_a_tenant_stores_no_more_than_it_may(settings: Settings, keep: Keep, sources: Path) -> None:
    keep(1)
    limited = settings.model_copy(update={"max_storage_bytes": 4000})
    client = TestClient(create_app(limited), base_url="http://127.0.0.1")
    for size, status in ((3000, 201), (3000, 403), (900, 201)):
        answer = client.post("/datasets", files={"file": ("a.txt", b"Words of text. " * (size // 15))})
        assert answer.status_code == status, answer.text
    assert client.post("/datasets", files={"file": ("a.txt", b"Words of text. " * 20)}).json()["code"] == "storage_full"
    keep(1)
    for _ in range(10):
        keep(1)
    body = {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": "400kB", "sequence_length": 32,
    }  # fmt: skip
    assert client.post("/jobs", json=body).json()["code"] == "storage_full"
    assert "GET /storage" in client.post("/jobs", json=body).json()["remedy"]


def test_days_are_for_all_tenants_and_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_KEEP_ARTIFACTS_DAYS", "30 research=90, web=0")
    days = Settings(_env_file=None).keep_artifacts_days
    assert [days_of(days, tenant) for tenant in ("any", "research", "web")] == [30, 90, 0]
    monkeypatch.setenv("QPRUNER_KEEP_ARTIFACTS_DAYS", "research=90")
    assert days_of(Settings(_env_file=None).keep_artifacts_days, "any") is None
    for wrong in ("soon", "x=", "=3", "-1", "research=1.5"):
        monkeypatch.setenv("QPRUNER_KEEP_ARTIFACTS_DAYS", wrong)
        with pytest.raises(ValueError, match="Give one for all tenants"):
            Settings(_env_file=None)
