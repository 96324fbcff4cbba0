"""The worker process: Celery receives wake-ups, and one supervisor thread acts on them.

Torch is never imported here: it lives in the child process of a job.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import worker_shutting_down
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from app.broker import QUEUE, TRIALS_QUEUE, create_celery, open_broker, resolved_broker_url
from app.database import create_database_engine, create_session_factory
from app.measured_database import DatabaseMetrics
from app.metrics_port import serving_metrics
from app.migrate import require_current_schema
from app.settings import Settings
from app.store import open_store
from app.store.measured import measure_store
from app.traces import open_traces
from qpruner_core.writable import require_writable
from worker.child_process import CHILD_COMMAND
from worker.job_run import Parts
from worker.supervisor import Supervisor
from worker.tasks import register_measure_trials, register_run_job
from worker.upload_checks import UploadChecks

_LOG = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 15.0


def create_worker(settings: Settings, supervisor: Supervisor) -> Celery:
    """The Celery application of a worker: one job at a time, early acknowledgement, no prefetch, no results."""
    celery = create_celery(resolved_broker_url(settings), health_check_interval=10, socket_keepalive=True)
    celery.conf.update(
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # otherwise a busy worker would hold a wake-up that an idle one could take
        task_acks_late=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
    )
    register_run_job(celery, supervisor)
    if settings.share_trials:
        register_measure_trials(celery, supervisor)
    return celery


def run_worker(settings: Settings, command: Sequence[str] = CHILD_COMMAND) -> int:
    """Work until SIGTERM or SIGINT, then give the running job back; returns the exit code.

    ``command``: starts the process of a job.

    Raises:
        OutputInvalidError, DiskFullError: the data folder, which holds the scratch space of jobs, cannot be written.
        SchemaMismatchError: the database's schema belongs to another release.
        InvalidStoreUrlError, SigningKeyError, ExtraMissingError: a setting is invalid.
        PortInUseError: another program listens on the port of the worker's metrics.
    """
    require_writable(settings.data_dir.resolve(), "data_dir")
    engine = create_database_engine(settings.resolved_database_url)
    with suppress(OperationalError):  # the worker waits for an unreachable database
        require_current_schema(engine)
    registry = CollectorRegistry()
    DatabaseMetrics(registry).watch(engine)
    store = open_store(settings, engine)
    measure_store(store, settings, registry)
    with (
        closing(open_traces(settings, "qpruner-worker")) as traces,
        serving_metrics(settings, registry, "worker_metrics_port"),
    ):
        broker = open_broker(settings) if settings.share_trials else None
        parts = Parts(settings, create_session_factory(engine), store, command, traces=traces, broker=broker)
        return _work(settings, Supervisor(parts), UploadChecks(settings, parts.sessions, store))


def _work(settings: Settings, supervisor: Supervisor, checks: UploadChecks) -> int:
    supervisor.sweep()
    checks.start()
    celery = create_worker(settings, supervisor)
    warnings.filterwarnings(
        "ignore", category=SecurityWarning
    )  # Celery warns about root with pickle, which is never accepted

    told_to_stop = threading.Event()

    def shut_down(**_: Any) -> None:
        told_to_stop.set()
        supervisor.stop()
        checks.stop()
        _exit_later()

    worker_shutting_down.connect(shut_down, weak=False)
    worker = celery.Worker(
        hostname=f"qpruner-{os.getpid()}@{socket.gethostname()}", loglevel=settings.log_level, quiet=True,
        without_mingle=True, without_gossip=True, without_heartbeat=True,
        queues=[QUEUE, TRIALS_QUEUE] if settings.share_trials else None,
    )  # fmt: skip
    worker.start()
    return 0 if told_to_stop.is_set() else int(worker.exitcode or 0)  # Celery reports a Ctrl-C as a failure


def _exit_later() -> None:
    """End the process even if a part of it hangs: the job's lease then expires."""

    def exit_now() -> None:
        _LOG.error("Still running %.0f s after the request to stop: exiting", _SHUTDOWN_SECONDS)
        os._exit(1)

    timer = threading.Timer(_SHUTDOWN_SECONDS, exit_now)
    timer.daemon = True
    timer.start()
