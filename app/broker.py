"""The broker that wakes workers: a Celery client that sends job ids and nothing else."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import KombuError

from app.settings import Settings

QUEUE = "qpruner"
RUN_JOB = "qpruner.run_job"
TRIALS_QUEUE = "qpruner.trials"
"""Apart from :data:`QUEUE`: what waits there says how many wake-ups lie unread."""
MEASURE_TRIALS = "qpruner.measure_trials"
_HELP_SECONDS = 60  # after which nobody needs to read that help was wanted
SOCKET_SECONDS = 1.0
_SOCKET_PATH_LIMIT = 100  # a Unix socket's address holds 108 bytes on Linux, 104 elsewhere


class BrokerUnavailableError(Exception):
    """The broker is unreachable. Nothing is lost: the database owns the jobs."""


class Broker:
    """Wakes workers and counts them; thread-safe. Every call ends within two seconds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._celery = create_celery(url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS)
        self._redis = redis.Redis.from_url(
            redis_url(url), socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS, retry=None
        )
        self._ping_lock = threading.Lock()

    def wake(self, job_id: str, headers: Mapping[str, str] | None = None) -> None:
        """Send one wake-up for ``job_id``, with ``headers``.

        Raises:
            BrokerUnavailableError: the broker is unreachable.
        """
        self.check()  # otherwise the publisher's own retries would outlast the caller's patience
        try:
            self._celery.send_task(RUN_JOB, args=[job_id], ignore_result=True, retry=False, headers=dict(headers or {}))
        except (redis.RedisError, KombuError, OSError) as error:
            raise BrokerUnavailableError(f"The broker rejected a wake-up: {error}") from error

    def ask_for_help(self, job_id: str, trials: int) -> None:
        """Send a message for each of ``trials`` of a job that idle workers may measure, less those that lie unread.

        Raises:
            BrokerUnavailableError: the broker is unreachable.
        """
        self.check()
        try:
            for _ in range(trials - int(self._redis.llen(TRIALS_QUEUE))):
                self._celery.send_task(
                    MEASURE_TRIALS, args=[job_id], queue=TRIALS_QUEUE, expires=_HELP_SECONDS, ignore_result=True,
                    retry=False,
                )  # fmt: skip
        except (redis.RedisError, KombuError, OSError) as error:
            raise BrokerUnavailableError(f"The broker rejected a message: {error}") from error

    def check(self) -> None:
        """Return if the broker responds. Raises :class:`BrokerUnavailableError` otherwise."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailableError(f"The broker is unreachable: {error}") from error

    def backlog(self) -> int:
        """Wake-ups that no worker has taken yet. Raises :class:`BrokerUnavailableError`."""
        try:
            return int(self._redis.llen(QUEUE))
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailableError(f"The broker is unreachable: {error}") from error

    def count_workers(self, timeout: float = 0.5) -> int:
        """Number of workers that respond within ``timeout`` seconds. Raises :class:`BrokerUnavailableError`."""
        self.check()
        try:  # on a separate connection: a pooled one may be older than the broker
            with self._ping_lock, self._celery.connection() as connection:
                return len(self._celery.control.ping(timeout=timeout, connection=connection))
        except (redis.RedisError, KombuError, OSError) as error:
            raise BrokerUnavailableError(f"The broker is unreachable: {error}") from error

    def close(self) -> None:
        """Close every connection."""
        self._celery.close()
        self._redis.close()


def open_broker(settings: Settings) -> Broker:
    """The broker of ``settings``."""
    return Broker(resolved_broker_url(settings))


def create_celery(url: str, **transport_options: Any) -> Celery:
    """The Celery application that clients and workers share: JSON only, no results, one queue."""
    celery = Celery("qpruner", broker=celery_url(url), set_as_current=False)
    celery.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        broker_transport_options=transport_options,
    )
    return celery


def resolved_broker_url(settings: Settings) -> str:
    """The effective URL of the broker: the configured one, else the socket of the Valkey that ``qpruner serve``
    starts."""
    return settings.broker_url or f"redis+socket://{embedded_socket(settings.data_dir)}"


def embedded_socket(data_dir: Path) -> Path:
    """Socket of the embedded Valkey of ``data_dir``; in a private temporary folder if the path is too long."""
    path = data_dir.resolve() / "run" / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"qpruner-{os.getuid()}" / f"{digest}.sock"


def celery_url(url: str) -> str:
    """``url`` in Celery's form."""
    return url.replace("unix://", "redis+socket://", 1) if url.startswith("unix://") else url


def redis_url(url: str) -> str:
    """``url`` in redis-py's form."""
    return url.replace("redis+socket://", "unix://", 1) if url.startswith("redis+socket://") else url
