"""``qpruner serve``: everything comes up with one command and goes with it, however it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.database import create_database_engine, create_session_factory
from app.embedded import settings_environment
from app.jobs.models import Job
from app.settings import Settings
from tests.server_processes import free_port, start_server, wait_until
from tests.tiny_model import build_tiny_llama, write_text_dataset
from tests.worker.installation import queue_job

pytestmark = pytest.mark.service


class Service:
    """A ``qpruner serve`` of the test's own."""

    def __init__(self, root: Path, processes: ExitStack, port: int) -> None:
        self.settings = Settings(
            _env_file=None, data_dir=root / "data", allowed_roots=(Path("/"),), port=port, lease_seconds=3.0,
            resend_seconds=1.0, poll_seconds=0.1, worker_threads=1,
        )  # fmt: skip
        self.log = root / "serve.log"
        self.url = f"http://127.0.0.1:{port}"
        self._processes = processes
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = settings_environment(self.settings) | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "app.cli", "serve", *arguments]
        self.process = start_server(self._processes, command, self.log, environment=environment)
        assert wait_until(lambda: "is ready" in self.log.read_text() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()
        return self.process

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").json()["ready"] is True
        except (httpx.HTTPError, ValueError):
            return False

    def parts(self) -> dict[str, psutil.Process]:
        """Processes of the service but itself, by what they are."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {_role(process): process for process in found}

    def submit(self, config: dict[str, Any]) -> str:
        with self.sessions() as sessions:
            return queue_job(sessions, config)

    def job(self, job_id: str) -> Job:
        with self.sessions() as sessions, sessions() as session:
            return session.get_one(Job, job_id)

    @contextmanager
    def sessions(self) -> Iterator[sessionmaker[Session]]:
        engine = create_database_engine(self.settings.resolved_database_url)
        yield create_session_factory(engine)
        engine.dispose()


def _role(process: psutil.Process) -> str:
    try:
        arguments = process.cmdline()
    except psutil.NoSuchProcess:
        return "gone"
    return "valkey" if arguments and "valkey-server" in arguments[0] else " ".join(arguments[-1:])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with ExitStack() as processes:
        yield Service(tmp_path, processes, free_port())


def test_it_starts_all_parts_replaces_those_that_die_and_ctrl_c_ends_all_of_them(service: Service) -> None:
    process = service.start()
    assert wait_until(service.ready, 60)
    before = service.parts()
    assert before.keys() == {"valkey", "worker"}
    for part in before.values():
        part.kill()
    assert wait_until(lambda: service.parts().keys() == {"valkey", "worker"} and service.ready(), 60)
    parts = service.parts()
    assert all(parts[name].pid != part.pid for name, part in before.items())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not any(part.is_running() for part in parts.values())
    said = service.log.read_text()
    assert f"{service.url}/docs" in said
    assert "Stopped." in said
    assert not (service.settings.data_dir / "run" / "valkey.sock").exists()


def test_without_a_worker_its_documentation_answers_and_a_second_one_on_its_data_is_refused(service: Service) -> None:
    service.start("--no-worker")
    assert httpx.get(f"{service.url}/docs").status_code == 200
    assert service.parts().keys() == {"valkey"}
    result = _serve(service, "--port", "0")
    assert result.returncode == 2
    assert "already_running" in result.stderr
    assert "QPRUNER_DATA_DIR" in result.stderr


def test_killed_it_takes_everything_with_it_and_starts_again(service: Service, tiny_sources: dict[str, Any]) -> None:
    process = service.start()
    job_id = service.submit(tiny_sources)
    assert wait_until(lambda: "worker.child" in service.parts(), 60)
    parts = service.parts()
    process.kill()
    process.wait()
    assert wait_until(lambda: not any(part.is_running() for part in parts.values()), 20)
    service.start()
    assert wait_until(lambda: service.job(job_id).status == "running", 60)


def test_a_worker_killed_in_a_job_is_replaced_without_waiting_for_its_lease_and_a_stop_gives_the_job_back(
    service: Service, tiny_sources: dict[str, Any]
) -> None:
    service.settings = service.settings.model_copy(update={"lease_seconds": 600.0})
    process = service.start()
    job_id = service.submit(tiny_sources)
    assert wait_until(lambda: "worker.child" in service.parts(), 60)
    service.parts()["worker"].kill()
    assert wait_until(lambda: service.job(job_id).attempt == 2, 60)
    assert wait_until(lambda: "worker.child" in service.parts(), 60)
    parts = service.parts()
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert not any(part.is_running() for part in parts.values())
    job = service.job(job_id)
    assert (job.status, job.attempt, job.lease_token) == ("queued", 1, None)


def test_a_port_in_use_is_told_before_anything_starts(service: Service) -> None:
    with socket.create_server(("127.0.0.1", service.settings.port)):
        result = _serve(service)
    assert result.returncode == 2
    assert "port_in_use" in result.stderr
    assert "--port" in result.stderr
    assert not (service.settings.data_dir / "qpruner.db").exists()


def test_another_address_than_loopback_is_refused_without_a_key(service: Service) -> None:
    result = _serve(service, "--host", "0.0.0.0", "--port", "0")
    assert result.returncode == 2
    assert "unsafe_binding" in result.stderr


def test_a_malformed_setting_is_named(service: Service) -> None:
    result = _serve(service, QPRUNER_LEASE_SECONDS="soon")
    assert result.returncode == 2
    assert "QPRUNER_LEASE_SECONDS" in result.stderr


def _serve(service: Service, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = settings_environment(service.settings) | environment
    command = [sys.executable, "-m", "app.cli", "serve", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def tiny_sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job that is long enough to be interrupted."""
    root = tmp_path_factory.mktemp("sources")
    build_tiny_llama(root / "model", train_steps=0)
    write_text_dataset(root / "prose.txt")
    return {
        "model": str(root / "model"), "dataset": str(root / "prose.txt"),
        "target": "bitsandbytes", "memory_budget": "400kB",
        "sequence_length": 32, "finetune": {"steps": 2000},
    }  # fmt: skip
