"""Readiness, figures, and the dispatcher that runs beside the API, with a real broker and a real worker."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.database import utc_now
from app.embedded import settings_environment
from app.jobs.history import append_event
from app.jobs.models import Job, StageResult
from app.main import create_app
from app.settings import Settings
from qpruner_core.config import CompressionConfig
from tests.app.conftest import BASE_URL
from tests.known_store import migrate
from tests.server_processes import start_server, wait_until
from tests.worker.installation import Valkey

pytestmark = pytest.mark.service


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Servers of a test, gone when it ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def valkey(tmp_path: Path, processes: ExitStack) -> Valkey:
    """A Valkey that is not started yet."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    made = Valkey(folder)
    processes.callback(made.stop)
    return made


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    """Settings of a service of the test's own."""
    made = Settings(data_dir=tmp_path / "data", broker_url=valkey.url, poll_seconds=0.05, resend_seconds=60)
    migrate(made)
    return made


def parts(client: TestClient) -> dict[str, bool]:
    answer = client.get("/readyz")
    body = answer.json()
    assert (answer.status_code == 200) is body["ready"] is all(part["ready"] for part in body["parts"].values())
    return {name: part["ready"] for name, part in body["parts"].items()}


def add_job(session: Session, job_id: str, status: str, tenant: str = "default") -> None:
    config = CompressionConfig(model="/models/tiny", dataset="/data/text.txt", memory_budget=1000)
    session.add(Job(
        id=job_id, tenant=tenant, status=status, model=config.model, dataset=config.dataset,
        memory_budget=1000, config=config.model_dump(mode="json"), request_sha256="", max_attempts=3,
        created_at=utc_now(),
    ))  # fmt: skip
    session.flush()
    append_event(session, job_id, "queued")


def test_ready_is_who_has_a_database_a_broker_a_store_and_a_worker(
    settings: Settings, valkey: Valkey, processes: ExitStack, tmp_path: Path
) -> None:
    app = create_app(settings)
    client = TestClient(app, base_url=BASE_URL)
    app.state.warm_up.start()
    assert wait_until(lambda: parts(client)["models"], seconds=60)  # what looking at models takes is loaded
    assert parts(client) == {"database": True, "broker": False, "store": True, "models": True, "workers": False}
    valkey.start()
    wanted = {"database": True, "broker": True, "store": True, "models": True, "workers": False}
    assert wait_until(lambda: parts(client) == wanted, seconds=10)
    worker = [sys.executable, "-m", "app.cli", "worker"]
    start_server(processes, worker, tmp_path / "worker.log", environment=settings_environment(settings))
    assert wait_until(lambda: all(parts(client).values()), seconds=30), (tmp_path / "worker.log").read_text()
    valkey.stop()
    assert wait_until(lambda: not parts(client)["broker"], seconds=10)
    assert client.get("/healthz").json() == {"status": "alive"}
    app.state.warm_up.stop()
    app.state.broker.close()


def test_a_job_that_was_submitted_while_the_broker_was_away_wakes_a_worker_once_it_is_back(
    settings: Settings, valkey: Valkey
) -> None:
    app = create_app(settings)
    with app.state.session_factory.begin() as session:
        add_job(session, "job_00000000000000000000000000", "failed")
    with TestClient(app, base_url=BASE_URL) as client:
        assert client.post("/jobs/job_00000000000000000000000000/retry").status_code == 202
        valkey.start()
        assert wait_until(lambda: app.state.broker.backlog() == 1, seconds=20)


def test_figures_come_from_the_database_survive_a_restart_and_name_no_tenant(settings: Settings) -> None:
    app = create_app(settings)
    with app.state.session_factory.begin() as session:
        for number, status in enumerate(["queued", "failed", "failed"]):
            job_id = f"job_0000000000000000000000000{number}"
            add_job(session, job_id, status, tenant="secret-tenant")
            session.add(StageResult(job_id=job_id, stage="prune", attempt=1, seconds=2.5, store_prefix="", files=[],
                                    summary={}, finished_at=utc_now()))  # fmt: skip
            session.add(StageResult(job_id=job_id, stage="score", attempt=1, seconds=4.0, store_prefix="", files=[],
                                    reused_from=job_id if number else None, summary={}, finished_at=utc_now(),
                                    ))  # fmt: skip
    client = TestClient(app, base_url=BASE_URL)
    client.get("/jobs/job_00000000000000000000000000")
    client.get("/no/such/path/1234")
    for figures in (
        client.get("/metrics").text,
        TestClient(create_app(settings), base_url=BASE_URL).get("/metrics").text,
    ):
        lines = set(figures.splitlines())
        assert {
            'qpruner_jobs{status="queued"} 1.0', 'qpruner_jobs{status="failed"} 2.0',
            'qpruner_jobs{status="running"} 0.0', 'qpruner_stage_seconds_count{stage="prune"} 3.0',
            'qpruner_stage_seconds_sum{stage="prune"} 7.5', 'qpruner_stage_seconds_sum{stage="score"} 4.0',
            'qpruner_stages_reused{stage="score"} 2.0',
            "qpruner_database_up 1.0",
        } <= lines  # fmt: skip
        (age,) = re.findall(r"^qpruner_oldest_queued_seconds (.*)$", figures, re.MULTILINE)
        assert 0 < float(age) < 300
        assert "secret-tenant" not in figures
    requests = client.get("/metrics").text
    assert 'qpruner_http_requests_total{method="GET",route="/jobs/{job_id}",status="404"} 1.0' in requests
    assert "1234" not in requests
