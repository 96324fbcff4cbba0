"""A whole installation for tests: database, store, Valkey, dispatcher, and worker processes to be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.broker import Broker
from app.database import create_database_engine, create_session_factory, utc_now
from app.embedded import settings_environment
from app.ids import new_id
from app.jobs.dispatcher import Dispatcher
from app.jobs.models import Artifact, Dispatch, Job, JobEvent, StageResult
from app.settings import Settings
from app.store import ArtifactStore, open_store
from qpruner_core.config import parse_config
from tests.known_store import migrate
from tests.server_processes import start_server, wait_until
from tests.valkey import Valkey, run_valkey

TINY: dict[str, Any] = {
    "target": "bitsandbytes", "memory_budget": "300kB", "sequence_length": 32, "prune": {"calibration_sequences": 16},
    "allocate": {"trials": 8}, "finetune": {"steps": 12, "warmup_steps": 2},
    "evaluate": {"max_tokens": 256, "generated_tokens": 2},
}  # fmt: skip


class Installation:
    """What one test works on; every process of it is gone when the test is."""

    def __init__(self, settings: Settings, valkey: Valkey, processes: ExitStack) -> None:
        self.settings = settings
        self.valkey = valkey
        self.engine = create_database_engine(settings.resolved_database_url)
        self.sessions = create_session_factory(self.engine)
        self.store: ArtifactStore = open_store(settings, self.engine)
        self.store.check()
        self._processes = processes
        self._workers = 0

    def submit(self, config: dict[str, Any], *, max_attempts: int = 3, tenant: str = "default") -> str:
        return queue_job(self.sessions, config, max_attempts, tenant)

    def requeue(self, job_id: str) -> None:
        """What ``POST /jobs/{id}/retry`` does."""
        with self.sessions.begin() as session:
            job = session.get_one(Job, job_id)
            job.status, job.cancel_requested_at, job.finished_at, job.attempt = "queued", None, None, 0
            session.add(Dispatch(job_id=job_id, due_at=utc_now()))

    def ask_to_cancel(self, job_id: str) -> None:
        with self.sessions.begin() as session:
            session.get_one(Job, job_id).cancel_requested_at = utc_now()

    def job(self, job_id: str) -> Job:
        with self.sessions() as session:
            return session.get_one(Job, job_id)

    def events(self, job_id: str, type: str | None = None) -> list[JobEvent]:
        query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        with self.sessions() as session:
            return list(session.scalars(query if type is None else query.where(JobEvent.type == type)))

    def stages_started(self, job_id: str) -> list[str]:
        return [event.data["stage"] for event in self.events(job_id, "stage_started")]

    def stored_stages(self, job_id: str) -> set[str]:
        with self.sessions() as session:
            return set(session.scalars(select(StageResult.stage).where(StageResult.job_id == job_id)))

    def reused(self, job_id: str) -> dict[str, str]:
        """The job that each stage was taken from, where it was another."""
        with self.sessions() as session:
            rows = session.scalars(select(StageResult).where(StageResult.job_id == job_id)).all()
        return {row.stage: row.reused_from for row in rows if row.reused_from is not None}

    def place_of(self, job_id: str, stage: str) -> str:
        """Prefix of the store below which the files of a finished stage lie."""
        with self.sessions() as session:
            return session.get_one(StageResult, (job_id, stage)).store_prefix

    def stored_files(self, job_id: str) -> set[str]:
        """Keys of the job's objects in a local store."""
        root = self.settings.data_dir / "store"
        return {path.relative_to(root).as_posix() for path in (root / "jobs" / job_id).rglob("*") if path.is_file()}

    def recorded_files(self, job_id: str) -> set[str]:
        """Keys that the job's rows name."""
        with self.sessions() as session:
            stages = session.scalars(select(StageResult).where(StageResult.job_id == job_id)).all()
            artifacts = set(session.scalars(select(Artifact.key).where(Artifact.job_id == job_id)))
        names = {result.store_prefix: [*(file["path"] for file in result.files), "stage.json"] for result in stages}
        return artifacts | {prefix + name for prefix, paths in names.items() if prefix for name in paths}

    def artifacts(self, job_id: str) -> dict[str, str]:
        """SHA-256 by name."""
        with self.sessions() as session:
            rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id)).all()
        return {row.name: row.sha256 for row in rows}

    def wait_for(self, job_id: str, *statuses: str, seconds: float = 120) -> Job:
        assert wait_until(lambda: self.job(job_id).status in statuses, seconds), self.describe(job_id)
        return self.job(job_id)

    def wait_for_stage(self, job_id: str, stage: str, *, again: bool = False, seconds: float = 120) -> None:
        """Wait until ``stage`` has begun; ``again``: once more, from now on."""
        started = select(func.max(JobEvent.id)).where(
            JobEvent.job_id == job_id, JobEvent.type == "stage_started", JobEvent.data["stage"].as_string() == stage
        )

        def last_start() -> int:
            with self.engine.execution_options(read_only=True).connect() as connection:
                return connection.scalar(started) or 0

        seen = last_start() if again else 0
        # Stages of a tiny model are short, and this one must be hit
        assert wait_until(lambda: last_start() > seen, seconds, every=0.02), self.describe(job_id)

    def wait_for_log(self, text: str) -> None:
        """Wait until a worker has written ``text``."""
        assert wait_until(lambda: any(text in log.read_text() for log in self._logs())), text

    def _logs(self) -> list[Path]:
        return sorted(self.settings.data_dir.parent.glob("worker-*.log"))

    def describe(self, job_id: str) -> str:
        job = self.job(job_id)
        history = "\n".join(f"{event.type} {event.data}" for event in self.events(job_id)[-15:])
        logs = "\n".join(log.read_text()[-3000:] for log in self._logs())
        return f"{job.status} in {job.stage}, error {job.error}\n{history}\n{logs}"

    def start_worker(self, **overrides: str) -> subprocess.Popen[bytes]:
        self._workers += 1
        log = self.settings.data_dir.parent / f"worker-{self._workers}.log"
        environment = settings_environment(self.settings) | {"OMP_NUM_THREADS": "1"} | overrides
        return start_server(self._processes, [sys.executable, "-m", "app.cli", "worker"], log, environment=environment)


def queue_job(
    sessions: sessionmaker[Session], config: dict[str, Any], max_attempts: int = 3, tenant: str = "default"
) -> str:
    """What ``POST /jobs`` does once it has checked the request."""
    parsed = parse_config(config)
    job_id = new_id("job")
    with sessions.begin() as session:
        session.add(
            Job(
                id=job_id, tenant=tenant, model=parsed.model, dataset=parsed.dataset,
                memory_budget=parsed.memory_budget, config=parsed.model_dump(mode="json"), request_sha256="",
                max_attempts=max_attempts, created_at=utc_now(),
            )
        )  # fmt: skip
        session.flush()
        session.add(Dispatch(job_id=job_id, due_at=utc_now()))
    return job_id


@contextmanager
def run_installation(root: Path, settings: dict[str, Any], *, dispatching: bool = True) -> Iterator[Installation]:
    """An installation below ``root`` on a Valkey of its own; SQLite and a local folder unless ``settings`` differ."""
    chosen = {
        "data_dir": root / "data", "allowed_roots": (root.anchor,), "lease_seconds": 3.0, "resend_seconds": 1.0,
        "poll_seconds": 0.1, "worker_threads": 1, "signing_key": "k" * 40,
    } | settings  # fmt: skip
    with ExitStack() as processes:
        valkey = processes.enter_context(run_valkey())
        made = Settings(_env_file=None, broker_url=valkey.url, **chosen)
        migrate(made)
        installation = Installation(made, valkey, processes)
        processes.callback(installation.engine.dispose)
        if not dispatching:
            yield installation
            return
        broker = Broker(valkey.url)
        processes.callback(broker.close)
        dispatcher = Dispatcher(installation.sessions, broker, made)
        processes.callback(dispatcher.stop)
        dispatcher.start()
        yield installation


def kill(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal a worker and wait for its end."""
    process.send_signal(number)
    process.wait(30)


def children_of(settings: Settings) -> list[int]:
    """Processes of jobs of this installation that are alive, told by the temporary folder they were given."""
    mark = f"TMPDIR={settings.data_dir.resolve()}".encode()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has(entry, mark)]


def _has(entry: Path, mark: bytes) -> bool:
    try:
        return mark in (entry / "environ").read_bytes()
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Fail unless ``condition`` becomes true."""
    assert wait_until(condition, seconds)
